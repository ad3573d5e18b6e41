//! A launcher: the confirmed slot's kernel, started by a firmware without trials to start the other slot's kernel once.
//! It mounts no root and starts nothing else.
//!
//! Before the other kernel runs, the disk records that the trial is over, so that the next start is that of the confirmed
//! slot, whatever happens. See [`krazy_boot::boot::config_txt`].

use std::path::Path;
use std::time::Duration;

use krazy_boot::boot::cmdline::{CommandLine, LAUNCH_PARAMETER};
use krazy_boot::disk::slot::Slot;
use krazy_boot::disk::trial_note::Stage;

use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::kexec::{self, KexecError};
use crate::linux::watchdog::{self, Watchdog};
use crate::slots::{SlotError, Slots};

/// The reason why the other slot's kernel does not run. The next start is that of the confirmed slot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The power was cut before the trial was armed, or after it was over.
    #[error("there is no trial to start")]
    NotArmed,
    /// The kernel cannot be loaded or started.
    #[error("the kernel of slot {0} cannot be started: {1}")]
    Kernel(Slot, #[source] KernelError),
}

/// The reason why a kernel cannot be loaded or started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// Its files cannot be read.
    #[error(transparent)]
    Files(#[from] SlotError),
    /// The running kernel cannot start it.
    #[error(transparent)]
    Kexec(#[from] KexecError),
}

/// The reason why the slots of the root's disk are unknown.
#[derive(Debug, thiserror::Error)]
enum FindSlotsError {
    #[error("the root is not a partition")]
    NoPartition,
    #[error("the kernel command line names no slot")]
    NoSlot,
    #[error("the disk has no slots")]
    NoSlots,
    #[error(transparent)]
    Slots(#[from] SlotError),
}

/// Starts the other slot's kernel if this is a launcher. Returns without an error if it is none, or if the disk cannot
/// record that the trial is over: then this slot continues, with one processor, rather than restart for ever.
pub(crate) fn run(own: &Path, line: &CommandLine, console: &mut Console) -> Result<(), LaunchError> {
    if !line.has(LAUNCH_PARAMETER) {
        return Ok(());
    }
    let started = slots(own, line).and_then(|slots| Ok((slots.start_trial()?, slots)));
    let (started, slots) = match started {
        Ok((started, slots)) => (started.ok_or(LaunchError::NotArmed)?, slots),
        Err(error) => {
            console.log(&format!("the other slot is not tried: {error}"));
            return Ok(());
        }
    };
    console.log(&format!("{started}: starting its kernel"));
    console.flush(Duration::from_millis(100));
    let loaded = slots.next_kernel(line).map_err(KernelError::from).and_then(|next| Ok(kexec::load(next)?));
    let error = match loaded {
        Ok(()) => {
            // Only now: nothing feeds it from here on, and reading the kernel from a slow card takes a while.
            start_watchdog(line, console);
            kexec::start().into()
        }
        Err(error) => error,
    };
    if let Err(error) = slots.as_inactive().record_stage(Stage::Armed, Some(&error.to_string())) {
        console.log(&format!("cannot write the trial's note: {error}"));
    }
    Err(LaunchError::Kernel(started.slot, error))
}

/// Starts the watchdog. The next kernel's driver takes it over; a kernel that does not get that far is reset by it.
fn start_watchdog(line: &CommandLine, console: &mut Console) {
    if !watchdog::is_wanted(line) {
        return;
    }
    match Watchdog::arm() {
        // Dropped without being disarmed, it keeps counting.
        Ok(Some(_)) => {}
        Ok(None) => console.log("there is no watchdog: if the kernel hangs, switch the power off and on"),
        Err(error) => console.log(&format!("cannot start the watchdog: {error}")),
    }
}

fn slots(own: &Path, line: &CommandLine) -> Result<Slots, FindSlotsError> {
    let disk = Disk::of_partition(own).ok_or(FindSlotsError::NoPartition)?;
    let slot = line.slot().ok_or(FindSlotsError::NoSlot)?;
    Slots::of(&disk, slot)?.ok_or(FindSlotsError::NoSlots)
}
