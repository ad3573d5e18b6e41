//! As much of a SquashFS reader as it takes to look at one file of a root.
//!
//! Source: the kernel's `Documentation/filesystems/squashfs.rst` and `fs/squashfs/squashfs_fs.h`, version 4.0.
//! It exists beside backhand, which writes the roots: backhand panics on damaged input and allocates what the
//! input asks for, and an image to inspect may be anybody's. Only zstd and stored blocks are read; links and
//! devices are not followed.

use std::io::{self, Read, Seek, SeekFrom};

/// A metadata block's content is at most this long.
const METADATA_LEN: usize = 8 << 10;

/// The smallest and the largest block size the format allows.
const MIN_BLOCK: u32 = 4 << 10;
const MAX_BLOCK: u32 = 1 << 20;

/// The longest folder listing that is read; ours have a few hundred entries.
const MAX_LISTING: u64 = 1 << 20;

/// The longest file that is read, which bounds its list of blocks.
const MAX_FILE: u64 = 64 << 20;

/// Set in the size of a metadata block that is not compressed.
const METADATA_STORED: u16 = 1 << 15;

/// Set in the size of a data block that is not compressed.
const BLOCK_STORED: u32 = 1 << 24;

/// "This file has no fragment."
const NO_FRAGMENT: u32 = u32::MAX;

/// The id of zstd among compressors.
const ZSTD: u16 = 6;

/// Why a root could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
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
pub struct Squashfs<R> {
    reader: R,
    /// Where it begins in the reader, in bytes.
    offset: u64,
    block_size: u32,
    fragments: u32,
    root: u64,
    /// Its length, which everything must be within.
    pub bytes_used: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
}

/// What this reader needs of an inode.
enum Inode {
    Directory { start: u64, offset: usize, len: u64 },
    File { start: u64, len: u64, fragment: Option<(u32, usize)>, blocks: Vec<u32> },
    Other,
}

impl<R: Read + Seek> Squashfs<R> {
    /// Reads the superblock of the file system that begins `offset` bytes into `reader` and has `room` bytes.
    pub fn open(mut reader: R, offset: u64, room: u64) -> Result<Self> {
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
    pub fn read(&mut self, path: &str, limit: u64) -> Result<Vec<u8>> {
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

    /// The inode behind a reference: block in the inode table, and offset in the block's content.
    fn inode(&mut self, reference: u64) -> Result<Inode> {
        let block = self.inode_table.checked_add(reference >> 16).ok_or(OUTSIDE)?;
        let mut data = Metadata { position: block, content: Vec::new(), at: 0 };
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

    /// The inode reference of `name` in a folder's listing.
    fn find(&mut self, start: u64, offset: usize, len: u64, name: &[u8]) -> Result<Option<u64>> {
        // The stored length counts three bytes for `.` and `..`, which are not stored.
        let mut left = len.saturating_sub(3).min(MAX_LISTING);
        let position = self.directory_table.checked_add(start).ok_or(OUTSIDE)?;
        let mut data = Metadata { position, content: Vec::new(), at: 0 };
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
        let mut data = Metadata { position: long(&pointer, 0), content: Vec::new(), at: 0 };
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

/// A position in a run of metadata blocks.
struct Metadata {
    /// Where the next block is.
    position: u64,
    /// The current block's content.
    content: Vec<u8>,
    /// What of it is taken.
    at: usize,
}

impl Metadata {
    /// The next `len` bytes.
    fn take<R: Read + Seek>(&mut self, squashfs: &mut Squashfs<R>, len: usize) -> Result<Vec<u8>> {
        let mut taken = Vec::with_capacity(len);
        while taken.len() < len {
            if self.at == self.content.len() {
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
                self.at = 0;
            }
            let end = self.content.len().min(self.at + len - taken.len());
            taken.extend(&self.content[self.at..end]);
            self.at = end;
        }
        Ok(taken)
    }

    /// Leaves out `len` bytes.
    fn skip<R: Read + Seek>(&mut self, squashfs: &mut Squashfs<R>, len: usize) -> Result<()> {
        self.take(squashfs, len).map(|_| ())
    }
}

fn directory(start: u32, offset: u16, len: u64) -> Inode {
    Inode::Directory { start: u64::from(start), offset: usize::from(offset), len }
}

fn unpack(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    zstd::bulk::decompress(bytes, limit).map_err(|_| SquashfsError::Damaged("a block does not unpack"))
}

/// Little-endian integers. Callers have taken as many bytes as they read.
fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use krazy_boot::image::squashfs::{SquashfsOptions, write};
    use krazy_boot::image::tree::{Content, Entry, Tree};
    use krazy_boot::size::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// A root with a small file, a file of several blocks, and many others.
    fn root() -> Vec<u8> {
        let mut tree = Tree::new();
        let mut add = |path: &str, content: Vec<u8>| {
            tree.add(&format!("/{path}"), Entry::file(Content::Bytes(content)), "test").unwrap();
        };
        add("etc/krazy/manifest.json", b"{}\n".to_vec());
        add("etc/large", large());
        for number in 0..600 {
            add(&format!("bin/program-{number}"), b"x".to_vec());
        }
        let options = SquashfsOptions { level: 3, mtime: 0, limit: Bytes::mib(8) };
        let mut bytes = Cursor::new(Vec::new());
        write(&tree, &options, &mut bytes, None).unwrap();
        bytes.into_inner()
    }

    /// Two blocks that do not compress, two that do, the rest of one.
    fn large() -> Vec<u8> {
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        noise.take(300_000).chain(std::iter::repeat_n(b'a', 300_000)).collect()
    }

    fn open(bytes: &[u8]) -> Result<Squashfs<Cursor<&[u8]>>> {
        Squashfs::open(Cursor::new(bytes), 0, bytes.len() as u64)
    }

    #[test]
    fn reads_what_backhand_wrote() {
        let root = root();
        let mut disk = vec![0xee; 1000];
        disk.extend(&root);
        let mut squashfs = Squashfs::open(Cursor::new(&disk), 1000, root.len() as u64).unwrap();
        assert_eq!(squashfs.read("etc/krazy/manifest.json", 100).unwrap(), b"{}\n");
        assert!(squashfs.read("etc/large", 1 << 20).unwrap() == large());
        for name in ["bin/program-0", "bin/program-599"] {
            assert_eq!(squashfs.read(name, 1).unwrap(), b"x");
        }
    }

    #[test]
    fn says_what_is_missing_or_wrong() {
        let root = root();
        let mut squashfs = open(&root).unwrap();
        let mut message = |path: &str| squashfs.read(path, 100).unwrap_err().to_string();
        assert_eq!(message("etc/other"), "the SquashFS holds no `etc/other`");
        assert_eq!(message("etc"), "the SquashFS holds no `etc`");
        assert_eq!(message("etc/large/x"), "the SquashFS holds no `etc/large/x`");
        assert_eq!(message("etc/large"), "the SquashFS is damaged: a file is longer than it may be");
        assert_eq!(open(&[0; 100]).unwrap_err().to_string(), "there is no SquashFS");
        let error = Squashfs::open(Cursor::new(&root), 0, 100).unwrap_err();
        assert_eq!(error.to_string(), "the SquashFS is damaged: it is longer than its partition");
    }

    proptest! {
        #[test]
        fn damage_never_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            cut in any::<Option<prop::sample::Index>>(),
        ) {
            static ROOT: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(root);
            let mut bytes = ROOT.clone();
            // Half of the damage goes where the pointers are.
            for (number, (at, value)) in changes.into_iter().enumerate() {
                let len = if number % 2 == 0 { bytes.len() } else { 96 };
                let at = at.index(len);
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                let len = cut.index(bytes.len());
                bytes.truncate(len);
            }
            if let Ok(mut squashfs) = open(&bytes) {
                for path in ["etc/krazy/manifest.json", "etc/large", "bin/program-599"] {
                    let _any = squashfs.read(path, 1 << 20);
                }
            }
        }
    }
}
