//! The firmware of an emulated PC.
//!
//! QEMU's packages describe the UEFI builds that are installed in JSON files, in directories of which a file in a later one
//! is replaced by that of the same name in an earlier one. Source: QEMU `docs/interop/firmware.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::StartError;
use crate::board::Board;

/// `--firmware`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FirmwareKind {
    /// SeaBIOS, which starts the boot sector
    #[default]
    Bios,
    /// OVMF, which starts the UEFI loader
    Uefi,
}

/// The firmware of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// QEMU's own BIOS.
    Bios,
    /// A build of UEFI firmware.
    Uefi(Flash),
}

/// The two files in the flash memory of a PC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flash {
    /// The program.
    pub(crate) code: PathBuf,
    /// Empty variables. Every run begins with them: an appliance keeps nothing there.
    pub(crate) variables: PathBuf,
}

/// Directories of descriptions, the first of which counts most. The last ones are those of Homebrew.
const DIRECTORIES: [&str; 4] = [
    "/etc/qemu/firmware",
    "/usr/share/qemu/firmware",
    "/opt/homebrew/share/qemu/firmware",
    "/usr/local/share/qemu/firmware",
];

/// Features of builds that start signed programs only, or need more than a plain machine.
const UNWANTED: [&str; 4] = ["secure-boot", "requires-smm", "enrolled-keys", "amd-sev-es"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Description {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    executable: Option<FlashFile>,
    nvram_template: Option<FlashFile>,
}

#[derive(Debug, Deserialize)]
struct FlashFile {
    filename: PathBuf,
    format: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

impl FirmwareKind {
    /// Finds the files for the PC `board` emulates.
    pub(crate) fn find(self, board: &Board) -> Result<Firmware, StartError> {
        match self {
            FirmwareKind::Bios => Ok(Firmware::Bios),
            FirmwareKind::Uefi => {
                let architecture = board.qemu.trim_start_matches("qemu-system-");
                find(&DIRECTORIES.map(Path::new), architecture)
                    .map(Firmware::Uefi)
                    .ok_or(StartError::NoFirmware)
            }
        }
    }
}

/// Returns the first suitable build that is installed.
fn find(directories: &[&Path], architecture: &str) -> Option<Flash> {
    let mut descriptions = BTreeMap::new();
    for directory in directories.iter().rev() {
        // One that is missing or unreadable describes nothing.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            descriptions.insert(entry.file_name(), entry.path());
        }
    }
    descriptions.values().find_map(|path| {
        let description: Description = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        description.flash(architecture).filter(|flash| flash.code.is_file() && flash.variables.is_file())
    })
}

impl Description {
    /// Returns its files if it is for the machine that [`super::Machine`] is.
    fn flash(self, architecture: &str) -> Option<Flash> {
        let is_ours = |target: &Target| {
            target.architecture == architecture
                && target.machines.iter().any(|name| name.starts_with("pc-i440fx"))
        };
        let is_suitable = self.interface_types.iter().any(|kind| kind == "uefi")
            && self.mapping.device == "flash"
            && self.targets.iter().any(is_ours)
            && !self.features.iter().any(|feature| UNWANTED.contains(&feature.as_str()));
        let raw =
            |file: Option<FlashFile>| file.filter(|file| file.format == "raw").map(|file| file.filename);
        let (code, variables) = raw(self.mapping.executable).zip(raw(self.mapping.nvram_template))?;
        is_suitable.then_some(Flash { code, variables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(directory: &Path, name: &str, code: &Path, machine: &str, features: &[&str]) {
        let text = serde_json::json!({
            "description": "test", "interface-types": ["uefi"], "tags": [], "features": features,
            "mapping": {
                "device": "flash",
                "executable": { "filename": code, "format": "raw" },
                "nvram-template": { "filename": code.with_extension("vars"), "format": "raw" },
            },
            "targets": [{ "architecture": "x86_64", "machines": [machine] }],
        });
        std::fs::write(directory.join(name), text.to_string()).unwrap();
    }

    #[test]
    fn first_suitable_build_that_is_installed_is_found() {
        let [system, user] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let file = |name: &str| {
            let path = system.path().join(name);
            std::fs::write(path.with_extension("vars"), "").unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let found = || find(&[user.path(), system.path()], "x86_64").map(|flash| flash.code);
        assert_eq!(found(), None);
        let plain = file("plain.fd");
        describe(system.path(), "40.json", &file("secure.fd"), "pc-q35-*", &["secure-boot"]);
        describe(system.path(), "45.json", &file("q35.fd"), "pc-q35-*", &[]);
        describe(system.path(), "50.json", &system.path().join("missing.fd"), "pc-i440fx-*", &[]);
        describe(system.path(), "60.json", &plain, "pc-i440fx-*", &["acpi-s3", "amd-sev"]);
        std::fs::write(system.path().join("30.json"), "{").unwrap();
        assert_eq!(found(), Some(plain));
        let own = file("own.fd");
        describe(user.path(), "60.json", &own, "pc-i440fx-7.2", &[]);
        assert_eq!(found(), Some(own));
        assert_eq!(find(&[user.path()], "aarch64"), None);
    }
}
