//! Metadata blocks: the stream that inodes, listings and tables are kept in, and its integers.

use std::io::{Read, Seek};

use super::{Result, Squashfs, SquashfsError, unpack};

/// A metadata block's content is at most this long.
const METADATA_LEN: usize = 8 << 10;

/// Set in the size of a metadata block that is not compressed.
const METADATA_STORED: u16 = 1 << 15;

/// A position in a run of metadata blocks.
pub(super) struct Metadata {
    /// The position of the next block.
    position: u64,
    /// The current block's content.
    content: Vec<u8>,
    /// The number of its bytes that are taken.
    taken: usize,
}

impl Metadata {
    /// Before the first byte of the block at `position`.
    pub(super) fn at(position: u64) -> Self {
        Metadata { position, content: Vec::new(), taken: 0 }
    }

    /// The next `len` bytes.
    pub(super) fn take<R: Read + Seek>(&mut self, squashfs: &mut Squashfs<R>, len: usize) -> Result<Vec<u8>> {
        let mut taken = Vec::with_capacity(len);
        while taken.len() < len {
            if self.taken == self.content.len() {
                let header = short(&squashfs.bytes(self.position, 2)?, 0);
                let stored = usize::from(header & !METADATA_STORED);
                if stored == 0 || stored > METADATA_LEN {
                    return Err(SquashfsError::Damaged("impossible metadata length"));
                }
                let bytes = squashfs.bytes(self.position + 2, stored)?;
                self.content =
                    if header & METADATA_STORED != 0 { bytes } else { unpack(&bytes, METADATA_LEN)? };
                if self.content.is_empty() {
                    return Err(SquashfsError::Damaged("an empty metadata block"));
                }
                self.position += 2 + stored as u64;
                self.taken = 0;
            }
            let end = self.content.len().min(self.taken + len - taken.len());
            taken.extend(&self.content[self.taken..end]);
            self.taken = end;
        }
        Ok(taken)
    }

    /// Leaves out `len` bytes.
    pub(super) fn skip<R: Read + Seek>(&mut self, squashfs: &mut Squashfs<R>, len: usize) -> Result<()> {
        self.take(squashfs, len).map(|_| ())
    }
}

/// Little-endian integers. Callers have taken as many bytes as they read.
pub(super) fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
