//! The firmware a Raspberry Pi starts with: files for `/boot` from Debian's package `raspi-firmware`.
//!
//! | in the package | here |
//! |---|---|
//! | `usr/lib/raspi-firmware/X` | `boot/X` |
//! | `usr/lib/raspi-firmware/overlays/X.dtbo` | `overlays/X.dtbo` |
//! | `usr/share/doc/raspi-firmware/copyright` | `LICENCE` |
//!
//! The files are not free software: they may be redistributed unmodified with their licence, for use on a Raspberry
//! Pi. So the licence goes to `/boot` with them.

use std::path::{Component, Path, PathBuf};

use super::archive::{Archive, content};
use super::error::UnpackError;
use crate::failure::Result;
use crate::files::{io_failure, sorted_entries};

/// The name of the licence in the unpacked firmware.
const LICENCE: &str = "LICENCE";
/// Parts of names of firmware with debug output, which images do without.
const DEBUG: [&str; 2] = ["_db.", "4db."];

/// Firmware on this machine.
#[derive(Clone, Debug)]
pub(crate) struct BootFirmware {
    directory: PathBuf,
}

impl BootFirmware {
    /// Returns the names on `/boot` and the files of all firmware and its licence.
    pub(crate) fn files(&self) -> Result<Vec<(String, PathBuf)>> {
        let boot = sorted_entries(&self.directory.join("boot"))?;
        let mut files: Vec<_> = boot
            .into_iter()
            .filter(|(name, ..)| !DEBUG.iter().any(|part| name.contains(part)))
            .map(|(name, path, _)| (name, path))
            .collect();
        files.push(("LICENCE.broadcom".to_owned(), self.directory.join(LICENCE)));
        Ok(files)
    }

    /// The overlay called `name`, if the package has it.
    pub(crate) fn overlay(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.join("overlays").join(format!("{name}.dtbo"))).filter(|path| path.is_file())
    }

    /// Names of all overlays.
    pub(crate) fn overlays(&self) -> Result<Vec<String>> {
        let entries = sorted_entries(&self.directory.join("overlays"))?;
        Ok(entries
            .into_iter()
            .filter_map(|(name, ..)| Some(name.strip_suffix(".dtbo")?.to_owned()))
            .collect())
    }

    /// Returns the firmware in `directory`, if it is there.
    pub(crate) fn open(directory: &Path) -> Option<Self> {
        directory.is_dir().then(|| BootFirmware { directory: directory.to_owned() })
    }
}

/// Unpacks the firmware of `archive` into the existing, empty directory `into`.
pub(crate) fn unpack(archive: &Archive, into: &Path, origin: &str) -> Result<()> {
    for name in ["boot", "overlays"] {
        let directory = into.join(name);
        std::fs::create_dir(&directory).map_err(io_failure("create", &directory))?;
    }
    archive.visit(&mut |path, size, reader| {
        let Some(destination) = destination(path) else { return Ok(()) };
        let target = into.join(destination);
        std::fs::write(&target, content(path, size, reader)?).map_err(io_failure("write", &target))
    })?;
    for file in ["boot/bootcode.bin", "boot/start.elf", "boot/start4.elf", LICENCE] {
        if !into.join(file).is_file() {
            return Err(UnpackError::NoFirmware { origin: origin.to_owned(), file }.into());
        }
    }
    Ok(())
}

/// Returns the destination of a file of the package; most files, and paths that are not plain, have none.
fn destination(path: &str) -> Option<String> {
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    if path == "usr/share/doc/raspi-firmware/copyright" {
        return Some(LICENCE.to_owned());
    }
    let name = path.strip_prefix("usr/lib/raspi-firmware/")?;
    match name.strip_prefix("overlays/") {
        Some(overlay) => {
            (!overlay.contains('/') && overlay.ends_with(".dtbo")).then(|| format!("overlays/{overlay}"))
        }
        None => (!name.contains('/')).then(|| format!("boot/{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bundle::archive::testing::deb;

    fn unpacked(files: &[(&str, &[u8])]) -> Result<(tempfile::TempDir, BootFirmware)> {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("f.deb");
        std::fs::write(&package, deb(files)).unwrap();
        let into = directory.path().join("firmware");
        std::fs::create_dir(&into).unwrap();
        unpack(&Archive::open(&package)?, &into, "f.deb")?;
        Ok((directory, BootFirmware { directory: into }))
    }

    const FILES: [(&str, &[u8]); 7] = [
        ("./usr/lib/raspi-firmware/bootcode.bin", b"1"),
        ("./usr/lib/raspi-firmware/start.elf", b"2"),
        ("./usr/lib/raspi-firmware/start4.elf", b"3"),
        ("./usr/lib/raspi-firmware/start4db.elf", b"debug"),
        ("./usr/lib/raspi-firmware/overlays/pi4-spidev.dtbo", b"4"),
        ("./usr/share/doc/raspi-firmware/copyright", b"licence"),
        ("./etc/kernel/postinst.d/z50-raspi-firmware", b"not on an appliance"),
    ];

    #[test]
    fn package_gives_files_for_boot_and_their_licence() {
        let (_directory, firmware) = unpacked(&FILES).unwrap();
        let names: Vec<_> = firmware.files().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bootcode.bin", "start.elf", "start4.elf", "LICENCE.broadcom"]);
        assert_eq!(firmware.overlays().unwrap(), ["pi4-spidev"]);
        assert_eq!(std::fs::read(firmware.overlay("pi4-spidev").unwrap()).unwrap(), b"4");
        assert_eq!(firmware.overlay("nothing"), None);
    }

    #[test]
    fn package_of_something_else_is_refused() {
        assert_eq!(unpacked(&FILES[..5]).unwrap_err().to_string(), "f.deb has no LICENCE");
    }

    #[test]
    fn no_path_leaves_the_directory() {
        for path in
            ["usr/lib/raspi-firmware/../../x", "/usr/lib/raspi-firmware/x", "usr/lib/raspi-firmware/a/b"]
        {
            assert_eq!(destination(path), None, "{path}");
        }
    }
}
