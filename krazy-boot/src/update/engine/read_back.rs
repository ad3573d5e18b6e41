//! Content stored on the disk, read to be hashed, and as the base of copies.

use std::io;

use sha2::{Digest, Sha256};

use super::{Aligned, EngineError, PIECE, Reader, Target, read_error};
use crate::digest::{Hex, Sha256Hash};
use crate::disk::layout::Extent;
use crate::disk::size::Bytes;

/// A file or a file system, as sectors of the disk in order.
pub(super) struct StoredContent {
    pub(super) extents: Vec<Extent>,
    pub(super) len: Bytes,
}

impl StoredContent {
    /// Returns the first `len` bytes of a partition.
    pub(super) fn in_partition(partition: Extent, len: Bytes) -> Self {
        StoredContent { extents: vec![partition], len }
    }

    /// Finds a file on `/boot`.
    pub(super) fn on_boot<T: Target>(target: &T, boot: Extent, name: &str) -> Result<Self, EngineError> {
        let mut fat = Reader::fat(target, boot)?;
        let file = fat.find(name)?;
        Ok(StoredContent { extents: fat.extents(&file)?, len: file.size })
    }

    /// Returns the SHA-256 of the content, read past every cache.
    pub(super) fn sha256(&self, target: &impl Target) -> Result<Sha256Hash, EngineError> {
        let mut sha256 = Sha256::new();
        self.read_all(target, |content| sha256.update(content))?;
        Ok(Hex(sha256.finalize().into()))
    }

    /// Returns the SHA-256 and the CRC-32 of the content, read past every cache.
    pub(super) fn hashes(&self, target: &impl Target) -> Result<(Sha256Hash, u32), EngineError> {
        let (mut sha256, mut crc) = (Sha256::new(), crc32fast::Hasher::new());
        self.read_all(target, |content| {
            sha256.update(content);
            crc.update(content);
        })?;
        Ok((Hex(sha256.finalize().into()), crc.finalize()))
    }

    fn read_all(&self, target: &impl Target, mut take: impl FnMut(&[u8])) -> Result<(), EngineError> {
        let mut left = self.len.0;
        let mut piece = Aligned::new(PIECE);
        for extent in &self.extents {
            let (mut at, end) = (extent.start.bytes().0, extent.end().bytes().0);
            while at < end && left > 0 {
                let len = (end - at).min(PIECE as u64);
                let piece = &mut piece[..len as usize];
                target.read_back(Bytes(at), piece).map_err(read_error(Bytes(at)))?;
                let content = &piece[..len.min(left) as usize];
                take(content);
                left -= content.len() as u64;
                at += len;
            }
        }
        if left > 0 {
            let short = io::Error::new(io::ErrorKind::UnexpectedEof, "a file is longer than its sectors");
            let end = self.extents.last().map_or(Bytes(0), |extent| extent.end().bytes());
            return Err(read_error(end)(short));
        }
        Ok(())
    }

    /// Fills the buffer from `offset` on, which must be within the content.
    pub(super) fn read(&self, target: &impl Target, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (mut skip, mut done) = (offset, 0);
        for extent in &self.extents {
            let len = extent.len.bytes().0;
            let start = skip.min(len);
            skip -= start;
            let taken = (len - start).min((buffer.len() - done) as u64) as usize;
            if taken > 0 {
                let at = Bytes(extent.start.bytes().0 + start);
                target.read_at(at, &mut buffer[done..done + taken])?;
                done += taken;
            }
        }
        if done < buffer.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
