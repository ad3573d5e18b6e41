//! As much of a SquashFS reader as it takes to look at one file of a root.
//!
//! Source: the kernel's `Documentation/filesystems/squashfs.rst` and `fs/squashfs/squashfs_fs.h`, version 4.0.
//! It exists beside backhand, which writes the roots: backhand panics on damaged input and allocates what the
//! input asks for, and an image to inspect may be anybody's. Only zstd and stored blocks are read; links and
//! devices are not followed.

mod inode;
mod metadata;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Seek, SeekFrom};

use self::inode::Inode;
use self::metadata::{Metadata, long, short, word};

/// The smallest and the largest block size the format allows.
const MIN_BLOCK: u32 = 4 << 10;
const MAX_BLOCK: u32 = 1 << 20;

/// The longest directory listing that is read; ours have a few hundred entries.
const MAX_LISTING: u64 = 1 << 20;

/// Set in the size of a data block that is not compressed.
const BLOCK_STORED: u32 = 1 << 24;

/// The id of zstd among compressors.
const ZSTD: u16 = 6;

/// Why a root could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SquashfsError {
    /// No SquashFS at all.
    #[error("there is no SquashFS")]
    Missing,
    /// One that this reader does not know.
    #[error("the SquashFS has {0}, which this program does not read")]
    Unsupported(String),
    /// It contradicts itself.
    #[error("the SquashFS is damaged: {0}")]
    Damaged(&'static str),
    /// No such file.
    #[error("the SquashFS holds no `{0}`")]
    NotFound(String),
    /// The disk could not be read.
    #[error("failed to read the SquashFS")]
    Read(#[from] io::Error),
}

type Result<T, E = SquashfsError> = std::result::Result<T, E>;

/// A SquashFS within a disk.
#[derive(Debug)]
pub(crate) struct Squashfs<R> {
    reader: R,
    /// Its start in the reader, in bytes.
    offset: u64,
    block_size: u32,
    fragments: u32,
    root: u64,
    /// Its length, which everything must be within.
    pub(crate) bytes_used: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
}

impl<R: Read + Seek> Squashfs<R> {
    /// Reads the superblock of the file system that begins `offset` bytes into `reader` and has `room` bytes.
    pub(crate) fn open(mut reader: R, offset: u64, room: u64) -> Result<Self> {
        let mut block = [0; 96];
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(&mut block)?;
        if block[..4] != *b"hsqs" {
            return Err(SquashfsError::Missing);
        }
        let (major, minor) = (short(&block, 28), short(&block, 30));
        if (major, minor) != (4, 0) {
            return Err(SquashfsError::Unsupported(format!("version {major}.{minor}")));
        }
        if short(&block, 20) != ZSTD {
            return Err(SquashfsError::Unsupported(format!("compressor {}", short(&block, 20))));
        }
        let squashfs = Squashfs {
            reader,
            offset,
            block_size: word(&block, 12),
            fragments: word(&block, 16),
            root: long(&block, 32),
            bytes_used: long(&block, 40),
            inode_table: long(&block, 64),
            directory_table: long(&block, 72),
            fragment_table: long(&block, 80),
        };
        if !squashfs.block_size.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&squashfs.block_size) {
            return Err(SquashfsError::Damaged("impossible block size"));
        }
        if squashfs.bytes_used > room {
            return Err(SquashfsError::Damaged("it is longer than its partition"));
        }
        Ok(squashfs)
    }

    /// The content of the file at `path` (without a leading slash), at most `limit` bytes.
    pub(crate) fn read(&mut self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let missing = || SquashfsError::NotFound(path.to_owned());
        let mut inode = self.inode(self.root)?;
        for name in path.split('/') {
            let Inode::Directory { start, offset, len } = inode else { return Err(missing()) };
            let reference = self.find(start, offset, len, name.as_bytes())?.ok_or_else(missing)?;
            inode = self.inode(reference)?;
        }
        let Inode::File { mut start, len, fragment, blocks } = inode else { return Err(missing()) };
        if len > limit {
            return Err(SquashfsError::Damaged("a file is longer than it may be"));
        }
        let mut content = Vec::new();
        for size in blocks {
            let left = (len - content.len() as u64).min(u64::from(self.block_size)) as usize;
            let block = match size & !BLOCK_STORED {
                // A hole.
                0 => vec![0; left],
                _ => self.block(start, size)?,
            };
            start = start.checked_add(u64::from(size & !BLOCK_STORED)).ok_or(OUTSIDE)?;
            if block.len() != left {
                return Err(SquashfsError::Damaged("a block has the wrong length"));
            }
            content.extend(block);
        }
        if let Some((index, offset)) = fragment {
            let left = (len - content.len() as u64) as usize;
            let block = self.fragment(index)?;
            let part = offset.checked_add(left).and_then(|end| block.get(offset..end));
            content.extend(part.ok_or(SquashfsError::Damaged("a fragment ends early"))?);
        }
        Ok(content)
    }

    /// The inode reference of `name` in a directory's listing.
    fn find(&mut self, start: u64, offset: usize, len: u64, name: &[u8]) -> Result<Option<u64>> {
        // The stored length counts three bytes for `.` and `..`, which are not stored.
        let mut left = len.saturating_sub(3).min(MAX_LISTING);
        let position = self.directory_table.checked_add(start).ok_or(OUTSIDE)?;
        let mut data = Metadata::at(position);
        data.skip(self, offset)?;
        while left > 0 {
            let header = data.take(self, 12)?;
            left = left.saturating_sub(12);
            let block = u64::from(word(&header, 4));
            // Counts and name lengths are stored less one.
            for _ in 0..=word(&header, 0).min(255) {
                let entry = data.take(self, 8)?;
                let found = data.take(self, usize::from(short(&entry, 6)) + 1)?;
                if found == name {
                    return Ok(Some(block << 16 | u64::from(short(&entry, 0))));
                }
                left = left.saturating_sub(8 + found.len() as u64);
            }
        }
        Ok(None)
    }

    /// The content of fragment block `index`.
    fn fragment(&mut self, index: u32) -> Result<Vec<u8>> {
        if index >= self.fragments {
            return Err(SquashfsError::Damaged("a fragment that does not exist"));
        }
        // The table is a list of the places of its metadata blocks, each with 512 entries of 16 bytes.
        let place = u64::from(index / 512) * 8;
        let pointer = self.bytes(self.fragment_table.checked_add(place).ok_or(OUTSIDE)?, 8)?;
        let mut data = Metadata::at(long(&pointer, 0));
        data.skip(self, (index % 512) as usize * 16)?;
        let entry = data.take(self, 16)?;
        self.block(long(&entry, 0), word(&entry, 8))
    }

    /// A data block, at most [`Self::block_size`] long.
    fn block(&mut self, at: u64, size: u32) -> Result<Vec<u8>> {
        let len = size & !BLOCK_STORED;
        if len > self.block_size {
            return Err(SquashfsError::Damaged("impossible block length"));
        }
        let bytes = self.bytes(at, len as usize)?;
        if size & BLOCK_STORED != 0 { Ok(bytes) } else { unpack(&bytes, self.block_size as usize) }
    }

    /// The bytes at `at` of the file system.
    fn bytes(&mut self, at: u64, len: usize) -> Result<Vec<u8>> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.bytes_used) {
            return Err(OUTSIDE);
        }
        let mut bytes = vec![0; len];
        // Within the partition, as `bytes_used` is.
        self.reader.seek(SeekFrom::Start(self.offset + at))?;
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

const OUTSIDE: SquashfsError = SquashfsError::Damaged("a pointer leads outside");

fn unpack(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    zstd::bulk::decompress(bytes, limit).map_err(|_| SquashfsError::Damaged("a block does not unpack"))
}
