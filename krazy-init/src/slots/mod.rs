//! The two slots: which one is confirmed, which one is on trial, and how a trial is armed, confirmed, dropped and
//! explained. First stage and supervisor use this module; the update engine leaves these sectors to it.
//!
//! | module | is |
//! |---|---|
//! | `selector` | the boot selector, which records trials on every board |
//! | `load_tables` | on a PC: the boot loader's tables, which follow the files on `/boot` |
//! | `firmware` | on a Raspberry Pi: `config.txt`, which names the confirmed slot to the firmware |
//! | `relocation` | the move of the boot state away from LBA 0, on a disk of the first format |
//! | `inactive_root` | the root of the inactive slot, which is checked before it is armed |
//!
//! Boards differ in [`BootMethod`]. On a PC our boot sector obeys the selector and starts trials with their kernel. A
//! Raspberry Pi's firmware reads its `config.txt` only: it starts the confirmed slot, whose first stage starts the trial
//! ([`Slots::start_trial`]): the other slot's kernel, or if it cannot, only its root.
//!
//! Some of those firmwares could try a slot themselves (`tryboot.txt`) if they were asked through `/dev/vcio`. Upstream
//! kernels have no such device, so this module does not use it.

mod error;
mod firmware;
mod inactive_root;
mod load_tables;
mod relocation;
mod selector;

use std::fmt;
use std::fs::File;
use std::io::Read;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::layout::{Extent, StateSectors};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::ordered_write::SectorWrite;
use krazy_boot::disk::selector::{Selector, SlotState};
use krazy_boot::disk::size::SECTOR_SIZE;
use krazy_boot::disk::slot::Slot;
use krazy_boot::disk::trial_note::{Stage, TrialNote};
use krazy_boot::manifest::Manifest;

pub(crate) use error::{IncompleteReason, SlotError};

use crate::linux::block::Disk;
use crate::linux::crash;
use crate::linux::kexec::{self, NextKernel};

/// The slots of the disk that holds the root.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    disk: Disk,
    /// The active slot, which runs.
    pub(crate) running: Slot,
    boot_method: BootMethod,
}

/// The program that starts a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BootMethod {
    /// Our own boot sector, which obeys the selector.
    BootSector,
    /// A firmware, which obeys `config.txt`.
    Firmware,
}

/// The kernel that a slot is tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrialKernel {
    /// The slot's own kernel.
    Own,
    /// The kernel that runs when the trial is armed. The slot's own kernel first starts after the confirmation.
    Running,
}

/// A slot that the first stage starts instead of the confirmed one, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartedSlot {
    /// The slot.
    pub(crate) slot: Slot,
    /// True if it is on trial; false if the confirmed slot cannot start.
    pub(crate) on_trial: bool,
}

impl fmt::Display for StartedSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.on_trial { "is on trial" } else { "is the fallback" };
        write!(f, "slot {} {role}", self.slot)
    }
}

/// A repair of the boot selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// There was nothing to repair.
    None,
    /// A change that a power cut had interrupted was completed.
    Completed,
    /// Both copies were lost. This slot is confirmed by the new ones.
    Replaced(Slot),
}

/// The state of the slots at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BootStatus {
    /// The state of the running slot.
    pub(crate) slot_state: SlotState,
    /// The slot that boots when no trial is armed.
    pub(crate) confirmed: Slot,
    /// The number of the last trial. A note with another generation belongs to another trial.
    pub(crate) generation: u32,
}

impl Slots {
    /// Returns the slots of `disk`, of which `running` runs; `None` if the disk has neither a boot selector nor what else
    /// starts a slot: a load table, or our `config.txt`. Those alone are there if both copies of the selector were
    /// overwritten.
    pub(crate) fn of(disk: &Disk, running: Slot) -> Result<Option<Self>, SlotError> {
        let has_boot_sector = selector::has_boot_sector(disk)?;
        let has_other_signs = || match has_boot_sector {
            true => load_tables::exists(disk, running),
            // Any failure to read it means another disk.
            false => Ok(firmware::choice(disk).is_ok()),
        };
        if !selector::exists(disk)? && !has_other_signs()? {
            return Ok(None);
        }
        // By the disk and not by the architecture of this program: the same rule as the update engine's.
        let boot_method = if has_boot_sector { BootMethod::BootSector } else { BootMethod::Firmware };
        Ok(Some(Slots { disk: disk.clone(), running, boot_method }))
    }

    /// Returns the disk that they are on.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Reads the state of the slots.
    pub(crate) fn boot_status(&self) -> Result<BootStatus, SlotError> {
        let selector = self.selector()?;
        Ok(BootStatus {
            slot_state: selector.slot_state(self.running),
            confirmed: selector.confirmed,
            generation: selector.generation,
        })
    }

    /// Repairs the boot selector if a power cut left a change of it half done, or if both copies of it are lost.
    ///
    /// The firmware reads `config.txt` only, so the selector is made to agree with it and not the other way round. A
    /// `config.txt` that still names a launcher is rewritten first: until then every start takes the way through it.
    pub(crate) fn repair(&self) -> Result<Repair, SlotError> {
        if selector::is_lost(&self.disk)? {
            let slot = match self.boot_method {
                // The only slot that is known to start.
                BootMethod::BootSector => self.running,
                BootMethod::Firmware => firmware::confirmed(&self.disk)?,
            };
            return write(&self.disk, &Selector::confirmed(slot).writes(self.sectors()?))
                .map(|()| Repair::Replaced(slot));
        }
        let selector = self.selector()?;
        let is_launcher = self.boot_method == BootMethod::Firmware && firmware::choice(&self.disk)?.launcher;
        if is_launcher && selector.trial.is_none() {
            firmware::start_trial(&self.disk, &selector)?;
        } else if !selector::needs_repair(&self.disk)? && selector == selector::read(&self.disk)? {
            return Ok(Repair::None);
        }
        write(&self.disk, &selector.writes(self.sectors()?)).map(|()| Repair::Completed)
    }

    /// Starts the armed trial or the fallback where no boot sector does it, and returns the slot to continue with. When
    /// this returns, the disk records that it has started.
    pub(crate) fn start_trial(&self) -> Result<Option<StartedSlot>, SlotError> {
        if self.boot_method == BootMethod::BootSector {
            return Ok(None);
        }
        let selector = self.selector()?;
        let slot = firmware::start_trial(&self.disk, &selector)?.filter(|slot| *slot != self.running);
        Ok(slot.map(|slot| StartedSlot { slot, on_trial: selector.candidate == Some(slot) }))
    }

    /// Returns what starts the inactive slot's kernel, for a launcher that was started with `line`.
    pub(crate) fn next_kernel(&self, line: &CommandLine) -> Result<NextKernel, SlotError> {
        firmware::next_kernel(&self.disk, !self.running, line)
    }

    /// Returns the kernel that the inactive slot would be tried with.
    pub(crate) fn trial_kernel(&self) -> Result<TrialKernel, SlotError> {
        let own = match self.boot_method {
            BootMethod::BootSector => true,
            BootMethod::Firmware => kexec::is_possible() && firmware::can_launch(&self.disk, self.running)?,
        };
        Ok(if own { TrialKernel::Own } else { TrialKernel::Running })
    }

    /// Returns true if the firmware reads settings of its own for each slot, which no trial covers.
    pub(crate) fn has_firmware(&self) -> bool {
        self.boot_method == BootMethod::Firmware
    }

    /// Returns the sectors of the boot state.
    fn sectors(&self) -> Result<StateSectors, SlotError> {
        selector::sectors(&self.disk)
    }

    /// Returns the selector in force.
    fn selector(&self) -> Result<Selector, SlotError> {
        let selector = selector::read(&self.disk)?;
        match self.boot_method {
            BootMethod::BootSector => Ok(selector),
            BootMethod::Firmware => {
                firmware::confirmed(&self.disk).map(|slot| selector.adopt_confirmed(slot))
            }
        }
    }

    /// Checks that the inactive slot could start: its boot files are where the loader looks, and its root can be mounted.
    /// Returns the manifest of its root.
    pub(crate) fn check_inactive(&self) -> Result<Manifest, SlotError> {
        let slot = !self.running;
        let incomplete = |reason: IncompleteReason| SlotError::Incomplete(slot, reason);
        let missing = match self.boot_method {
            BootMethod::BootSector => load_tables::changes(&self.disk, slot)
                .map(|writes| (!writes.is_empty()).then_some(IncompleteReason::StaleTables)),
            BootMethod::Firmware => firmware::missing(&self.disk, slot),
        };
        match missing {
            Ok(None) => {}
            Ok(Some(reason)) => return Err(incomplete(reason)),
            Err(error) => return Err(incomplete(Box::new(error).into())),
        }
        let manifest =
            inactive_root::read_manifest(&self.disk, slot).map_err(|error| incomplete(error.into()))?;
        match relocation::check(&self.disk, &manifest)? {
            None => Ok(manifest),
            Some(reason) => Err(incomplete(reason)),
        }
    }

    /// Moves the boot state to where the present format has it, if the build of `manifest` in the inactive slot knows that
    /// place. Returns true if it has moved.
    pub(crate) fn relocate_state(&self, manifest: &Manifest) -> Result<bool, SlotError> {
        relocation::relocate(&self.disk, &self.selector()?, manifest)
    }

    /// Arms a trial: the inactive slot boots once, at the next start. Returns the trial's generation.
    pub(crate) fn arm(&self, build_id: &str, kernel: TrialKernel) -> Result<u32, SlotError> {
        let slot = !self.running;
        let selector = self.selector()?;
        let armed = selector.arm(slot);
        // The note comes first: a power cut after it leaves a note of a generation that no trial has.
        self.write_note(&TrialNote::armed(slot, armed.generation, build_id))?;
        match self.boot_method {
            BootMethod::BootSector => write(&self.disk, &armed.writes(self.sectors()?))?,
            BootMethod::Firmware => firmware::arm(&self.disk, &armed, kernel == TrialKernel::Own)?,
        }
        Ok(armed.generation)
    }

    /// Makes the inactive slot boot once, at the next start, because the running, confirmed one cannot start: it failed at
    /// `stage` for `reason`. Fails if the inactive slot is not complete.
    pub(crate) fn fall_back(&self, stage: Stage, reason: &str) -> Result<(), SlotError> {
        self.check_inactive()?;
        let selector = self.selector()?.fall_back();
        let mut note = TrialNote::armed(self.running, selector.generation, "");
        note.stage = stage;
        reason.clone_into(&mut note.text);
        self.write_note(&note)?;
        match self.boot_method {
            BootMethod::BootSector => write(&self.disk, &selector.writes(self.sectors()?)),
            BootMethod::Firmware => {
                firmware::arm(&self.disk, &selector, self.trial_kernel()? == TrialKernel::Own)
            }
        }
    }

    /// Returns the reason why the other slot, which is confirmed, did not start and this one is the fallback.
    pub(crate) fn fallback_reason(&self, generation: u32) -> String {
        if let Some(note) = self.note(!self.running, generation) {
            return note.reason();
        }
        match self.check_inactive() {
            Err(error) => error.to_string(),
            Ok(_) => "the boot loader could not read its kernel or its load table".to_owned(),
        }
    }

    /// Confirms the running slot, which boots from now on.
    pub(crate) fn confirm(&self) -> Result<(), SlotError> {
        let selector = self.selector()?;
        match self.boot_method {
            BootMethod::BootSector => {
                write(&self.disk, &selector.confirm(self.running).writes(self.sectors()?))
            }
            BootMethod::Firmware => firmware::confirm(&self.disk, &selector, self.running),
        }
    }

    /// Drops a pending or failed trial; the confirmed slot stays.
    pub(crate) fn disarm(&self) -> Result<(), SlotError> {
        let selector = self.selector()?;
        match self.boot_method {
            BootMethod::BootSector => write(&self.disk, &selector.disarm().writes(self.sectors()?)),
            BootMethod::Firmware => firmware::disarm(&self.disk, &selector),
        }
    }

    /// Returns the note about the trial of `slot` with this generation. An unreadable note counts as none: it only
    /// explains a failure.
    pub(crate) fn note(&self, slot: Slot, generation: u32) -> Option<TrialNote> {
        let note = TrialNote::read(&mut File::open(self.disk.node()).ok()?).ok()?;
        // A note of another generation belongs to an earlier trial, and would give its reason to this one.
        (note.slot == slot && note.generation == generation).then_some(note)
    }

    /// Returns these slots as seen from the inactive one.
    pub(crate) fn as_inactive(&self) -> Self {
        Slots { running: !self.running, ..self.clone() }
    }

    /// Records the stage that the running slot's trial has reached, and the reason if it failed there. Without a reason
    /// the note's text stays.
    pub(crate) fn record_stage(&self, stage: Stage, reason: Option<&str>) -> Result<(), SlotError> {
        let generation = self.boot_status()?.generation;
        let known = self.note(self.running, generation);
        // A lost or damaged note is replaced by one without the build's id.
        let mut note = known.unwrap_or_else(|| TrialNote::armed(self.running, generation, ""));
        note.stage = stage;
        if let Some(reason) = reason {
            reason.clone_into(&mut note.text);
        }
        self.write_note(&note)
    }

    /// From now on the message of a panic goes to the note of the running slot's trial, as the reason it failed at
    /// `stage`.
    pub(crate) fn record_panics(&self, stage: Stage) {
        let slots = self.clone();
        crash::set_recorder(Some(Box::new(move |message| {
            if let Err(why) = slots.record_stage(stage, Some(message)) {
                crash::print(&format!("cannot write the trial's note: {why}"));
            }
        })));
    }

    /// Returns the sectors to write so that the boot loader's tables of `slot` agree with its files on `/boot`.
    pub(crate) fn table_changes(&self, slot: Slot) -> Result<Vec<SectorWrite>, SlotError> {
        match self.boot_method {
            BootMethod::BootSector => load_tables::changes(&self.disk, slot),
            BootMethod::Firmware => Ok(Vec::new()),
        }
    }

    /// Writes the sectors that [`Slots::table_changes`] returned.
    pub(crate) fn write_tables(&self, writes: &[SectorWrite]) -> Result<(), SlotError> {
        write(&self.disk, writes)
    }

    fn write_note(&self, note: &TrialNote) -> Result<(), SlotError> {
        write(&self.disk, &[note.write(self.sectors()?)])
    }
}

/// Writes sectors of the whole disk, each durable before the next begins.
fn write(disk: &Disk, writes: &[SectorWrite]) -> Result<(), SlotError> {
    disk.write_in_order(writes).map_err(|error| SlotError::io(disk, error))
}

/// Returns the extent of the boot partition by the partition table in `whole`, which is `disk` opened at its start.
fn boot_partition(disk: &Disk, whole: &mut File) -> Result<Extent, SlotError> {
    let mut sector = [0; SECTOR_SIZE as usize];
    whole.read_exact(&mut sector).map_err(|error| SlotError::io(disk, error))?;
    let mbr = Mbr::decode(&sector).map_err(|error| SlotError::partition_table(disk, error))?;
    Ok(mbr.layout.boot)
}

#[cfg(test)]
mod tests;
