//! The boot selector: the sector that decides which slot boots next. A format of this project.
//!
//! There are two copies ([`StateSectors`]). The boot sector reads the primary one, and the spare one if the primary one has
//! no valid magic or names no slot. A **trial** boots its slot once: the boot sector clears the trial byte on the disk
//! *before* it loads anything, and boots the confirmed slot if it cannot clear it. Any reset before the confirmation
//! therefore boots the confirmed slot.
//!
//! | bytes | content |
//! |---|---|
//! | 0 … 3 | magic `KZSL` |
//! | 4, 5 | format version, 1 |
//! | 8 | confirmed slot: 0 is A, 1 is B |
//! | 9 | trial slot, 0xff for none; the boot sector writes 0xff here |
//! | 10 | candidate: the slot armed last and not confirmed since, 0xff for none |
//! | 12 … 15 | generation, counted up at every change |
//! | 508 … 511 | CRC-32 (IEEE) of bytes 0 … 507, the trial byte counted as 0xff |
//!
//! The rest is zero. The CRC leaves the trial byte out because the boot sector has no room for the code that computes
//! one (it has 440 bytes in all).
//!
//! # Crash safety
//!
//! A change is written to the spare copy first and, once that is durable, to the primary one
//! ([`Selector::writes`]). The primary write is the commit. A spare copy never has an armed trial: the boot sector clears
//! the primary copy only, so a trial in the spare one could boot more than once. If power fails between the two writes,
//! the copies disagree on the slot, and [`SelectorCopies::needs_repair`] returns true: the copies must be made equal
//! before the inactive slot is changed, because the older copy may still name it.

#[cfg(feature = "std")]
mod copies;

use serde::{Deserialize, Serialize};

use crate::disk::layout::StateSectors;
use crate::disk::ordered_write::SectorWrite;
use crate::disk::size::{SECTOR_SIZE, Sectors};
use crate::disk::slot::Slot;

#[cfg(feature = "std")]
pub use self::copies::{ReadSelectorError, SelectorCopies};

/// The first four bytes.
pub(crate) const MAGIC: [u8; 4] = *b"KZSL";

/// The supported format version.
const VERSION: u16 = 1;

pub(crate) const CONFIRMED_OFFSET: usize = 8;
pub(crate) const TRIAL_OFFSET: usize = 9;
const CANDIDATE_OFFSET: usize = 10;
const GENERATION_OFFSET: usize = 12;
const CRC_OFFSET: usize = 508;
const NONE: u8 = 0xff;

/// One sector.
pub type SelectorSector = [u8; SECTOR_SIZE as usize];

/// The decision about the slot that boots. Methods return a new value and do not write to the disk;
/// [`Selector::writes`] returns the sectors to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The slot that boots when no trial is armed.
    pub confirmed: Slot,
    /// The slot that boots once, at the next start.
    pub trial: Option<Slot>,
    /// The slot that was armed last and not confirmed since. It stays when the trial byte is cleared, so that the
    /// confirmed slot can see that a trial took place and failed.
    pub candidate: Option<Slot>,
    /// Counted up at every change.
    pub generation: u32,
}

/// State of the running slot, as the selector gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// The confirmed slot runs and nothing is pending.
    Confirmed,
    /// The confirmed slot runs; the next start tries the other one.
    Armed,
    /// The other slot runs on trial: the next start boots the confirmed slot unless the trial is confirmed.
    OnTrial,
    /// The confirmed slot runs after a trial of the other one that was not confirmed.
    Reverted,
    /// The running slot is neither confirmed nor on trial: the confirmed slot could not start. The next start tries that
    /// one first again.
    #[serde(alias = "unexpected")]
    Fallback,
}

/// A sector that is no valid selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The sector holds no selector.
    #[error("sector {0} holds no boot selector")]
    Magic(u32),
    /// The selector was written by a newer version.
    #[error("the boot selector in sector {sector} has version {version}, this program reads {VERSION}")]
    Version {
        /// The sector.
        sector: u32,
        /// The version in it.
        version: u16,
    },
    /// The checksum does not match.
    #[error("the boot selector in sector {0} is damaged: wrong checksum")]
    Checksum(u32),
    /// A byte that should name a slot does not.
    #[error("the boot selector in sector {sector} names slot {value:#04x}")]
    Slot {
        /// The sector.
        sector: u32,
        /// The byte.
        value: u8,
    },
}

impl SlotState {
    /// The state as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            SlotState::Confirmed => "confirmed",
            SlotState::Armed => "armed",
            SlotState::OnTrial => "on-trial",
            SlotState::Reverted => "reverted",
            SlotState::Fallback => "fallback",
        }
    }
}

impl Selector {
    /// Returns the selector of a new image: `slot` is confirmed.
    pub const fn confirmed(slot: Slot) -> Self {
        Selector { confirmed: slot, trial: None, candidate: None, generation: 1 }
    }

    /// Arms a trial: `slot` boots once, at the next start. In memory only.
    #[must_use]
    pub fn arm(self, slot: Slot) -> Self {
        Selector { trial: Some(slot), candidate: Some(slot), ..self }.next()
    }

    /// Confirms `slot`, which boots from now on, and drops a pending trial. In memory only.
    #[must_use]
    pub fn confirm(self, slot: Slot) -> Self {
        Selector { confirmed: slot, trial: None, candidate: None, ..self }.next()
    }

    /// Drops a pending or failed trial; the confirmed slot stays. In memory only.
    #[must_use]
    pub fn disarm(self) -> Self {
        self.confirm(self.confirmed)
    }

    /// Makes the slot that is not confirmed boot once, at the next start, and not on trial: the confirmed slot cannot start.
    /// In memory only.
    #[must_use]
    pub fn fall_back(self) -> Self {
        Selector { trial: Some(!self.confirmed), candidate: None, ..self }.next()
    }

    /// Starts the pending trial as the boot sector would: returns its slot, and the write that clears the trial, which
    /// must be durable before anything of that slot runs. The first stage does this on boards whose firmware does not
    /// support trials.
    pub(crate) fn start_trial(&self, sectors: StateSectors) -> Option<(Slot, SectorWrite)> {
        // Only the primary copy, because the spare one never has a trial. The generation stays: the trial's note refers
        // to it.
        let cleared = Selector { trial: None, ..*self };
        let write = SectorWrite { at: sectors.selector, bytes: cleared.encode().to_vec() };
        self.trial.map(|slot| (slot, write))
    }

    /// Adopts the slot that a firmware's own settings name, as `config.txt` does. A confirmation writes those first, so a
    /// selector that names the other slot is one whose confirmation was interrupted. In memory only.
    #[must_use]
    pub fn adopt_confirmed(self, confirmed: Slot) -> Self {
        if self.confirmed == confirmed { self } else { self.confirm(confirmed) }
    }

    /// Returns the state of the slot `running`, from which the system runs.
    pub fn slot_state(&self, running: Slot) -> SlotState {
        match (running == self.confirmed, self.candidate) {
            (true, None) => SlotState::Confirmed,
            (true, Some(_)) if self.trial.is_some() => SlotState::Armed,
            (true, Some(candidate)) if candidate != running => SlotState::Reverted,
            (true, Some(_)) => SlotState::Confirmed,
            (false, Some(candidate)) if candidate == running && self.trial.is_none() => SlotState::OnTrial,
            (false, _) => SlotState::Fallback,
        }
    }

    /// Encodes the sector.
    pub(crate) fn encode(&self) -> SelectorSector {
        let mut sector = [0; SECTOR_SIZE as usize];
        sector[..4].copy_from_slice(&MAGIC);
        sector[4..6].copy_from_slice(&VERSION.to_le_bytes());
        sector[CONFIRMED_OFFSET] = slot_byte(Some(self.confirmed));
        sector[TRIAL_OFFSET] = slot_byte(self.trial);
        sector[CANDIDATE_OFFSET] = slot_byte(self.candidate);
        sector[GENERATION_OFFSET..GENERATION_OFFSET + 4].copy_from_slice(&self.generation.to_le_bytes());
        let crc = checksum(&sector);
        sector[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    /// Decodes a sector that was read from `lba`, which only error messages use.
    pub(crate) fn decode(bytes: &SelectorSector, lba: Sectors) -> Result<Self, SelectorError> {
        let sector = lba.0;
        if bytes[..4] != MAGIC {
            return Err(SelectorError::Magic(sector));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(SelectorError::Version { sector, version });
        }
        Self::decode_any_version(bytes, lba)
    }

    /// Decodes a sector that has the magic, and maybe another version.
    pub(crate) fn decode_any_version(bytes: &SelectorSector, lba: Sectors) -> Result<Self, SelectorError> {
        let sector = lba.0;
        if bytes[CRC_OFFSET..] != checksum(bytes).to_le_bytes() {
            return Err(SelectorError::Checksum(sector));
        }
        let slot = |offset: usize| match bytes[offset] {
            0 => Ok(Some(Slot::A)),
            1 => Ok(Some(Slot::B)),
            NONE => Ok(None),
            value => Err(SelectorError::Slot { sector, value }),
        };
        let confirmed =
            slot(CONFIRMED_OFFSET)?.ok_or(SelectorError::Slot { sector, value: bytes[CONFIRMED_OFFSET] })?;
        let generation = &bytes[GENERATION_OFFSET..GENERATION_OFFSET + 4];
        Ok(Selector {
            confirmed,
            trial: slot(TRIAL_OFFSET)?,
            candidate: slot(CANDIDATE_OFFSET)?,
            generation: generation.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
        })
    }

    /// Returns the writes that make this the selector of a disk with the boot state in `sectors`: the spare copy without
    /// the trial, then the primary one.
    /// The first must be durable before the second begins ([`crate::disk::ordered_write::write_in_order`]): with both
    /// in flight, a power cut could damage both.
    pub fn writes(&self, sectors: StateSectors) -> [SectorWrite; 2] {
        let spare = Selector { trial: None, ..*self };
        [(sectors.spare, spare), (sectors.selector, *self)]
            .map(|(at, selector)| SectorWrite { at, bytes: selector.encode().to_vec() })
    }

    fn next(self) -> Self {
        // Generations are compared for equality only, so they may wrap around.
        Selector { generation: self.generation.wrapping_add(1), ..self }
    }
}

fn slot_byte(slot: Option<Slot>) -> u8 {
    slot.map_or(NONE, |slot| slot.index() as u8)
}

fn checksum(sector: &SelectorSector) -> u32 {
    let mut counted = *sector;
    counted[TRIAL_OFFSET] = NONE;
    crc32fast::hash(&counted[..CRC_OFFSET])
}

#[cfg(test)]
mod tests;
