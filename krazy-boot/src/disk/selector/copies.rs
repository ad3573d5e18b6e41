//! The two copies of the selector on a disk.

use std::io::{self, Read, Seek, SeekFrom};

use super::{Selector, SelectorError};
use crate::disk::layout::StateSectors;
use crate::disk::mbr;
use crate::disk::size::{SECTOR_SIZE, Sectors};

/// A failure to read a selector.
#[derive(Debug, thiserror::Error)]
pub enum ReadSelectorError {
    /// The sector holds no valid selector.
    #[error(transparent)]
    Invalid(#[from] SelectorError),
    /// The disk could not be read.
    #[error("failed to read the boot selector in sector {sector}")]
    Read {
        /// The sector.
        sector: u32,
        /// The disk's error.
        source: io::Error,
    },
}

/// Both copies of the selector, as read from a disk.
#[derive(Debug)]
pub struct SelectorCopies {
    /// The copy that decides.
    pub primary: Result<Selector, ReadSelectorError>,
    /// The copy that replaces a damaged one.
    pub spare: Result<Selector, ReadSelectorError>,
}

impl SelectorCopies {
    /// Reads both copies of a disk that begins at the reader's position 0.
    pub fn read(disk: &mut (impl Read + Seek)) -> Self {
        let sectors = mbr::state_sectors(disk);
        let mut read = |lba: Sectors| {
            let mut bytes = [0; SECTOR_SIZE as usize];
            disk.seek(SeekFrom::Start(lba.bytes().0))
                .and_then(|_| disk.read_exact(&mut bytes))
                .map_err(|source| ReadSelectorError::Read { sector: lba.0, source })?;
            Ok(Selector::decode(&bytes, lba)?)
        };
        match sectors {
            Ok(StateSectors { selector, spare, .. }) => {
                SelectorCopies { primary: read(selector), spare: read(spare) }
            }
            Err(_) => SelectorCopies { primary: read(Sectors(0)), spare: read(Sectors(0)) },
        }
    }

    /// Returns the selector in force: the primary copy, else the spare one, else the error of the primary copy.
    pub fn selector(&self) -> Result<Selector, &ReadSelectorError> {
        self.primary.as_ref().or_else(|primary| self.spare.as_ref().map_err(|_| primary)).copied()
    }

    /// Returns true if a copy is damaged or the copies disagree. Writing the selector in force again repairs both.
    pub fn needs_repair(&self) -> bool {
        match (&self.primary, &self.spare) {
            // An armed trial is in the primary copy only, and no damage.
            (Ok(primary), Ok(spare)) => Selector { trial: None, ..*primary } != *spare,
            _ => true,
        }
    }
}
