//! Inodes: what a file or directory is, and where its content is.

use std::io::{Read, Seek};

use super::metadata::{Metadata, long, short, word};
use super::{OUTSIDE, Result, Squashfs, SquashfsError};

/// The longest file that is read, which bounds its list of blocks.
const MAX_FILE: u64 = 64 << 20;

/// "This file has no fragment."
const NO_FRAGMENT: u32 = u32::MAX;

/// The fields of an inode that this reader needs.
pub(super) enum Inode {
    Directory { start: u64, offset: usize, len: u64 },
    File { start: u64, len: u64, fragment: Option<(u32, usize)>, blocks: Vec<u32> },
    Other,
}

impl<R: Read + Seek> Squashfs<R> {
    /// The inode behind a reference: block in the inode table, and offset in the block's content.
    pub(super) fn inode(&mut self, reference: u64) -> Result<Inode> {
        let block = self.inode_table.checked_add(reference >> 16).ok_or(OUTSIDE)?;
        let mut data = Metadata::at(block);
        data.skip(self, (reference & 0xffff) as usize)?;
        let header = data.take(self, 16)?;
        Ok(match short(&header, 0) {
            1 => {
                let body = data.take(self, 16)?;
                directory(word(&body, 0), short(&body, 10), u64::from(short(&body, 8)))
            }
            8 => {
                let body = data.take(self, 24)?;
                directory(word(&body, 8), short(&body, 18), u64::from(word(&body, 4)))
            }
            2 => {
                let body = data.take(self, 16)?;
                let (start, len) = (u64::from(word(&body, 0)), u64::from(word(&body, 12)));
                self.file(&mut data, start, len, word(&body, 4), word(&body, 8))?
            }
            9 => {
                let body = data.take(self, 40)?;
                self.file(&mut data, long(&body, 0), long(&body, 8), word(&body, 28), word(&body, 32))?
            }
            _ => Inode::Other,
        })
    }

    fn file(
        &mut self,
        data: &mut Metadata,
        start: u64,
        len: u64,
        fragment: u32,
        offset: u32,
    ) -> Result<Inode> {
        let fragment = (fragment != NO_FRAGMENT).then_some((fragment, offset as usize));
        let block_size = u64::from(self.block_size);
        let count = if fragment.is_some() { len / block_size } else { len.div_ceil(block_size) };
        if len > MAX_FILE {
            return Err(SquashfsError::Unsupported(format!("a file of {len} bytes")));
        }
        let mut blocks = Vec::new();
        for _ in 0..count {
            blocks.push(word(&data.take(self, 4)?, 0));
        }
        Ok(Inode::File { start, len, fragment, blocks })
    }
}

fn directory(start: u32, offset: u16, len: u64) -> Inode {
    Inode::Directory { start: u64::from(start), offset: usize::from(offset), len }
}
