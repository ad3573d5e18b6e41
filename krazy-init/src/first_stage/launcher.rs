//! A launcher: the confirmed slot's kernel, started by a firmware that knows no trials, to start the other slot's
//! kernel, once. It mounts no root and starts nothing else.
//!
//! Before anything of the trial runs, the disk says that it is over: whatever happens, the next start is the confirmed
//! slot's own. See [`krazy_boot::boot::config_txt`].

use std::path::Path;
use std::time::Duration;

use krazy_boot::boot::cmdline::{CommandLine, LAUNCH_PARAMETER};
use krazy_boot::disk::slot::Slot;
use krazy_boot::disk::trial_note::Stage;

use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::kexec;
use crate::linux::watchdog::{self, Watchdog};
use crate::slots::{SlotError, Slots};

/// Why the other slot's kernel does not run. The next start is the confirmed slot's own.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Power was cut before the trial was armed, or after it was over.
    #[error("there is no trial to start")]
    NotArmed,
    /// There is one, and it cannot be started.
    #[error("the kernel of slot {0} cannot be started: {1}")]
    Kernel(Slot, String),
}

/// Starts the other slot's kernel if this is a launcher. Comes back without an error if it is none, or if the disk
/// cannot be brought to say that the trial is over: then this slot goes on, with one processor, rather than restart
/// for ever.
pub fn run(own: &Path, line: &CommandLine, console: &mut Console) -> Result<(), LaunchError> {
    if !line.has(LAUNCH_PARAMETER) {
        return Ok(());
    }
    let started = slots(own, line).and_then(|slots| Ok((slots.start_trial()?, slots)));
    let (slot, slots) = match started {
        Ok((slot, slots)) => (slot.ok_or(LaunchError::NotArmed)?, slots),
        Err(error) => {
            console.log(&format!("the other slot is not tried: {error}"));
            return Ok(());
        }
    };
    console.log(&format!("slot {slot} is tried: its kernel is started"));
    console.flush(Duration::from_millis(100));
    let loaded = slots
        .next_kernel(line)
        .map_err(|error| error.to_string())
        .and_then(|next| kexec::load(next).map_err(|error| error.to_string()));
    let why = match loaded {
        Ok(()) => {
            guard(line, console);
            kexec::start().to_string()
        }
        Err(why) => why,
    };
    if let Err(error) = slots.other().tell(Stage::Armed, Some(&why)) {
        console.log(&format!("the trial's note cannot be written: {error}"));
    }
    Err(LaunchError::Kernel(slot, why))
}

/// Starts the watchdog. The next kernel's driver takes it over; if that kernel does not come so far, it ends the trial.
fn guard(line: &CommandLine, console: &mut Console) {
    if !watchdog::is_wanted(line) {
        return;
    }
    match Watchdog::arm() {
        // Dropped without being disarmed, it goes on counting.
        Ok(Some(_)) => {}
        Ok(None) => console.log("there is no watchdog: a kernel that hangs has to be switched off"),
        Err(error) => console.log(&format!("the watchdog cannot be started: {error}")),
    }
}

fn slots(own: &Path, line: &CommandLine) -> Result<Slots, SlotError> {
    let missing = |what: &str| SlotError::Damaged(what.to_owned());
    let disk = Disk::of_partition(own).ok_or_else(|| missing("the root is not a partition"))?;
    let slot = line.slot().ok_or_else(|| missing("the kernel command line names no slot"))?;
    Slots::of(&disk, slot)?.ok_or_else(|| missing("the disk has no slots"))
}
