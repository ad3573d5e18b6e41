//! The trial note: one sector with the progress of a trial, so that a failure can be explained. A format of this project.
//!
//! Init writes it when it arms a trial, the first stage and init of the slot on trial update it, and the confirmed slot
//! reads it after a failed trial. It is on no partition, so it works before anything is mounted, and without `/data`. It
//! decides nothing: the [selector](crate::disk::selector) alone decides which slot boots, and a note that is damaged or
//! missing costs the explanation only.
//!
//! | bytes | content |
//! |---|---|
//! | 0 … 3 | magic `KZTN` |
//! | 4, 5 | format version, 1 |
//! | 6 | slot on trial: 0 is A, 1 is B |
//! | 7 | [`Stage`] |
//! | 8 … 11 | generation of the selector that armed the trial |
//! | 12, 13 | length of the build id |
//! | 14, 15 | length of the text |
//! | 16 … 79 | build id, UTF-8 |
//! | 80 … 479 | text, UTF-8 |
//! | 508 … 511 | CRC-32 (IEEE) of bytes 0 … 507 |
//!
//! The rest is zero.

use std::io::{self, Read, Seek, SeekFrom};

use crate::disk::layout::StateSectors;
use crate::disk::mbr;
use crate::disk::ordered_write::SectorWrite;
use crate::disk::size::SECTOR_SIZE;
use crate::disk::slot::Slot;

/// The first four bytes.
const MAGIC: [u8; 4] = *b"KZTN";

/// The supported format version.
const VERSION: u16 = 1;

/// The longest build id kept, in bytes: SHA-256 in hex.
const MAX_BUILD_ID: usize = 64;

/// The longest text kept, in bytes.
const MAX_TEXT: usize = 400;

const SLOT_OFFSET: usize = 6;
const STAGE_OFFSET: usize = 7;
const GENERATION_OFFSET: usize = 8;
const BUILD_ID_LEN_OFFSET: usize = 12;
const TEXT_LEN_OFFSET: usize = 14;
const BUILD_ID_OFFSET: usize = 16;
const TEXT_OFFSET: usize = BUILD_ID_OFFSET + MAX_BUILD_ID;
const CRC_OFFSET: usize = 508;

/// The progress of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The trial is armed; nothing of the slot has run yet.
    Armed,
    /// The slot's kernel runs, and its first stage has found the disk.
    FirstStage,
    /// The slot's root is mounted.
    RootMounted,
    /// The slot's init runs.
    Init,
    /// Init finished the trial without a confirmation; the text is the reason.
    Finished,
}

/// The note about the trial that was armed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialNote {
    /// The slot on trial.
    pub slot: Slot,
    /// [`Selector::generation`](crate::disk::selector::Selector::generation) of the selector that armed it. A note whose
    /// generation is not the selector's is about another trial.
    pub generation: u32,
    /// Its progress.
    pub stage: Stage,
    /// The build on trial, cut to 64 bytes.
    pub build_id: String,
    /// The reason for its failure, if one was reported; cut to 400 bytes.
    pub text: String,
}

/// A failure to read the note.
#[derive(Debug, thiserror::Error)]
pub enum TrialNoteError {
    /// The sector holds no note.
    #[error("its sector holds no trial note")]
    Magic,
    /// The note was written by a newer version.
    #[error("the trial note has version {0}, this program reads {VERSION}")]
    Version(u16),
    /// The checksum or a field is wrong, for example after an interrupted write.
    #[error("the trial note is damaged")]
    Damaged,
    /// The disk could not be read.
    #[error("failed to read the trial note")]
    Read(#[source] io::Error),
}

impl TrialNote {
    /// Returns the note of a trial that is about to be armed.
    pub fn armed(slot: Slot, generation: u32, build_id: &str) -> Self {
        TrialNote {
            slot,
            generation,
            stage: Stage::Armed,
            build_id: cut(build_id, MAX_BUILD_ID).to_owned(),
            text: String::new(),
        }
    }

    /// Encodes the sector.
    pub(crate) fn encode(&self) -> [u8; SECTOR_SIZE as usize] {
        let mut sector = [0; SECTOR_SIZE as usize];
        sector[..4].copy_from_slice(&MAGIC);
        sector[4..6].copy_from_slice(&VERSION.to_le_bytes());
        sector[SLOT_OFFSET] = self.slot.index() as u8;
        sector[STAGE_OFFSET] = self.stage as u8;
        sector[GENERATION_OFFSET..GENERATION_OFFSET + 4].copy_from_slice(&self.generation.to_le_bytes());
        let texts = [
            (BUILD_ID_LEN_OFFSET, BUILD_ID_OFFSET, cut(&self.build_id, MAX_BUILD_ID)),
            (TEXT_LEN_OFFSET, TEXT_OFFSET, cut(&self.text, MAX_TEXT)),
        ];
        for (length, start, text) in texts {
            sector[length..length + 2].copy_from_slice(&(text.len() as u16).to_le_bytes());
            sector[start..start + text.len()].copy_from_slice(text.as_bytes());
        }
        let crc = crc32fast::hash(&sector[..CRC_OFFSET]);
        sector[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    /// Decodes the sector.
    pub(crate) fn decode(sector: &[u8; SECTOR_SIZE as usize]) -> Result<Self, TrialNoteError> {
        if sector[..4] != MAGIC {
            return Err(TrialNoteError::Magic);
        }
        let number = |at: usize| u16::from_le_bytes([sector[at], sector[at + 1]]);
        if number(4) != VERSION {
            return Err(TrialNoteError::Version(number(4)));
        }
        if sector[CRC_OFFSET..] != crc32fast::hash(&sector[..CRC_OFFSET]).to_le_bytes() {
            return Err(TrialNoteError::Damaged);
        }
        let text = |start: usize, length: u16, longest: usize| {
            let length = usize::from(length);
            let bytes = (length <= longest).then(|| &sector[start..start + length])?;
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        };
        let note = || {
            Some(TrialNote {
                slot: Slot::ALL.into_iter().find(|slot| slot.index() == usize::from(sector[SLOT_OFFSET]))?,
                generation: u32::from(number(GENERATION_OFFSET))
                    | u32::from(number(GENERATION_OFFSET + 2)) << 16,
                stage: Stage::from_byte(sector[STAGE_OFFSET])?,
                build_id: text(BUILD_ID_OFFSET, number(BUILD_ID_LEN_OFFSET), MAX_BUILD_ID)?,
                text: text(TEXT_OFFSET, number(TEXT_LEN_OFFSET), MAX_TEXT)?,
            })
        };
        note().ok_or(TrialNoteError::Damaged)
    }

    /// Reads the note of a disk that begins at the reader's position 0.
    pub fn read(disk: &mut (impl Read + Seek)) -> Result<Self, TrialNoteError> {
        let mut sector = [0; SECTOR_SIZE as usize];
        mbr::state_sectors(disk)
            .and_then(|sectors| disk.seek(SeekFrom::Start(sectors.note.bytes().0)))
            .and_then(|_| disk.read_exact(&mut sector))
            .map_err(TrialNoteError::Read)?;
        Self::decode(&sector)
    }

    /// Returns the write that makes this the note of a disk with the boot state in `sectors`.
    pub fn write(&self, sectors: StateSectors) -> SectorWrite {
        SectorWrite { at: sectors.note, bytes: self.encode().to_vec() }
    }

    /// Returns the reason for the failure as a sentence without its final stop.
    pub fn reason(&self) -> String {
        let without_notice =
            "without notice: power was cut, or the kernel or the watchdog restarted the machine";
        match (self.stage, self.text.as_str()) {
            (Stage::Finished, text) if !text.is_empty() => text.to_owned(),
            (Stage::Armed, text) if !text.is_empty() => format!("its kernel could not be started: {text}"),
            (Stage::Armed, _) => {
                "the kernel did not reach its first stage: it crashed or hung, or did not find the disk"
                    .to_owned()
            }
            (Stage::FirstStage, "") => format!("it ended {without_notice}, before the root was mounted"),
            (Stage::RootMounted, "") => format!("it ended {without_notice}, before init ran"),
            (Stage::Init | Stage::Finished, "") => format!("it ended {without_notice}, while init ran"),
            (Stage::FirstStage | Stage::RootMounted, text) => format!("the first stage failed: {text}"),
            (Stage::Init | Stage::Finished, text) => format!("init failed: {text}"),
        }
    }
}

impl Stage {
    fn from_byte(byte: u8) -> Option<Self> {
        [Stage::Armed, Stage::FirstStage, Stage::RootMounted, Stage::Init, Stage::Finished]
            .into_iter()
            .find(|stage| *stage as u8 == byte)
    }
}

/// Returns the longest beginning of `text` that has at most `longest` bytes.
fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests;
