//! The two slots as the running system sees them: which one is confirmed, what is on trial, and how a trial is armed,
//! confirmed, dropped and explained. First stage and supervisor use it; nobody else writes what is here.
//!
//! | module | does |
//! |---|---|
//! | `selector` | the boot selector, which keeps trials on every board |
//! | `tables` | on a PC: the boot loader's tables, which follow the files on `/boot` |
//! | `firmware` | on a Raspberry Pi: `config.txt`, which names the confirmed slot to the firmware |
//! | `note` | the trial note |
//! | `complete` | whether a slot could boot |
//!
//! What differs between boards is behind [`Boot`]. On a PC our boot sector obeys the selector and starts trials, with
//! their kernel. A Raspberry Pi's firmware knows its `config.txt` only: it starts the confirmed slot, whose first stage
//! starts the trial ([`Slots::start_trial`]): the other slot's kernel, or if it cannot, only its root.
//!
//! Some of those firmwares could try a slot themselves (`tryboot.txt`), if they were asked through `/dev/vcio`. Upstream
//! kernels have no such device, so nothing here does.

mod complete;
mod firmware;
mod note;
mod selector;
mod tables;

use std::fs::{File, OpenOptions};
use std::io;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::ordered_write::{SectorWrite, write_in_order};
use krazy_boot::disk::selector::{Selector, SlotState};
use krazy_boot::disk::slot::Slot;
use krazy_boot::disk::trial_note::{Stage, TrialNote};
use krazy_boot::manifest::Manifest;

use crate::linux::block::Disk;
use crate::linux::crash;
use crate::linux::kexec::{self, NextKernel};

/// The slots of the disk the root is on.
#[derive(Clone, Debug)]
pub struct Slots {
    disk: Disk,
    /// The slot that runs.
    pub running: Slot,
    boot: Boot,
}

/// What starts the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    /// Our own boot sector, which obeys the selector.
    BootSector,
    /// A firmware, which obeys `config.txt`.
    Firmware,
}

/// The kernel that a slot is tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialKernel {
    /// Its own.
    Own,
    /// The one that runs when the trial is armed; the slot's own follows, untried, at the start after the confirmation.
    Running,
}

/// State of the slots at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootStatus {
    /// State of the running slot.
    pub slot_state: SlotState,
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
    /// The slots of `disk`, from which `running` runs; `None` if the disk has no boot selector.
    pub fn of(disk: &Disk, running: Slot) -> Result<Option<Self>, SlotError> {
        if !selector::is_there(disk)? {
            return Ok(None);
        }
        let boot = if selector::is_for_boot_sector(disk)? { Boot::BootSector } else { Boot::Firmware };
        Ok(Some(Slots { disk: disk.clone(), running, boot }))
    }

    /// Reads the state of the slots.
    pub fn boot_status(&self) -> Result<BootStatus, SlotError> {
        let selector = self.selector()?;
        Ok(BootStatus {
            slot_state: selector.slot_state(self.running),
            confirmed: selector.confirmed,
            generation: selector.generation,
        })
    }

    /// Repairs what a power cut may have left half done; says whether there was anything.
    pub fn repair(&self) -> Result<bool, SlotError> {
        let selector = self.selector()?;
        let launcher = self.boot == Boot::Firmware && firmware::choice(&self.disk)?.launcher;
        if launcher && selector.trial.is_none() {
            firmware::start_trial(&self.disk, &selector)?;
        } else if !selector::needs_repair(&self.disk)? && selector == selector::read(&self.disk)? {
            return Ok(false);
        }
        write(&self.disk, &selector.writes()).map(|()| true)
    }

    /// Where no boot sector does it: starts the trial that is armed, which is over on the disk when this returns. The
    /// slot to go on with, if there is one.
    pub fn start_trial(&self) -> Result<Option<Slot>, SlotError> {
        if self.boot == Boot::BootSector {
            return Ok(None);
        }
        let slot = firmware::start_trial(&self.disk, &self.selector()?)?;
        Ok(slot.filter(|slot| *slot != self.running))
    }

    /// Where no boot sector does it: what starts the kernel of the slot that does not run, for a launcher with the
    /// command line `line`.
    pub fn next_kernel(&self, line: &CommandLine) -> Result<NextKernel, SlotError> {
        firmware::next_kernel(&self.disk, !self.running, line)
    }

    /// Which kernel the slot that does not run would be tried with.
    pub fn trial_kernel(&self) -> Result<TrialKernel, SlotError> {
        let own = match self.boot {
            Boot::BootSector => true,
            Boot::Firmware => kexec::is_possible() && firmware::can_launch(&self.disk, self.running)?,
        };
        Ok(if own { TrialKernel::Own } else { TrialKernel::Running })
    }

    /// Whether the firmware has settings of its own for each slot, which no trial covers.
    pub fn has_firmware(&self) -> bool {
        self.boot == Boot::Firmware
    }

    /// The selector in force.
    fn selector(&self) -> Result<Selector, SlotError> {
        let selector = selector::read(&self.disk)?;
        match self.boot {
            Boot::BootSector => Ok(selector),
            Boot::Firmware => firmware::confirmed(&self.disk).map(|slot| selector.adopt_confirmed(slot)),
        }
    }

    /// The slot that does not run, if it could: its boot files are where the loader looks, its root can be mounted.
    /// What its root says it is.
    pub fn examine_other(&self) -> Result<Manifest, SlotError> {
        let slot = !self.running;
        let missing = match self.boot {
            Boot::BootSector => tables::changes(&self.disk, slot).map(|writes| {
                let why = "the boot loader's tables are not those of its files on /boot";
                (!writes.is_empty()).then(|| why.to_owned())
            }),
            Boot::Firmware => firmware::missing(&self.disk, slot),
        };
        match missing {
            Ok(None) => {}
            Ok(Some(why)) => return Err(SlotError::Incomplete(slot, why)),
            Err(error) => return Err(SlotError::Incomplete(slot, error.to_string())),
        }
        complete::manifest(&self.disk, slot).map_err(|why| SlotError::Incomplete(slot, why))
    }

    /// The slot that does not run boots once, at the next start. Returns the trial's generation. The note comes
    /// first: without the trial it says nothing.
    pub fn arm(&self, build_id: &str, kernel: TrialKernel) -> Result<u32, SlotError> {
        let slot = !self.running;
        let selector = self.selector()?;
        let armed = selector.arm(slot);
        self.write_note(&TrialNote::armed(slot, armed.generation, build_id))?;
        match self.boot {
            Boot::BootSector => write(&self.disk, &armed.writes())?,
            Boot::Firmware => firmware::arm(&self.disk, &selector, kernel == TrialKernel::Own)?,
        }
        Ok(armed.generation)
    }

    /// The running slot boots from now on.
    pub fn confirm(&self) -> Result<(), SlotError> {
        let selector = self.selector()?;
        match self.boot {
            Boot::BootSector => write(&self.disk, &selector.confirm(self.running).writes()),
            Boot::Firmware => firmware::confirm(&self.disk, &selector, self.running),
        }
    }

    /// The confirmed slot stays, and a pending or failed trial is forgotten.
    pub fn disarm(&self) -> Result<(), SlotError> {
        let selector = self.selector()?;
        match self.boot {
            Boot::BootSector => write(&self.disk, &selector.disarm().writes()),
            Boot::Firmware => firmware::disarm(&self.disk, &selector),
        }
    }

    /// The note about the trial of `slot` with this generation; `None` if there is none.
    pub fn note(&self, slot: Slot, generation: u32) -> Option<TrialNote> {
        note::read(&self.disk).filter(|note| note.slot == slot && note.generation == generation)
    }

    /// The same slots as the one sees them that does not run.
    pub fn other(&self) -> Self {
        Slots { running: !self.running, ..self.clone() }
    }

    /// Notes how far the trial of the running slot came, and why it ended if it did. `None` keeps what was said.
    pub fn tell(&self, stage: Stage, text: Option<&str>) -> Result<(), SlotError> {
        let generation = self.boot_status()?.generation;
        let known = self.note(self.running, generation);
        // One that was lost or damaged begins anew, without the build's id.
        let mut note = known.unwrap_or_else(|| TrialNote::armed(self.running, generation, ""));
        note.stage = stage;
        if let Some(text) = text {
            text.clone_into(&mut note.text);
        }
        self.write_note(&note)
    }

    /// From now on a panic is told in the note of the running slot's trial, as what ended `stage`.
    pub fn tell_panics(&self, stage: Stage) {
        let slots = self.clone();
        crash::keep_words(Some(Box::new(move |words| {
            if let Err(why) = slots.tell(stage, Some(words)) {
                crash::last_words(&format!("the trial's note cannot be written: {why}"));
            }
        })));
    }

    /// The sectors to write so that the boot loader's tables of `slot` follow its files on `/boot`.
    pub fn table_changes(&self, slot: Slot) -> Result<Vec<SectorWrite>, SlotError> {
        match self.boot {
            Boot::BootSector => tables::changes(&self.disk, slot),
            Boot::Firmware => Ok(Vec::new()),
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
