//! SquashFS 4.0 with zstd, for the root partitions.
//!
//! backhand lays the file system out and decides what is a hole, a block or a fragment; the blocks
//! are read and compressed ahead of it by all cores (`block_pipeline`). The bytes do not depend on
//! the number of cores, nor on what a cache already holds.
//!
//! Source: Linux `fs/squashfs/squashfs_fs.h`. Not written: extended attributes, hard links, export table.

use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZero;

use backhand::compression::Compressor;
use backhand::kind::Kind;
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader};

use super::block_cache::BlockCache;
use super::block_pipeline::{self, Pipelined, UnreadableFile};
use super::tree::{Entry, Node, Tree};
use crate::disk::size::Bytes;

/// Bytes of a file that are compressed together. Programs are 2 to 3 % smaller than with the 128 KiB of mksquashfs.
/// 512 KiB would save less than 1 % more, and a page fault on the device decompresses a whole block.
pub const BLOCK_SIZE: usize = 256 << 10;

/// Options of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SquashfsOptions {
    /// zstd level, 1 to 22.
    pub level: i32,
    /// Time of the file system and of everything in it, in seconds since 1970; later than 2106 becomes 2106.
    pub mtime: u64,
    /// The partition's size. A larger root is an error.
    pub limit: Bytes,
}

/// Figures of a written root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SquashfsStats {
    /// Length of the file system, a multiple of 4096. The bytes behind it are zero.
    pub bytes: Bytes,
    /// Compressed blocks.
    pub blocks: u64,
    /// Compressed blocks that the cache had.
    pub cached_blocks: u64,
}

/// A failure to write a root.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    /// The compressed tree is larger than its partition.
    #[error("the root needs {needed} and its partition has {limit}: {} too much", Bytes(needed.0 - limit.0))]
    TooLarge {
        /// The length it would have.
        needed: Bytes,
        /// The partition's size.
        limit: Bytes,
    },
    /// A file of the host cannot be read.
    #[error("failed to read {file} for `{path}`")]
    Read {
        /// The host's file.
        file: String,
        /// Its path in the tree.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The level is not one of zstd's.
    #[error("{0} is not a zstd level; the levels are 1 to 22")]
    Level(i32),
    /// The output cannot be written.
    #[error("failed to write the root")]
    Write(#[source] io::Error),
    /// backhand does not accept the tree.
    #[error("failed to lay out the root: {0}")]
    Layout(BackhandError),
}

impl From<UnreadableFile> for SquashfsError {
    fn from(UnreadableFile { file, path, source }: UnreadableFile) -> Self {
        SquashfsError::Read { file, path, source }
    }
}

impl From<BackhandError> for SquashfsError {
    fn from(error: BackhandError) -> Self {
        match error {
            BackhandError::StdIo(error) => SquashfsError::Write(error),
            error => SquashfsError::Layout(error),
        }
    }
}

/// Writes `tree` from the start of `out` on. `cache` keeps compressed blocks for the next image.
///
/// At most a few MiB are in memory, for any tree. If the root does not fit, the partition has been written in part.
pub fn write<W: Write + Seek>(
    tree: &Tree,
    options: &SquashfsOptions,
    out: W,
    cache: Option<&BlockCache>,
) -> Result<SquashfsStats, SquashfsError> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    write_with(tree, options, threads, out, cache)
}

/// Does the same with `threads` threads that compress. The bytes do not depend on their number.
pub fn write_with<W: Write + Seek>(
    tree: &Tree,
    options: &SquashfsOptions,
    threads: NonZero<usize>,
    out: W,
    cache: Option<&BlockCache>,
) -> Result<SquashfsStats, SquashfsError> {
    if !(1..=22).contains(&options.level) {
        return Err(SquashfsError::Level(options.level));
    }
    let mut out = Bounded { inner: out, inner_position: 0, position: 0, end: 0, limit: options.limit.0 };
    let (length, counts) =
        block_pipeline::run(tree, options.level, BLOCK_SIZE, threads, cache, |pipelined| {
            let mut filesystem = describe(tree, options, pipelined)?;
            let (_, length) = filesystem.write(&mut out)?;
            Ok::<u64, SquashfsError>(length)
        })?;
    if length > options.limit.0 {
        return Err(SquashfsError::TooLarge { needed: Bytes(length), limit: options.limit });
    }
    out.erase_from(length).map_err(SquashfsError::Write)?;
    Ok(SquashfsStats { bytes: Bytes(length), blocks: counts.blocks, cached_blocks: counts.cached })
}

/// Returns backhand's description of the tree.
fn describe<'a>(
    tree: &Tree,
    options: &SquashfsOptions,
    pipelined: &'a Pipelined,
) -> Result<FilesystemWriter<'a, 'a, 'a>, SquashfsError> {
    let mtime = u32::try_from(options.mtime).unwrap_or(u32::MAX);
    let mut filesystem = FilesystemWriter::default();
    filesystem.set_time(mtime);
    filesystem.set_block_size(BLOCK_SIZE as u32);
    filesystem.set_only_root_id();
    filesystem.set_kind(Kind::new_v4(&block_pipeline::ACTION));
    filesystem.set_compressor(FilesystemCompressor::new(Compressor::Zstd, None)?);
    for (path, Entry { node, mode, uid, gid }) in tree.iter() {
        let header = NodeHeader::new(*mode, *uid, *gid, mtime);
        match node {
            Node::Directory if path.parent().is_none() => {
                filesystem.set_root_mode(*mode);
                filesystem.set_root_uid(*uid);
                filesystem.set_root_gid(*gid);
            }
            Node::Directory => filesystem.push_dir(path.as_str(), header)?,
            Node::File(_) => filesystem.push_file(pipelined.reader(), path.as_str(), header)?,
            Node::Symlink(target) => filesystem.push_symlink(target, path.as_str(), header)?,
            Node::CharacterDevice { major, minor } => {
                // Linux `new_encode_dev`.
                let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
                filesystem.push_char_device(number, path.as_str(), header)?;
            }
        }
    }
    Ok(filesystem)
}

/// A writer that counts what does not fit instead of writing it, so that the error can give the missing space.
struct Bounded<W> {
    inner: W,
    inner_position: u64,
    position: u64,
    /// The highest position reached. backhand seeks back behind a duplicate file.
    end: u64,
    limit: u64,
}

impl<W: Write + Seek> Bounded<W> {
    /// Overwrites the remains of a duplicate file at the end with zeros, so that equal trees give equal bytes.
    fn erase_from(&mut self, length: u64) -> io::Result<()> {
        let rest = self.end.min(self.limit).saturating_sub(length);
        if rest > 0 {
            self.inner.seek(SeekFrom::Start(length))?;
            io::copy(&mut io::Read::take(io::repeat(0), rest), &mut self.inner)?;
        }
        self.inner.flush()
    }
}

impl<W: Write + Seek> Write for Bounded<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.limit.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let count = if room == 0 {
            buffer.len()
        } else {
            if self.inner_position != self.position {
                self.inner.seek(SeekFrom::Start(self.position))?;
                self.inner_position = self.position;
            }
            let count = self.inner.write(&buffer[..buffer.len().min(room)])?;
            self.inner_position += count as u64;
            count
        };
        self.position += count as u64;
        self.end = self.end.max(self.position);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> Seek for Bounded<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.end.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
