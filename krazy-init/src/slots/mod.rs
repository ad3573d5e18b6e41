//! The two slots as the running system sees them: which one is confirmed, what is on trial, and how a trial is armed,
//! confirmed, dropped and explained. First stage and supervisor use it; nobody else writes what is here.
//!
//! | module | does |
//! |---|---|
//! | `selector` | the standing on disks with the boot selector (x86) |
//! | `note` | the trial note, which every board has |
//! | `tables` | the boot loader's tables, which follow the files on `/boot` |
//! | `complete` | whether a slot could boot |
//!
//! What differs between boards is behind [`Boot`]: another board's firmware keeps the standing in another way.

mod complete;
mod note;
mod selector;
mod tables;

use std::fs::{File, OpenOptions};
use std::io;

use krazy_boot::manifest::Manifest;
use krazy_boot::ordered_write::{SectorWrite, write_in_order};
use krazy_boot::selector::Standing;
use krazy_boot::slot::Slot;
use krazy_boot::trial_note::{Stage, TrialNote};

use crate::linux::block::Disk;

/// The slots of the disk the root is on.
#[derive(Clone, Debug)]
pub struct Slots {
    disk: Disk,
    /// The slot that runs.
    pub running: Slot,
    boot: Boot,
}

/// What keeps the standing of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    /// The boot selector, which our own boot sector reads.
    Selector,
}

/// The slots' standing at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// What the running slot is.
    pub standing: Standing,
    /// The slot that boots when no trial is armed.
    pub confirmed: Slot,
    /// Tells trials apart: a note with another generation is about another one.
    pub generation: u32,
}

/// Why something about the slots cannot be told or done.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// A disk or partition cannot be read or written.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// The boot selector, the note or a table is not as it should be.
    #[error("{0}")]
    Damaged(String),
    /// A slot that could not boot was to be armed.
    #[error("slot {0} cannot be started: {1}")]
    Incomplete(Slot, String),
}

impl Slots {
    /// The slots of `disk`, from which `running` runs; `None` when nothing of ours keeps their standing.
    pub fn of(disk: &Disk, running: Slot) -> Result<Option<Self>, SlotError> {
        let boot = selector::is_there(disk)?.then_some(Boot::Selector);
        Ok(boot.map(|boot| Slots { disk: disk.clone(), running, boot }))
    }

    /// Reads the standing.
    pub fn situation(&self) -> Result<Situation, SlotError> {
        match self.boot {
            Boot::Selector => selector::situation(&self.disk, self.running),
        }
    }

    /// Repairs what a power cut may have left half done; says whether there was anything.
    pub fn repair(&self) -> Result<bool, SlotError> {
        match self.boot {
            Boot::Selector => selector::repair(&self.disk),
        }
    }

    /// The slot that does not run, if it could: its boot files are where the loader looks, its root can be mounted.
    /// What its root says it is.
    pub fn examine_other(&self) -> Result<Manifest, SlotError> {
        let slot = !self.running;
        let tables = match self.boot {
            Boot::Selector => tables::changes(&self.disk, slot),
        };
        match tables {
            Ok(writes) if writes.is_empty() => {}
            Ok(_) => {
                let why = "the boot loader's tables are not those of its files on /boot";
                return Err(SlotError::Incomplete(slot, why.to_owned()));
            }
            Err(error) => return Err(SlotError::Incomplete(slot, error.to_string())),
        }
        complete::manifest(&self.disk, slot).map_err(|why| SlotError::Incomplete(slot, why))
    }

    /// The slot that does not run boots once, at the next start. Returns the trial's generation. The note comes
    /// first: without the trial it says nothing.
    pub fn arm(&self, build_id: &str) -> Result<u32, SlotError> {
        let slot = !self.running;
        match self.boot {
            Boot::Selector => selector::arm(&self.disk, slot, |generation| {
                self.write_note(&TrialNote::armed(slot, generation, build_id))
            }),
        }
    }

    /// The running slot boots from now on.
    pub fn confirm(&self) -> Result<(), SlotError> {
        match self.boot {
            Boot::Selector => selector::confirm(&self.disk, self.running),
        }
    }

    /// The confirmed slot stays, and a pending or failed trial is forgotten.
    pub fn disarm(&self) -> Result<(), SlotError> {
        match self.boot {
            Boot::Selector => selector::disarm(&self.disk),
        }
    }

    /// The note about the trial of `slot` with this generation; `None` if there is none.
    pub fn note(&self, slot: Slot, generation: u32) -> Option<TrialNote> {
        note::read(&self.disk).filter(|note| note.slot == slot && note.generation == generation)
    }

    /// Notes how far the trial of the running slot came, and why it ended if it did. `None` keeps what was said.
    pub fn tell(&self, stage: Stage, text: Option<&str>) -> Result<(), SlotError> {
        let generation = self.situation()?.generation;
        let known = self.note(self.running, generation);
        // One that was lost or damaged begins anew, without the build's id.
        let mut note = known.unwrap_or_else(|| TrialNote::armed(self.running, generation, ""));
        note.stage = stage;
        if let Some(text) = text {
            text.clone_into(&mut note.text);
        }
        self.write_note(&note)
    }

    /// The sectors to write so that the boot loader's tables of `slot` follow its files on `/boot`.
    pub fn table_changes(&self, slot: Slot) -> Result<Vec<SectorWrite>, SlotError> {
        match self.boot {
            Boot::Selector => tables::changes(&self.disk, slot),
        }
    }

    /// Writes them.
    pub fn write_tables(&self, writes: &[SectorWrite]) -> Result<(), SlotError> {
        write(&self.disk, writes)
    }

    fn write_note(&self, note: &TrialNote) -> Result<(), SlotError> {
        write(&self.disk, &[note.write()])
    }
}

/// Writes sectors of the whole disk, each durable before the next begins.
fn write(disk: &Disk, writes: &[SectorWrite]) -> Result<(), SlotError> {
    let context = |error| failed(disk, error);
    let mut file = OpenOptions::new().read(true).write(true).open(disk.node()).map_err(context)?;
    write_in_order(&mut file, writes, |file: &mut File| file.sync_data()).map_err(context)
}

fn failed(disk: &Disk, error: io::Error) -> SlotError {
    SlotError::Io(disk.node().display().to_string(), error)
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests;
