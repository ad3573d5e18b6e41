//! Writes an update to the inactive slot.
//!
//! Before anything is written, the file system of `/boot` is checked and repaired: an earlier update may have ended in a
//! power cut, and files of the other slot must not share clusters with the new ones.
//!
//! The order of the writes keeps the device bootable at every moment. Each line is durable before the next one begins:
//!
//! 1. the slot is made unbootable: the first sector of its load table becomes zero ([`crate::boot::slot_area`]), its
//!    record and its command line are removed from `/boot`, and then its other files. The load table is first because it
//!    refers to sectors that `/boot` may reuse from then on; the record is next because it claims a content that is about
//!    to go;
//! 2. the parts are written as they arrive, the root to its partition, the others as files on `/boot`;
//! 3. everything is read back past all caches and compared with the manifest's hashes, files from the same sectors that
//!    the boot sector would load;
//! 4. command line and record are written, then the load table, its first sector last. A table is computed from the files'
//!    sectors, so it can only be made when they are final.
//!
//! Only then may init arm the slot, by one sector of [`crate::disk::selector`]. So a slot that has a load table is complete,
//! and nothing before the arming changes which slot boots. A disk that a firmware starts (a Raspberry Pi's) has no load
//! tables; an incomplete slot lacks the command line there.
//!
//! Parts are hashed once, when they are read back. During writing only a CRC-32 is computed, so that SHA-256 runs once over
//! every byte. If a hash is wrong, the CRC distinguishes a bundle that contradicts its
//! manifest from a disk that does not return the written data.
//!
//! The engine uses neither files nor sockets: it works on a [`Target`], which in the tests is a simulated disk whose power
//! is cut after every sector.

use std::io::{self, Read, Seek, SeekFrom};

use super::delta::DeltaError;
use super::refusal::Refusal;
use crate::boot::config_txt::ConfigTxtError;
use crate::boot::slot_area::SlotAreaError;
use crate::disk::boot_fat::{BootFat, FatError};
use crate::disk::layout::Extent;
use crate::disk::mbr::{self, Mbr, MbrError};
use crate::disk::selector::{ReadSelectorError, Selector, SelectorCopies, SelectorError};
use crate::disk::size::{Bytes, SECTOR_SIZE};
use crate::disk::slot::Slot;

mod aligned;
mod content;
mod output;
mod read_back;
mod session;

pub use aligned::{ALIGNMENT, Aligned};
pub use content::{is_complete, measure, read_record, read_signed, remove_record};
pub use session::Session;

/// Bytes read and written at a time: long enough for any disk's full speed, short enough for a small memory.
const PIECE: usize = 256 << 10;

/// A disk, and the file system on its first partition.
pub trait Target {
    /// Reads the disk from `offset` on, possibly from a cache. Used for data that the update does not change.
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()>;

    /// Reads the disk from `offset` on, past every cache.
    fn read_back(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes to the disk from `offset` on.
    fn write_at(&mut self, offset: Bytes, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written to the disk durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Checks the file system of `/boot` and repairs it. Damaged files of `slot`, which is about to be rewritten, may go.
    fn repair_boot(&mut self, slot: Slot) -> io::Result<()>;

    /// Returns the free space on `/boot`.
    fn boot_free(&self) -> io::Result<Bytes>;

    /// Appends to a file on `/boot`, or replaces it if `new`.
    fn write_boot(&mut self, name: &str, new: bool, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file from `/boot`. A missing file is no error.
    fn remove_boot(&mut self, name: &str) -> io::Result<()>;

    /// Makes everything on `/boot` durable, also on a disk with a write cache. From then to the next write, `/boot` may be
    /// read-only.
    fn sync_boot(&mut self) -> io::Result<()>;
}

/// A failure of an update.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The bundle cannot be used, or contradicts its manifest.
    #[error("{detail}")]
    Refused {
        /// The reason for programs.
        refusal: Refusal,
        /// The reason for people.
        detail: String,
    },
    /// A stream cannot be applied.
    #[error("the {part} of the update cannot be applied")]
    Stream {
        /// The part.
        part: String,
        /// The defect of its stream.
        source: DeltaError,
    },
    /// The disk cannot be read or written.
    #[error("failed to {operation} the disk at sector {sector}")]
    Disk {
        /// `read` or `write`.
        operation: &'static str,
        /// The first sector of the access.
        sector: u64,
        /// The disk's error.
        source: io::Error,
    },
    /// Written data cannot be made durable.
    #[error("failed to sync the disk")]
    Sync(#[source] io::Error),
    /// `/boot` cannot be changed.
    #[error("failed to {operation} on /boot")]
    Boot {
        /// The operation and the file's name.
        operation: String,
        /// The file system's error.
        source: io::Error,
    },
    /// LBA 0 has another layout.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// The file system of `/boot` cannot be read.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// A Raspberry Pi's `config.txt` cannot be used.
    #[error(transparent)]
    ConfigTxt(#[from] ConfigTxtError),
    /// The boot selector cannot be read.
    #[error(transparent)]
    Selector(#[from] ReadSelectorError),
    /// The new slot cannot be booted.
    #[error("the update cannot be booted")]
    SlotArea(#[from] SlotAreaError),
}

impl EngineError {
    /// Returns the reason if the update causes the failure; `None` if the device does.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            EngineError::Refused { refusal, .. } => Some(*refusal),
            EngineError::Stream { source: DeltaError::Apply(_), .. } => None,
            EngineError::Stream { source: DeltaError::Base { .. }, .. } => Some(Refusal::Base),
            EngineError::Stream { .. } | EngineError::SlotArea(_) => Some(Refusal::Content),
            _ => None,
        }
    }
}

fn refused<T>(refusal: Refusal, detail: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Refused { refusal, detail: detail.into() })
}

/// The content of LBA 0 and the boot selector.
struct Sectors {
    mbr: Mbr,
    /// `None` on a disk without a selector, whose slots cannot be armed.
    selector: Option<Selector>,
    /// Set when the boot sector loads the slots by load tables; otherwise a firmware does, from the slot in `config.txt`.
    tables: bool,
}

impl Sectors {
    fn read(target: &impl Target) -> Result<Self, EngineError> {
        let mut sector = [0; SECTOR_SIZE as usize];
        target.read_back(Bytes(0), &mut sector).map_err(read_error(Bytes(0)))?;
        let (mbr, tables) = (Mbr::decode(&sector)?, mbr::has_code(&sector));
        let copies = SelectorCopies::read(&mut Reader::new(target));
        let selector = match (copies.primary, copies.spare) {
            (Ok(selector), _) | (Err(_), Ok(selector)) => Some(selector),
            // Two damaged copies are an error and not a missing selector: the slot to spare would be unknown.
            (
                Err(ReadSelectorError::Invalid(SelectorError::Magic(_))),
                Err(ReadSelectorError::Invalid(SelectorError::Magic(_))),
            ) => None,
            (Err(error), Err(_)) => return Err(error.into()),
        };
        Ok(Sectors { mbr, selector, tables })
    }
}

/// A reader of the disk past every cache.
struct Reader<'a, T> {
    target: &'a T,
    position: u64,
}

impl<'a, T: Target> Reader<'a, T> {
    fn new(target: &'a T) -> Self {
        Reader { target, position: 0 }
    }

    /// Opens the file system of `/boot`.
    fn fat(target: &'a T, boot: Extent) -> Result<BootFat<Self>, FatError> {
        BootFat::open(Reader::new(target), boot.start.bytes(), boot)
    }
}

/// Fills the buffer or fails: all callers read sectors that must exist.
impl<T: Target> Read for Reader<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.target.read_back(Bytes(self.position), buffer)?;
        self.position += buffer.len() as u64;
        Ok(buffer.len())
    }
}

impl<T: Target> Seek for Reader<'_, T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(_) => None,
        }
        .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn read_error(offset: Bytes) -> impl FnOnce(io::Error) -> EngineError {
    move |source| EngineError::Disk { operation: "read", sector: offset.0 / SECTOR_SIZE, source }
}

fn write_error(offset: Bytes) -> impl FnOnce(io::Error) -> EngineError {
    move |source| EngineError::Disk { operation: "write", sector: offset.0 / SECTOR_SIZE, source }
}

fn boot_error(operation: impl Into<String>) -> impl FnOnce(io::Error) -> EngineError {
    let operation = operation.into();
    |source| EngineError::Boot { operation, source }
}

#[cfg(test)]
#[cfg(all(feature = "bundle", feature = "image"))]
mod simulator;
#[cfg(test)]
#[cfg(all(feature = "bundle", feature = "image"))]
mod tests;
