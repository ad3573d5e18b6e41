//! The content of an image or an update bundle: programs installed, kernel fetched, secrets made, nothing written.

use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::disk::layout::DiskLayout;
use krazy_boot::image::squashfs::SquashfsStats;

use crate::failure::{Exit, Explain, Result};
use crate::image::Composition;
use crate::image::disk::{self, DiskOptions};
use crate::kernel::source;
use crate::plan::Plan;
use crate::provision::{self, Secrets};
use crate::shell::Shell;
use crate::toolchain::Toolchain;
use crate::{config, install, interrupt};

/// The time in images unless `SOURCE_DATE_EPOCH` is set: 1980-01-01, the earliest that FAT can express.
const DEFAULT_EPOCH: u64 = 315_532_800;

/// Everything that an image or an update is made from.
pub(crate) struct Prepared {
    /// The files.
    pub(crate) composition: Composition,
    /// The appliance's secrets.
    pub(crate) secrets: Secrets,
    /// The time of everything, in seconds since 1970.
    pub(crate) epoch: u64,
    /// The directory of this program in cargo's target directory.
    pub(crate) directory: PathBuf,
    layout: DiskLayout,
    level: i32,
    /// Keeps other runs from changing the programs before they have been read.
    _held: install::Held,
}

/// An environment variable with a wrong value.
#[derive(Debug, thiserror::Error)]
#[error("SOURCE_DATE_EPOCH is `{}`, not a number of seconds", .0.display())]
struct BadEpoch(std::ffi::OsString);

impl Explain for BadEpoch {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("set it to seconds since 1970-01-01, or unset it".to_owned())
    }
}

impl Prepared {
    /// Returns the options to write a disk with.
    pub(crate) fn options(&self) -> DiskOptions<'_> {
        DiskOptions {
            layout: &self.layout,
            disk: None,
            level: self.level,
            mtime: self.epoch,
            cache: &self.directory,
        }
    }

    /// Writes the root file system from the start of `out` on.
    pub(crate) fn write_root<W: Write + Seek>(&self, out: W) -> Result<SquashfsStats> {
        Ok(disk::write_root(out, &self.composition, &self.options())?)
    }

    /// Writes the initramfs, and returns `out` at its end.
    pub(crate) fn write_initramfs<W: Write>(&self, out: W) -> Result<W> {
        Ok(disk::write_initramfs(out, &self.composition)?)
    }
}

/// The identifiers of a disk and its file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskIds {
    /// Those of the appliance, the same at every build.
    Appliance,
    /// New ones and credentials of its own, for one disk: a machine with two disks of one appliance can tell them apart,
    /// and who has the disk learns nothing about other devices.
    Own,
}

/// Installs and fetches everything that `plan` needs.
pub(crate) fn prepare(plan: &Plan, ids: DiskIds, shell: Shell) -> Result<Prepared> {
    let appliance = &plan.appliance;
    let epoch = source_date_epoch()?;
    let directory = make_directory(plan)?;
    let package = appliance.manifest_path.parent().unwrap_or(Path::new("."));
    let toolchain = Toolchain::ready(appliance.board, package, &directory, shell, appliance.offline)?;
    let mut held = install::hold(appliance, shell)?;
    let installation = install::install_all(appliance, &toolchain, &mut held, shell)?;
    let installed = installation.bins.iter().map(|binary| binary.bin.clone()).collect();
    config::check_services(appliance, &installed)?;
    if let Some((warning, note)) = config::untabled(appliance, &installed) {
        shell.warn(warning);
        shell.note(note);
    }
    interrupt::check()?;

    let bundle = source::of_appliance(appliance, shell)?;
    let firmware = source::firmware_of_appliance(appliance, shell)?;
    interrupt::check()?;

    let mut secrets = provision::provision(&appliance.name, &provision::state_dir()?)?;
    if ids == DiskIds::Own {
        secrets = secrets.for_one_disk(&appliance.name)?;
    }
    let composition = Composition::new(appliance, &installation, &bundle, firmware.as_ref(), &secrets)?;
    if appliance.loader().is_some() && composition.loader.is_none() {
        let release = &bundle.release;
        shell.note(format!("the kernel {release} has no EFI stub: the disk starts from a BIOS only"));
    }
    let (layout, level) = (plan.layout, appliance.compression_level);
    Ok(Prepared { composition, secrets, layout, level, epoch, directory, _held: held })
}

/// Makes this program's directory in cargo's target directory.
pub(crate) fn make_directory(plan: &Plan) -> Result<PathBuf> {
    let directory = plan.appliance.target_directory.join("krazy");
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make the directory {}", directory.display()))?;
    Ok(directory)
}

/// `SOURCE_DATE_EPOCH` as reproducible-builds.org specifies it, or the default.
fn source_date_epoch() -> Result<u64, BadEpoch> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(DEFAULT_EPOCH) };
    let seconds = value.to_str().and_then(|text| text.parse().ok());
    seconds.ok_or(BadEpoch(value))
}
