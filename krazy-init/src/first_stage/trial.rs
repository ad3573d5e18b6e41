//! A boot on trial in the first stage: records the stage that it has reached, and starts the watchdog as soon as there is
//! one, so that a root or an init that hangs ends the trial, too.
//!
//! From then on `/bin/init` has to feed the watchdog. A foreign init must do so to survive its trial.

use std::path::Path;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::trial_note::Stage;

use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::modules::{self, ModuleError, Modules, Parameters};
use crate::linux::watchdog::Watchdog;
use crate::slots::Slots;

/// The drivers of watchdogs, below a kernel's modules.
const WATCHDOG_DRIVERS: &str = "kernel/drivers/watchdog/";

/// The trial of this boot.
#[derive(Debug)]
pub(crate) struct Trial {
    slots: Slots,
    stage: Stage,
}

impl Trial {
    /// Returns the trial of the boot from `root`; `None` if it is not on trial, or if the slots cannot be read: a trial ends
    /// without its records, too.
    pub(crate) fn of(root: &Path, line: &CommandLine) -> Option<Self> {
        let slots = Slots::of(&Disk::of_partition(root)?, line.slot()?).ok()??;
        let status = slots.boot_status().ok()?;
        if status.slot_state != SlotState::OnTrial {
            return None;
        }
        // A trial starts once. If it has been here before, the confirmed slot has failed to start since.
        let note = slots.note(slots.running, status.generation);
        if note.is_some_and(|note| note.stage > Stage::Armed) && slots.disarm().is_ok() {
            return None;
        }
        Some(Trial { slots, stage: Stage::FirstStage })
    }

    /// Records that the boot has reached `stage`.
    pub(crate) fn reached(&mut self, stage: Stage, console: &mut Console) {
        self.stage = stage;
        self.slots.record_panics(stage);
        self.record(None, console);
    }

    /// Records the reason why the boot failed.
    pub(crate) fn failed(&self, why: &str, console: &mut Console) {
        self.record(Some(why), console);
    }

    fn record(&self, reason: Option<&str>, console: &mut Console) {
        if let Err(error) = self.slots.record_stage(self.stage, reason) {
            console.log(&format!("cannot write the trial's note: {error}"));
        }
    }
}

/// Records why the boot loader could not start the other slot, which should have started: on trial, or as the confirmed
/// one.
pub(crate) fn record_unstarted(root: &Path, line: &CommandLine, reason: &str, console: &mut Console) {
    console.log(&format!("the other slot could not be started: {reason}"));
    let slots =
        Disk::of_partition(root).zip(line.slot()).and_then(|(disk, slot)| Slots::of(&disk, slot).ok()?);
    let Some(slots) = slots else { return };
    if let Err(error) = slots.as_inactive().record_stage(Stage::Armed, Some(reason)) {
        console.log(&format!("cannot write the note about that: {error}"));
    }
}

/// Starts the watchdog. A driver that is a module is loaded from the root at `sysroot`.
pub(crate) fn start_watchdog(sysroot: &Path, parameters: Parameters, console: &mut Console) {
    let modules = Modules::new(sysroot.join("lib/modules").join(modules::release()), parameters);
    let started = Watchdog::arm().and_then(|there| match there {
        Some(watchdog) => Ok(Some(watchdog)),
        None => load_drivers(&modules, console).and_then(|()| Watchdog::arm()),
    });
    match started {
        // Dropped without being disarmed, it keeps counting.
        Ok(_) => {}
        Err(error) => console.log(&format!("cannot start the watchdog: {error}")),
    }
}

fn load_drivers(modules: &Modules, console: &mut Console) -> std::io::Result<()> {
    for name in modules.for_aliases(&modules::present_aliases())? {
        if !modules.path_of(&name)?.is_some_and(|path| path.starts_with(WATCHDOG_DRIVERS)) {
            continue;
        }
        match modules.load(&name) {
            Ok(_) | Err(ModuleError::Absent) => {}
            Err(error) => console.log(&format!("cannot load module {name}: {error}")),
        }
    }
    Ok(())
}
