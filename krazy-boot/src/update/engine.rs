//! Brings an update into the slot that does not run.
//!
//! The order on disk is what keeps a device from becoming unbootable. Each line is durable before the next begins:
//!
//! 1. the slot is made unbootable: the first sector of its load table becomes zero ([`crate::boot::slot_area`]), its
//!    record and its command line are removed from `/boot`, and then its other files;
//! 2. the parts are written as they arrive, the root to its partition, the others as files on `/boot`;
//! 3. everything is read back past all caches and compared with the manifest's hashes, files from the very
//!    sectors that a boot sector would load;
//! 4. command line and record are written, then the load table, its first sector last.
//!
//! Only then may the slot be armed, which is one sector of [`crate::disk::selector`] and the business of init. So a slot
//! that has a load table is complete, and until the arm nothing changes what boots. A disk that a firmware starts (a
//! Raspberry Pi's) has no load tables; there, the command line is what an incomplete slot lacks.
//!
//! Parts are hashed once, when they are read back. What is written is followed by a CRC-32 only, which tells a
//! bundle that does not keep its manifest's promise from a disk that does not return what was written; the disk is
//! asked for it when a hash is wrong.
//!
//! The engine does not know files and sockets: it works on a [`Target`], which in the tests is a disk whose power
//! can be cut after every sector.

use std::io::{self, Read, Seek, SeekFrom};

use super::delta::DeltaError;
use super::refusal::Refusal;
use crate::boot::config_txt::ConfigTxtError;
use crate::boot::slot_area::SlotAreaError;
use crate::disk::boot_fat::{BootFat, FatError};
use crate::disk::layout::Extent;
use crate::disk::mbr::{self, Mbr, MbrError};
use crate::disk::selector::{Selector, SelectorCopies, SelectorError};
use crate::disk::size::{Bytes, SECTOR_SIZE};

mod aligned;
mod content;
mod output;
mod read_back;
mod session;

pub use aligned::{ALIGNMENT, Aligned};
pub use content::{complete, forget, measure, record};
pub use session::Session;

/// Bytes read and written at a time.
const PIECE: usize = 256 << 10;

/// What the engine works on: a disk, and the file system on its first partition.
pub trait Target {
    /// Reads the disk from `offset` on. What nobody writes meanwhile may come from a cache.
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()>;

    /// Reads the disk from `offset` on, past every cache.
    fn read_back(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes to the disk from `offset` on.
    fn write_at(&mut self, offset: Bytes, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written to the disk is durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Space left on `/boot`.
    fn boot_free(&self) -> io::Result<Bytes>;

    /// Appends to a file on `/boot`; `new` begins it anew.
    fn write_boot(&mut self, name: &str, new: bool, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file from `/boot`. That there is none is no error.
    fn remove_boot(&mut self, name: &str) -> io::Result<()>;

    /// Returns when everything on `/boot` is durable. Between this and the next write, `/boot` may be read-only.
    fn sync_boot(&mut self) -> io::Result<()>;
}

/// Why an update does not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The bundle cannot be taken, or is not what it says.
    #[error("{detail}")]
    Refused {
        /// Why, for programs.
        refusal: Refusal,
        /// Why, for people.
        detail: String,
    },
    /// A stream cannot be applied.
    #[error("the {part} of the update cannot be applied")]
    Stream {
        /// Which part.
        part: String,
        /// What is wrong with its stream.
        source: DeltaError,
    },
    /// The disk failed.
    #[error("failed to {what} the disk")]
    Disk {
        /// `read`, `write` or `sync`.
        what: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// `/boot` failed.
    #[error("failed to {what} on /boot")]
    Boot {
        /// What was tried.
        what: String,
        /// What it answered.
        source: io::Error,
    },
    /// LBA 0 is not ours.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// The file system of `/boot` cannot be read.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// A Raspberry Pi's `config.txt` is not ours.
    #[error(transparent)]
    ConfigTxt(#[from] ConfigTxtError),
    /// The boot selector cannot be read.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The new slot cannot be booted.
    #[error("the update cannot be booted")]
    SlotArea(#[from] SlotAreaError),
}

impl EngineError {
    /// The reason, if it lies in the update.
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

/// LBA 0 and the boot selector.
struct Sectors {
    mbr: Mbr,
    /// `None` on a disk without one, whose slots cannot be armed.
    selector: Option<Selector>,
    /// Whether our boot sector loads the slots, by load tables. Else a firmware does, from the slot in `config.txt`.
    tables: bool,
}

impl Sectors {
    fn read(target: &impl Target) -> Result<Self, EngineError> {
        let mut sector = [0; SECTOR_SIZE as usize];
        target.read_back(Bytes(0), &mut sector).map_err(reading)?;
        let (mbr, tables) = (Mbr::decode(&sector)?, mbr::has_code(&sector));
        let copies = SelectorCopies::read(&mut Reader::new(target));
        let selector = match (copies.primary, copies.spare) {
            (Ok(selector), _) | (Err(_), Ok(selector)) => Some(selector),
            (Err(SelectorError::Magic(_)), Err(SelectorError::Magic(_))) => None,
            (Err(error), Err(_)) => return Err(error.into()),
        };
        Ok(Sectors { mbr, selector, tables })
    }
}

/// What is on the disk, past every cache, as a reader.
struct Reader<'a, T> {
    target: &'a T,
    position: u64,
}

impl<'a, T: Target> Reader<'a, T> {
    fn new(target: &'a T) -> Self {
        Reader { target, position: 0 }
    }

    /// The file system of `/boot`.
    fn fat(target: &'a T, boot: Extent) -> Result<BootFat<Self>, FatError> {
        BootFat::open(Reader::new(target), boot.start.bytes(), boot)
    }
}

/// Fills the buffer or fails, as all its users read sectors that must be there.
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

fn reading(source: io::Error) -> EngineError {
    EngineError::Disk { what: "read", source }
}

fn writing(source: io::Error) -> EngineError {
    EngineError::Disk { what: "write", source }
}

fn syncing(source: io::Error) -> EngineError {
    EngineError::Disk { what: "sync", source }
}

fn on_boot(what: impl Into<String>) -> impl FnOnce(io::Error) -> EngineError {
    let what = what.into();
    |source| EngineError::Boot { what, source }
}

#[cfg(test)]
#[cfg(feature = "bundle")]
mod simulator;
#[cfg(test)]
#[cfg(feature = "bundle")]
mod tests;
