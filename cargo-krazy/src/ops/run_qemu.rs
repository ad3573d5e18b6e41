//! An image booted in QEMU.

use std::path::PathBuf;

use krazy_boot::disk::size::Bytes;

use super::image::{self, Data};
use super::inspect::{self, Report};
use crate::board::Boot;
use crate::config::{self, Request};
use crate::failure::{Exit, Explain, Result};
use crate::interrupt;
use crate::plan::Plan;
use crate::qemu::{self, Accelerate, FirmwareKind, Machine, Model, Publish, StartError, Watch};
use crate::shell::Shell;

/// The least memory that holds kernel, initramfs and a few services.
const MINIMUM_MEMORY: Bytes = Bytes::mib(64);

/// An image and the machine to boot it in.
#[derive(Debug)]
pub(crate) struct RunRequest {
    /// The image.
    pub(crate) image: ImageChoice,
    /// The appliance, whose board the machine is.
    pub(crate) build: Request,
    /// The model, of a Raspberry Pi.
    pub(crate) model: Option<Model>,
    /// The firmware, of a PC.
    pub(crate) firmware: FirmwareKind,
    /// The guest's memory.
    pub(crate) memory: Bytes,
    /// The guest's processors.
    pub(crate) cpus: u32,
    /// Hardware virtualisation or emulation.
    pub(crate) accelerate: Accelerate,
    /// Forwarded ports.
    pub(crate) publish: Vec<Publish>,
    /// Set when the guest's writes to the disk are dropped at the end.
    pub(crate) snapshot: bool,
    /// Further arguments for QEMU.
    pub(crate) extra: Vec<std::ffi::OsString>,
    /// The text and the time that end the run.
    pub(crate) watch: Watch,
}

/// The image to boot.
#[derive(Debug)]
pub(crate) enum ImageChoice {
    /// A file.
    File(PathBuf),
    /// That of the appliance, built before.
    Build,
    /// That of the appliance as it is.
    Existing,
}

/// A run that cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("a memory of {0} is too small")]
    LittleMemory(Bytes),
    #[error("`--machine` chooses a Raspberry Pi, and the board is {0}")]
    NotAPi(&'static str),
    #[error("`--firmware` chooses that of a PC, and the board is {0}")]
    NotAPc(&'static str),
    #[error("there is no image `{}`", .0.display())]
    NoImage(PathBuf),
}

impl Explain for RunError {
    fn exit(&self) -> Exit {
        match self {
            RunError::LittleMemory(_) | RunError::NotAPi(_) | RunError::NotAPc(_) => Exit::Usage,
            RunError::NoImage(_) => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            RunError::LittleMemory(_) => format!("give `--memory` at least {MINIMUM_MEMORY}"),
            RunError::NotAPi(_) => "add `--target aarch64-rpi`".to_owned(),
            RunError::NotAPc(_) => {
                "leave it out: QEMU emulates what the board's own firmware does".to_owned()
            }
            RunError::NoImage(_) => "`cargo krazy image` makes it".to_owned(),
        })
    }
}

/// Boots an image, after building it if requested, until the machine powers off or the watch ends it.
pub(crate) fn run(request: RunRequest, shell: Shell) -> Result<()> {
    let board = request.build.board;
    if request.memory < MINIMUM_MEMORY {
        return Err(RunError::LittleMemory(request.memory).into());
    }
    if request.model.is_some() && !matches!(board.boot, Boot::RaspberryPi { .. }) {
        return Err(RunError::NotAPi(board.name).into());
    }
    if request.firmware != FirmwareKind::Bios && !matches!(board.boot, Boot::Pc { .. }) {
        return Err(RunError::NotAPc(board.name).into());
    }
    // Before anything is built.
    let firmware = request.firmware.find(board)?;
    let (image, appliance) = match request.image {
        ImageChoice::File(image) => (image, None),
        choice => {
            let plan = Plan::new(config::load(&request.build)?, None)?;
            if matches!(choice, ImageChoice::Build) {
                image::build(&plan, false, Data::Kept, shell)?;
            }
            (plan.output, Some(plan.appliance))
        }
    };
    if !image.is_file() {
        return Err(RunError::NoImage(image).into());
    }
    // A disk of another origin boots, too.
    let report = inspect::inspect(&image).ok();
    if request.firmware == FirmwareKind::Uefi
        && report.as_ref().is_some_and(|report| report.uefi_loader.is_none())
    {
        return Err(StartError::NoLoader(image).into());
    }
    let managed = match appliance {
        Some(appliance) => appliance.has_admind().then_some(appliance.name),
        None => report.and_then(managed_appliance),
    };
    let machine = Machine {
        board,
        model: request.model.unwrap_or_default(),
        image,
        firmware,
        memory: request.memory,
        cpus: request.cpus,
        publish: request.publish,
        snapshot: request.snapshot,
        extra: request.extra,
        managed,
    };
    let interrupted = || interrupt::check().is_err();
    qemu::run(machine, request.accelerate, &request.watch, &interrupted, shell)?;
    Ok(())
}

/// Returns the name of the appliance on a disk if it can be managed over the network.
fn managed_appliance(report: Report) -> Option<String> {
    let manifest = report.slots.into_iter().find_map(|slot| slot.manifest)?;
    manifest.services.iter().any(|service| service.name == config::OWN_ADMIND).then_some(manifest.name)
}
