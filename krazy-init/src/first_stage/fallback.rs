//! The way out of a confirmed slot whose root does not start: the other slot boots once instead.
//!
//! Nothing is counted against the confirmed slot: only a definite failure leads here, and the start after the other slot's
//! tries the confirmed one first again. A root whose disk is missing is no such failure, because the other slot is on the
//! same disk.

use std::path::Path;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::trial_note::Stage;

use super::FirstStageError;
use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::mounts;
use crate::slots::Slots;

/// The other slot, as the way out of this boot.
#[derive(Debug)]
pub(crate) struct Fallback(Slots);

impl Fallback {
    /// Returns the way out of the boot from `root`; `None` if its slot is not the confirmed one, which the machine returns
    /// to by itself.
    pub(crate) fn of(root: &Path, line: &CommandLine) -> Option<Self> {
        let slots = Slots::of(&Disk::of_partition(root)?, line.slot()?).ok()??;
        let confirmed = slots.boot_status().ok()?.confirmed;
        (confirmed == slots.running).then_some(Fallback(slots))
    }

    /// Makes the next start that of the other slot if `error` is a definite failure of this one.
    pub(crate) fn prepare(&self, error: &FirstStageError, console: &mut Console) {
        let stage = match error {
            FirstStageError::Root(..) => Stage::FirstStage,
            FirstStageError::Execute(_) => Stage::RootMounted,
            _ => return,
        };
        if stage == Stage::RootMounted {
            // The root that was switched to is read-only, and the other one is mounted below /run for its examination.
            for row in mounts::SYSTEM.iter().filter(|row| row.target == "/run") {
                if let Err(error) = row.apply() {
                    console.log(&format!("cannot mount {}: {error}", row.target));
                }
            }
        }
        let other = !self.0.running;
        console.log(&match self.0.fall_back(stage, &error.to_string()) {
            Ok(()) => format!("slot {other} starts instead, once"),
            Err(error) => format!("slot {other} does not start instead: {error}"),
        });
    }
}
