//! A boot on trial, as the first stage sees it: it leaves word of how far it came, and starts the watchdog as soon as
//! there is one, so that a root or an init that hangs ends the trial too.
//!
//! Whoever is `/bin/init` has to feed the watchdog from then on: ours does, another one must if it wants to be tried.

use std::path::Path;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::trial_note::Stage;

use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::modules::{self, ModuleError, Modules, Parameters};
use crate::linux::watchdog::Watchdog;
use crate::slots::Slots;

/// Where the drivers of watchdogs are below a kernel's modules.
const DRIVERS: &str = "kernel/drivers/watchdog/";

/// This boot's trial.
#[derive(Debug)]
pub struct Trial {
    slots: Slots,
    stage: Stage,
}

impl Trial {
    /// The trial that the boot from `root` is; `None` if it is none. What cannot be read is none either: the trial
    /// itself does not depend on what is told about it.
    pub fn of(root: &Path, line: &CommandLine) -> Option<Self> {
        let slots = Slots::of(&Disk::of_partition(root)?, line.slot()?).ok()??;
        let slot_state = slots.boot_status().ok()?.slot_state;
        (slot_state == SlotState::OnTrial).then_some(Trial { slots, stage: Stage::FirstStage })
    }

    /// Notes that the boot came this far.
    pub fn reached(&mut self, stage: Stage, console: &mut Console) {
        self.stage = stage;
        self.slots.tell_panics(stage);
        self.tell(None, console);
    }

    /// Notes why it does not come further.
    pub fn failed(&self, why: &str, console: &mut Console) {
        self.tell(Some(why), console);
    }

    fn tell(&self, text: Option<&str>, console: &mut Console) {
        if let Err(error) = self.slots.tell(self.stage, text) {
            console.log(&format!("the trial's note cannot be written: {error}"));
        }
    }
}

/// Starts the watchdog; its driver is taken from the root at `sysroot` if it is a module.
pub fn start_watchdog(sysroot: &Path, parameters: Parameters, console: &mut Console) {
    let modules = Modules::new(sysroot.join("lib/modules").join(modules::release()), parameters);
    let started = Watchdog::arm().and_then(|there| match there {
        Some(watchdog) => Ok(Some(watchdog)),
        None => load_drivers(&modules, console).and_then(|()| Watchdog::arm()),
    });
    match started {
        // Dropped without being disarmed, it goes on counting.
        Ok(_) => {}
        Err(error) => console.log(&format!("the watchdog cannot be started: {error}")),
    }
}

fn load_drivers(modules: &Modules, console: &mut Console) -> std::io::Result<()> {
    for name in modules.for_aliases(&modules::present_aliases())? {
        if !modules.path_of(&name)?.is_some_and(|path| path.starts_with(DRIVERS)) {
            continue;
        }
        match modules.load(&name) {
            Ok(_) | Err(ModuleError::Absent) => {}
            Err(error) => console.log(&format!("cannot load module {name}: {error}")),
        }
    }
    Ok(())
}
