//! The identity of a device outside `/data`: copies of its certificate, key, tokens and update keys in front of the
//! partitions, so that a device whose `/data` is lost can still be managed. A format of this project.
//!
//! There are two copies ([`layout::IDENTITY`](crate::disk::layout::IDENTITY)), nearly 1 MiB apart. The newest valid one
//! counts. A change writes one copy after the other, the older one first, so that a power cut leaves the other intact.
//!
//! | bytes | content |
//! |---|---|
//! | 0 … 3 | magic `KZID` |
//! | 4, 5 | format version, 1 |
//! | 6, 7 | number of files |
//! | 8 … 11 | generation, counted up at every change |
//! | 12 … 15 | length of the files, in bytes |
//! | 16 … 19 | CRC-32 (IEEE) of all bytes up to the end of the files, these four counted as 0 |
//! | 32 … | files, each: length of the name (`u16`), length of the content (`u32`), name, content |
//!
//! The rest is zero. Names are paths relative to `/data`, in the order of the writer.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::disk::layout::{IDENTITY, IDENTITY_LEN};
use crate::disk::ordered_write::SectorWrite;
use crate::disk::size::Sectors;

/// The first four bytes.
const MAGIC: [u8; 4] = *b"KZID";

/// The supported format version.
const VERSION: u16 = 1;

const COUNT_OFFSET: usize = 6;
const GENERATION_OFFSET: usize = 8;
const LEN_OFFSET: usize = 12;
const CRC_OFFSET: usize = 16;
const FILES_OFFSET: usize = 32;

/// Length of a file's header: the lengths of its name and content.
const FILE_HEADER_LEN: usize = 6;

/// Bytes of a copy that its files may fill.
pub const CAPACITY: usize = IDENTITY_LEN.bytes().0 as usize - FILES_OFFSET;

/// A copied file.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityFile {
    /// Its path, relative to `/data`.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Prints no content: it may be a private key.
impl fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityFile").field("path", &self.path).field("len", &self.bytes.len()).finish()
    }
}

/// One copy of the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Counted up at every change.
    pub generation: u32,
    /// The files.
    pub files: Vec<IdentityFile>,
}

/// A failure to make or read a copy.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The files do not fit.
    #[error("the credentials have {0} bytes, their copy outside /data holds {CAPACITY}")]
    TooLong(usize),
    /// The sectors hold no copy.
    #[error("sector {0} holds no copy of the credentials")]
    Magic(u32),
    /// The copy was written by a newer version.
    #[error(
        "the copy of the credentials in sector {sector} has version {version}, this program reads {VERSION}"
    )]
    Version {
        /// The first sector.
        sector: u32,
        /// The version in it.
        version: u16,
    },
    /// The checksum or a length is wrong.
    #[error("the copy of the credentials in sector {0} is damaged")]
    Damaged(u32),
    /// The disk could not be read.
    #[error("failed to read the copy of the credentials in sector {sector}")]
    Read {
        /// The first sector.
        sector: u32,
        /// The disk's error.
        source: io::Error,
    },
}

impl Identity {
    /// Encodes a copy, padded to whole sectors.
    fn encode(&self) -> Result<Vec<u8>, IdentityError> {
        let mut bytes = vec![0; FILES_OFFSET];
        for file in &self.files {
            let name_len = u16::try_from(file.path.len()).unwrap_or(u16::MAX);
            bytes.extend(name_len.to_le_bytes());
            bytes.extend(u32::try_from(file.bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(file.path.bytes());
            bytes.extend(&file.bytes);
        }
        let len = bytes.len() - FILES_OFFSET;
        if len > CAPACITY {
            return Err(IdentityError::TooLong(len));
        }
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[COUNT_OFFSET..COUNT_OFFSET + 2].copy_from_slice(&(self.files.len() as u16).to_le_bytes());
        bytes[GENERATION_OFFSET..GENERATION_OFFSET + 4].copy_from_slice(&self.generation.to_le_bytes());
        bytes[LEN_OFFSET..LEN_OFFSET + 4].copy_from_slice(&(len as u32).to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Decodes a copy of [`IDENTITY_LEN`] that was read from `lba`, which only error messages use.
    fn decode(bytes: &[u8], lba: Sectors) -> Result<Self, IdentityError> {
        let sector = lba.0;
        if bytes.len() < FILES_OFFSET || bytes[..4] != MAGIC {
            return Err(IdentityError::Magic(sector));
        }
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        if short(4) != VERSION {
            return Err(IdentityError::Version { sector, version: short(4) });
        }
        let damaged = IdentityError::Damaged(sector);
        let end = (long(LEN_OFFSET) as usize).checked_add(FILES_OFFSET).filter(|end| *end <= bytes.len());
        let Some(end) = end else { return Err(damaged) };
        let mut counted = bytes[..end].to_vec();
        counted[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
        if crc32fast::hash(&counted) != long(CRC_OFFSET) {
            return Err(damaged);
        }
        let mut rest = &bytes[FILES_OFFSET..end];
        let files = (0..short(COUNT_OFFSET)).map(|_| next_file(&mut rest)).collect::<Option<Vec<_>>>();
        match files {
            Some(files) if rest.is_empty() => Ok(Identity { generation: long(GENERATION_OFFSET), files }),
            _ => Err(damaged),
        }
    }
}

fn next_file(rest: &mut &[u8]) -> Option<IdentityFile> {
    let (header, after) = rest.split_first_chunk::<FILE_HEADER_LEN>()?;
    let name_len = usize::from(u16::from_le_bytes([header[0], header[1]]));
    let len = u32::from_le_bytes([header[2], header[3], header[4], header[5]]) as usize;
    let (name, after) = after.split_at_checked(name_len)?;
    let (bytes, after) = after.split_at_checked(len)?;
    *rest = after;
    Some(IdentityFile { path: str::from_utf8(name).ok()?.to_owned(), bytes: bytes.to_vec() })
}

/// Both copies, as read from a disk.
#[derive(Debug)]
pub struct IdentityCopies([Result<Identity, IdentityError>; 2]);

impl IdentityCopies {
    /// Reads both copies of a disk that begins at the reader's position 0.
    pub fn read(disk: &mut (impl Read + Seek)) -> Self {
        IdentityCopies(IDENTITY.map(|lba| {
            let mut bytes = vec![0; IDENTITY_LEN.bytes().0 as usize];
            disk.seek(SeekFrom::Start(lba.bytes().0))
                .and_then(|_| disk.read_exact(&mut bytes))
                .map_err(|source| IdentityError::Read { sector: lba.0, source })?;
            Identity::decode(&bytes, lba)
        }))
    }

    /// Returns the newest valid copy, else the error of the first one.
    pub fn newest(&self) -> Result<&Identity, &IdentityError> {
        match &self.0 {
            [Ok(one), Ok(two)] if is_newer(two.generation, one.generation) => Ok(two),
            [Ok(one), _] => Ok(one),
            [_, Ok(two)] => Ok(two),
            [Err(error), _] => Err(error),
        }
    }

    /// Returns the writes that make both copies hold `files`, in order, each durable before the next
    /// ([`crate::disk::ordered_write::write_in_order`]); none if they do already. A copy of a newer version stays.
    pub fn writes(&self, files: &[IdentityFile]) -> Result<Vec<SectorWrite>, IdentityError> {
        let is_current = |copy: &Result<Identity, _>| copy.as_ref().is_ok_and(|copy| copy.files == files);
        if self.0.iter().all(is_current) {
            return Ok(Vec::new());
        }
        let generation = self.newest().map_or(1, |newest| newest.generation.wrapping_add(1));
        let bytes = Identity { generation, files: files.to_vec() }.encode()?;
        // The copy that is valid and newest is overwritten last.
        let mut order = [0, 1];
        if matches!((&self.0, self.newest()), ([Ok(one), _], Ok(newest)) if std::ptr::eq(one, newest)) {
            order = [1, 0];
        }
        let of_newer_version = |n: usize| matches!(self.0[n], Err(IdentityError::Version { .. }));
        let writes = order.into_iter().filter(|n| !of_newer_version(*n));
        Ok(writes.map(|n| SectorWrite::padded(IDENTITY[n], bytes.clone())).collect())
    }
}

/// Returns true if `one` is newer than `other`; generations may wrap around.
fn is_newer(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}

#[cfg(test)]
mod tests;
