//! The boot selector: the sector that decides which slot boots next. Format of our own.
//!
//! Two copies exist. The boot sector reads the primary one (LBA 1), and the spare one (LBA 2) when the primary
//! has no valid magic. A **trial** boots its slot once: the boot sector clears the trial byte on disk *before*
//! it loads anything, and boots the confirmed slot if it cannot. Any reset before a confirmation therefore
//! ends in the confirmed slot.
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
//! The rest is zero. The CRC leaves the trial byte out because the boot sector has no room to compute one.
//!
//! # Crash safety
//!
//! A change is written to the spare copy first and, once that is durable, to the primary one
//! ([`Selector::writes`]). The primary write is the commit; a spare copy never carries an armed trial. If
//! power fails in between, the copies disagree on the slot; [`SelectorCopies::needs_repair`] tells, and the
//! copies must be made equal before anyone touches the slot that is not running.

use std::io::{self, Read, Seek, SeekFrom};

use crate::ordered_write::SectorWrite;
use crate::size::{SECTOR_SIZE, Sectors};
use crate::slot::Slot;

/// Where the primary copy is.
pub const PRIMARY: Sectors = Sectors(1);

/// Where the spare copy is.
pub const SPARE: Sectors = Sectors(2);

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"KZSL";

/// The version this program writes and reads.
pub const VERSION: u16 = 1;

pub(crate) const CONFIRMED_OFFSET: usize = 8;
pub(crate) const TRIAL_OFFSET: usize = 9;
const CANDIDATE_OFFSET: usize = 10;
const GENERATION_OFFSET: usize = 12;
const CRC_OFFSET: usize = 508;
const NONE: u8 = 0xff;

/// One sector.
pub type SelectorSector = [u8; SECTOR_SIZE as usize];

/// Which slot boots. Methods change the value only; [`Selector::writes`] says what goes to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The slot that boots when no trial is armed.
    pub confirmed: Slot,
    /// The slot that boots once, at the next start.
    pub trial: Option<Slot>,
    /// The slot armed last and not confirmed since. It outlives the trial byte, so that the confirmed slot
    /// can tell that a trial took place and was not confirmed.
    pub candidate: Option<Slot>,
    /// Counted up at every change.
    pub generation: u32,
}

/// What a selector means to the system that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The confirmed slot runs and nothing is pending.
    Confirmed,
    /// The confirmed slot runs; the next start tries the other one.
    Armed,
    /// The other slot runs on trial: the next start returns unless it is confirmed.
    OnTrial,
    /// The confirmed slot runs after a trial of the other one that was not confirmed.
    Reverted,
    /// A slot runs that this selector neither confirms nor tried, such as after a change by hand.
    Unexpected,
}

/// Why a sector is not a selector.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// No selector, or one overwritten by something else.
    #[error("sector {0} holds no boot selector")]
    Magic(u32),
    /// Written by a newer version.
    #[error("the boot selector in sector {sector} has version {version}, this program reads {VERSION}")]
    Version {
        /// Where it was read.
        sector: u32,
        /// What it says.
        version: u16,
    },
    /// The CRC does not match.
    #[error("the boot selector in sector {0} is damaged: wrong checksum")]
    Checksum(u32),
    /// A byte that should name a slot does not.
    #[error("the boot selector in sector {sector} names slot {value:#04x}")]
    Slot {
        /// Where it was read.
        sector: u32,
        /// What it says.
        value: u8,
    },
    /// The disk could not be read.
    #[error("failed to read the boot selector in sector {sector}")]
    Read {
        /// Where it was to be read.
        sector: u32,
        /// What the disk answered.
        source: io::Error,
    },
}

impl Selector {
    /// The selector of a new image: `slot` is confirmed.
    pub const fn confirmed(slot: Slot) -> Self {
        Selector { confirmed: slot, trial: None, candidate: None, generation: 1 }
    }

    /// `slot` boots once at the next start. In memory only.
    #[must_use]
    pub fn arm(self, slot: Slot) -> Self {
        Selector { trial: Some(slot), candidate: Some(slot), ..self }.next()
    }

    /// `slot` boots from now on; a pending trial is dropped. In memory only.
    #[must_use]
    pub fn confirm(self, slot: Slot) -> Self {
        Selector { confirmed: slot, trial: None, candidate: None, ..self }.next()
    }

    /// The confirmed slot stays, a pending or failed trial is forgotten. In memory only.
    #[must_use]
    pub fn disarm(self) -> Self {
        self.confirm(self.confirmed)
    }

    /// What this means to a system that runs from `running`.
    pub fn standing(&self, running: Slot) -> Standing {
        match (running == self.confirmed, self.candidate) {
            (true, None) => Standing::Confirmed,
            (true, Some(_)) if self.trial.is_some() => Standing::Armed,
            (true, Some(candidate)) if candidate != running => Standing::Reverted,
            (true, Some(_)) => Standing::Confirmed,
            (false, Some(candidate)) if candidate == running && self.trial.is_none() => Standing::OnTrial,
            (false, _) => Standing::Unexpected,
        }
    }

    /// The sector as it stands on the disk.
    pub fn encode(&self) -> SelectorSector {
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

    /// Reads the sector that stands at `lba`, which only error messages use.
    pub fn decode(bytes: &SelectorSector, lba: Sectors) -> Result<Self, SelectorError> {
        let sector = lba.0;
        if bytes[..4] != MAGIC {
            return Err(SelectorError::Magic(sector));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(SelectorError::Version { sector, version });
        }
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

    /// What makes this the disk's selector: the spare copy without the trial, then the primary one. The first
    /// must be durable before the second begins; see [`crate::ordered_write::write_in_order`].
    pub fn writes(&self) -> [SectorWrite; 2] {
        let spare = Selector { trial: None, ..*self };
        [(SPARE, spare), (PRIMARY, *self)]
            .map(|(at, selector)| SectorWrite { at, bytes: selector.encode().to_vec() })
    }

    fn next(self) -> Self {
        Selector { generation: self.generation.wrapping_add(1), ..self }
    }
}

/// Both copies, read from a disk.
#[derive(Debug)]
pub struct SelectorCopies {
    /// LBA 1.
    pub primary: Result<Selector, SelectorError>,
    /// LBA 2.
    pub spare: Result<Selector, SelectorError>,
}

impl SelectorCopies {
    /// Reads both copies of a disk that begins at the reader's position 0.
    pub fn read(disk: &mut (impl Read + Seek)) -> Self {
        let mut read = |lba: Sectors| {
            let mut bytes = [0; SECTOR_SIZE as usize];
            disk.seek(SeekFrom::Start(lba.bytes().0))
                .and_then(|_| disk.read_exact(&mut bytes))
                .map_err(|source| SelectorError::Read { sector: lba.0, source })?;
            Selector::decode(&bytes, lba)
        };
        SelectorCopies { primary: read(PRIMARY), spare: read(SPARE) }
    }

    /// The selector in force: the primary copy, else the spare one, else the primary's error.
    pub fn selector(&self) -> Result<Selector, &SelectorError> {
        self.primary.as_ref().or_else(|primary| self.spare.as_ref().map_err(|_| primary)).copied()
    }

    /// Whether a copy is damaged or the two disagree. Writing the selector in force again repairs that.
    pub fn needs_repair(&self) -> bool {
        match (&self.primary, &self.spare) {
            (Ok(primary), Ok(spare)) => Selector { trial: None, ..*primary } != *spare,
            _ => true,
        }
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
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::ordered_write::write_in_order;

    fn disk(selector: Selector) -> Cursor<Vec<u8>> {
        let mut disk = Cursor::new(vec![0; 3 * 512]);
        write_in_order(&mut disk, &selector.writes(), |_| Ok(())).unwrap();
        disk
    }

    #[test]
    fn golden_bytes() {
        let sector =
            Selector { generation: 0x0102_0304, ..Selector::confirmed(Slot::A) }.arm(Slot::B).encode();
        // The CRC was computed by another program (zlib).
        let mut expected = [0; 512];
        expected[..16].copy_from_slice(b"KZSL\x01\0\0\0\x00\x01\x01\0\x05\x03\x02\x01");
        expected[508..].copy_from_slice(&[0x12, 0x5a, 0xd1, 0x4e]);
        assert!(sector == expected, "{sector:x?}");
    }

    #[test]
    fn the_boot_sector_may_clear_the_trial_without_a_checksum() {
        let armed = Selector::confirmed(Slot::A).arm(Slot::B);
        let mut sector = armed.encode();
        sector[TRIAL_OFFSET] = 0xff;
        let booted = Selector::decode(&sector, PRIMARY).unwrap();
        assert_eq!(booted, Selector { trial: None, ..armed });
        assert_eq!(booted.standing(Slot::B), Standing::OnTrial);
        assert_eq!(booted.standing(Slot::A), Standing::Reverted);
        assert_eq!(armed.standing(Slot::A), Standing::Armed);
        assert_eq!(booted.confirm(Slot::B).standing(Slot::B), Standing::Confirmed);
        assert_eq!(booted.confirm(Slot::B).standing(Slot::A), Standing::Unexpected);
        assert_eq!(booted.disarm().standing(Slot::A), Standing::Confirmed);
    }

    #[test]
    fn the_spare_copy_is_written_first_and_never_armed() {
        let [spare, primary] = Selector::confirmed(Slot::A).arm(Slot::B).writes();
        assert_eq!((spare.at, primary.at), (SPARE, PRIMARY));
        assert_eq!(spare.bytes[TRIAL_OFFSET], 0xff);
        assert_eq!(primary.bytes[TRIAL_OFFSET], 1);
    }

    #[test]
    fn the_spare_copy_stands_in_for_a_damaged_primary() {
        let selector = Selector::confirmed(Slot::B);
        let mut disk = disk(selector);
        let copies = SelectorCopies::read(&mut disk);
        assert!(!copies.needs_repair());
        disk.get_mut()[512 + CONFIRMED_OFFSET] = 0;
        let copies = SelectorCopies::read(&mut disk);
        assert_eq!(copies.selector().unwrap(), selector);
        assert!(copies.needs_repair());
        let message = copies.primary.unwrap_err().to_string();
        assert_eq!(message, "the boot selector in sector 1 is damaged: wrong checksum");
    }

    #[test]
    fn after_every_interrupted_change_a_complete_selector_is_in_force() {
        let old = Selector::confirmed(Slot::A);
        for new in [old.arm(Slot::B), old.confirm(Slot::B)] {
            for done in 0..=2 {
                // The write that power interrupted left garbage.
                let mut disk = disk(old);
                let writes = new.writes();
                write_in_order(&mut disk, &writes[..done], |_| Ok(())).unwrap();
                if let Some(torn) = writes.get(done) {
                    let start = torn.at.bytes().0 as usize;
                    disk.get_mut()[start..start + 512].fill(0x5a);
                }
                let copies = SelectorCopies::read(&mut disk);
                let in_force = copies.selector().unwrap();
                let without_trial = Selector { trial: None, ..new };
                let expected = [old, without_trial, new][done];
                assert_eq!(in_force, expected, "{done} of {new:?}");
                assert_eq!(copies.needs_repair(), done < 2);
            }
        }
    }

    #[test]
    fn wrong_sectors_are_told_apart() {
        let zeros = SelectorCopies::read(&mut Cursor::new(vec![0; 1536]));
        assert_eq!(zeros.selector().unwrap_err().to_string(), "sector 1 holds no boot selector");
        let short = SelectorCopies::read(&mut Cursor::new(vec![0; 700]));
        assert!(matches!(short.primary, Err(SelectorError::Read { sector: 1, .. })));
        let mut sector = Selector::confirmed(Slot::A).encode();
        sector[TRIAL_OFFSET] = 7;
        let error = Selector::decode(&sector, SPARE).unwrap_err().to_string();
        assert_eq!(error, "the boot selector in sector 2 names slot 0x07");
        sector[4] = 9;
        let error = Selector::decode(&sector, SPARE).unwrap_err().to_string();
        assert_eq!(error, "the boot selector in sector 2 has version 9, this program reads 1");
    }

    proptest! {
        #[test]
        fn any_selector_survives_and_any_sector_is_answered(
            confirmed in 0..2usize, trial in 0..3usize, candidate in 0..3usize, generation: u32,
            at in 0..512usize, value: u8,
        ) {
            let slot = |index: usize| Slot::ALL.get(index).copied();
            let selector = Selector {
                confirmed: Slot::ALL[confirmed], trial: slot(trial), candidate: slot(candidate), generation,
            };
            let mut sector = selector.encode();
            prop_assert_eq!(Selector::decode(&sector, PRIMARY).unwrap(), selector);
            let changed = sector[at] != value;
            sector[at] = value;
            let decoded = Selector::decode(&sector, PRIMARY);
            prop_assert_eq!(decoded.is_err(), changed && (at != TRIAL_OFFSET || (2..255).contains(&value)));
        }
    }
}
