//! Files of `/boot` besides kernel, initramfs and command line. On a PC, the UEFI loader. On a Raspberry Pi, firmware,
//! device trees, overlays and the settings of a slot.
//!
//! There, all names are flat. The firmware puts `os_prefix` before `overlay_prefix`, and neither need be a directory; it takes
//! a slot's overlays only if there is a `README` beside them.

use std::path::{Path, PathBuf};

use krazy_boot::boot::config_txt;
use krazy_boot::boot::uefi_loader::{self, Loader};
use krazy_boot::disk::slot::{Slot, boot_file};
use krazy_boot::image::fat32::BootFile;
use krazy_boot::image::tree::Content;

use crate::board::Boot;
use crate::config::{Appliance, DtSource, Origins, Overlay, PiSettings, did_you_mean};
use crate::failure::{Exit, Explain, Result};
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::firmware::BootFirmware;

/// `overlay_prefix`: what names of overlays begin with, after the slot's own prefix.
const OVERLAY_PREFIX: &str = "overlay-";

/// Files that the kernel lacks.
#[derive(Debug, thiserror::Error)]
enum BoardFilesError {
    #[error("the kernel {release} has no device tree of any Raspberry Pi")]
    NoDeviceTree { release: String },
}

impl Explain for BoardFilesError {
    fn exit(&self) -> Exit {
        match self {
            BoardFilesError::NoDeviceTree { .. } => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            BoardFilesError::NoDeviceTree { .. } => {
                "add its .dtb files to the kernel's bundle as dtbs/broadcom/…, or name them in `dtbs`"
                    .to_owned()
            }
        })
    }
}

/// Files of `/boot` that depend on the board.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoardFiles {
    /// Files every slot has a copy of, without the slot's prefix.
    pub(crate) of_slot: Vec<BootFile>,
    /// Files both slots share.
    pub(crate) shared: Vec<BootFile>,
}

/// The files for `appliance`, with `slot` the one that `config.txt` names.
pub(crate) fn board_files(
    appliance: &Appliance,
    kernel: &KernelBundle,
    firmware: Option<&BootFirmware>,
    loader: Option<&Loader>,
    slot: Slot,
) -> Result<BoardFiles> {
    let (Boot::RaspberryPi { dtbs, .. }, Some(firmware)) = (appliance.board.boot, firmware) else {
        return Ok(BoardFiles { of_slot: Vec::new(), shared: uefi_files(loader) });
    };
    let file = |name: String, path: PathBuf| BootFile { name, content: Content::File(path) };
    let text = |name: &str, text: Vec<u8>| BootFile { name: name.to_owned(), content: Content::Bytes(text) };

    let kernel_dtbs = kernel.dtbs_dir.as_deref();
    let mut of_slot =
        vec![text(config_txt::SLOT_FILE, slot_config(&appliance.pi, appliance.serial_console).into_bytes())];
    for path in dtbs {
        let name = path.rsplit('/').next().unwrap_or(path);
        // A kernel of one's own may be for one model only.
        if let Some(path) = kernel_dtbs.map(|dir| dir.join(path)).filter(|path| path.is_file()) {
            of_slot.push(file(name.to_owned(), path));
        }
    }
    for source in &appliance.pi.dtbs {
        let path = find(source, "dtbs", kernel_dtbs, None, &appliance.origins)?;
        of_slot.push(file(format!("{}.dtb", source.name()), path));
    }
    if !of_slot.iter().any(|file| file.name.ends_with(".dtb")) {
        return Err(BoardFilesError::NoDeviceTree { release: kernel.release.clone() }.into());
    }
    if !appliance.pi.overlays.is_empty() {
        of_slot.push(text(
            &format!("{OVERLAY_PREFIX}README"),
            b"The firmware takes a slot's overlays only if this file is there.\n".to_vec(),
        ));
    }
    for Overlay { source, .. } in &appliance.pi.overlays {
        let name = format!("{OVERLAY_PREFIX}{}.dtbo", source.name());
        // One overlay may be applied twice, with other parameters.
        if !of_slot.iter().any(|file| file.name == name) {
            of_slot.push(file(
                name,
                find(source, "dtoverlays", kernel_dtbs, Some(firmware), &appliance.origins)?,
            ));
        }
    }

    let mut shared = vec![text(config_txt::FILE, config_txt::encode(slot.into()).to_vec())];
    shared.extend(firmware.files()?.into_iter().map(|(name, path)| file(name, path)));
    Ok(BoardFiles { of_slot, shared })
}

/// The UEFI loader, if there is one, and its spare file.
fn uefi_files(loader: Option<&Loader>) -> Vec<BootFile> {
    let Some(loader) = loader else { return Vec::new() };
    let file = |name| BootFile {
        name: format!("{}/{name}", uefi_loader::DIRECTORY),
        content: Content::Bytes(loader.file()),
    };
    [loader.name, uefi_loader::SPARE].map(file).into()
}

/// The slot's own part of `config.txt`. It does not name the slot, so that one bundle serves both.
fn slot_config(settings: &PiSettings, serial_console: bool) -> String {
    let mut text = format!(
        "# Settings of this slot, made by cargo krazy. `config-txt` in Cargo.toml adds lines.\n\
         arm_64bit=1\nupstream_kernel=1\nkernel={}\ninitramfs {} followkernel\ncmdline={}\n\
         overlay_prefix={OVERLAY_PREFIX}\ndisable_splash=1\n",
        boot_file::KERNEL,
        boot_file::INITRAMFS,
        boot_file::CMDLINE
    );
    if serial_console {
        // Also holds the core clock still, from which the small UART takes its own.
        text.push_str("enable_uart=1\n");
    }
    for overlay in &settings.overlays {
        text.push_str(&overlay.config_line());
        text.push('\n');
    }
    if !settings.config_lines.is_empty() {
        for line in &settings.config_lines {
            text.push_str(line);
            text.push('\n');
        }
        // A filter of the user's ends with the file.
        text.push_str("[all]\n");
    }
    text
}

/// Returns the file of a device tree or overlay that `key`, `dtbs` or `dtoverlays`, names.
fn find(
    source: &DtSource,
    key: &str,
    dtbs: Option<&Path>,
    firmware: Option<&BootFirmware>,
    origins: &Origins,
) -> Result<PathBuf> {
    let name = match source {
        DtSource::File(path) => return Ok(path.clone()),
        DtSource::Named(name) => name,
    };
    let (kind, plural, ending) = match key {
        "dtoverlays" => ("an overlay", "overlays", "dtbo"),
        _ => ("a device tree", "device trees", "dtb"),
    };
    let mut known = Vec::new();
    if let Some(dir) = dtbs {
        collect(dir, &format!(".{ending}"), &mut known)?;
    }
    if let Some((_, path)) = known.iter().find(|(known, _)| known == name) {
        return Ok(path.clone());
    }
    if let Some(path) = firmware.and_then(|firmware| firmware.overlay(name)) {
        return Ok(path);
    }
    let mut names = firmware.map(BootFirmware::overlays).transpose()?.unwrap_or_default();
    names.extend(known.into_iter().map(|(name, _)| name));
    let suggestion = did_you_mean(name, plural, names.iter().map(String::as_str));
    let problem = format!("cannot be used: neither the kernel nor the firmware has {kind} `{name}`");
    let help = format!("{suggestion}; or give the path of a .{ending} file");
    Err(origins.invalid(&[key], problem).help(help).into())
}

/// Names without `ending`, and paths, of all files below `directory` that have it.
fn collect(directory: &Path, ending: &str, found: &mut Vec<(String, PathBuf)>) -> anyhow::Result<()> {
    for (name, path, metadata) in crate::files::sorted_entries(directory)? {
        if metadata.is_dir() {
            collect(&path, ending, found)?;
        } else if let Some(name) = name.strip_suffix(ending) {
            found.push((name.to_owned(), path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(name: &str, parameters: &str) -> Overlay {
        Overlay { source: DtSource::Named(name.to_owned()), parameters: parameters.to_owned() }
    }

    #[test]
    fn golden_config() {
        let plain = "# Settings of this slot, made by cargo krazy. `config-txt` in Cargo.toml adds lines.\n\
                     arm_64bit=1\nupstream_kernel=1\nkernel=vmlinuz\ninitramfs initramfs followkernel\n\
                     cmdline=cmdline.txt\noverlay_prefix=overlay-\ndisable_splash=1\n";
        let settings = PiSettings::default();
        assert_eq!(slot_config(&settings, false), plain);
        assert_eq!(slot_config(&settings, true), format!("{plain}enable_uart=1\n"));
        let settings = PiSettings {
            config_lines: vec!["[pi4]".to_owned(), "gpu_mem=16".to_owned()],
            overlays: vec![overlay("w1-gpio", ",gpiopin=4"), overlay("disable-bt", "")],
            dtbs: Vec::new(),
        };
        assert_eq!(
            slot_config(&settings, false),
            format!("{plain}dtoverlay=w1-gpio,gpiopin=4\ndtoverlay=disable-bt\n[pi4]\ngpu_mem=16\n[all]\n")
        );
    }
}
