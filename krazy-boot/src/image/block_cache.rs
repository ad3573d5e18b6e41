//! Compressed SquashFS blocks kept on the host between images, found by their content.
//!
//! The cache is a directory of immutable packs; a run that compressed something new adds one. The content of packs is
//! verified: a damaged, truncated or foreign file costs time, never correctness. Packs are created by renaming and read
//! through descriptors opened beforehand, so several processes can share a directory.
//!
//! A pack, all integers little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `KRAZYPK1` |
//! | … | compressed blocks, one after the other |
//! | 48 × n | index: key (32), offset (8), length (4), CRC-32 of the block (4); length 0 if it does not compress |
//! | 8, 4, 4, 8 | footer: offset of the index, n, CRC-32 of the index, `KRAZYEND` |

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use crate::disk::size::Bytes;

const MAGIC: [u8; 8] = *b"KRAZYPK1";
const END: [u8; 8] = *b"KRAZYEND";
const ENTRY: usize = 48;
const FOOTER: usize = 24;

/// Limit of the number of packs. More of them take longer to open than they save.
const MAX_PACKS: usize = 64;

/// Age at which an unfinished pack is abandoned: its process no longer exists.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Version of the compression. To be increased when equal block, level and zstd give other bytes than before.
const SCHEME: u32 = 1;

/// The key of a block's compressed form: a BLAKE3 hash of the block, the level and the version of zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey([u8; 32]);

impl BlockKey {
    /// Returns the key of `block` compressed at `level`.
    pub(crate) fn of(block: &[u8], level: i32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&SCHEME.to_le_bytes());
        hasher.update(&level.to_le_bytes());
        hasher.update(&zstd::zstd_safe::version_number().to_le_bytes());
        hasher.update(block);
        BlockKey(*hasher.finalize().as_bytes())
    }
}

/// An opened cache directory.
#[derive(Debug)]
pub struct BlockCache {
    directory: PathBuf,
    limit: Bytes,
    packs: Vec<Pack>,
    index: HashMap<BlockKey, Location>,
    growing: Mutex<Option<GrowingPack>>,
}

#[derive(Debug)]
struct Pack {
    path: PathBuf,
    file: File,
    used: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Location {
    pack: usize,
    offset: u64,
    len: u32,
    crc: u32,
}

/// The pack of this run.
#[derive(Debug)]
struct GrowingPack {
    out: BufWriter<NamedTempFile>,
    len: u64,
    keys: HashSet<BlockKey>,
    index: Vec<u8>,
    /// The first failed write, after which nothing is added.
    failed: Option<io::Error>,
}

impl BlockCache {
    /// Opens `directory`, and creates it if it is missing. [`finalize`](Self::finalize) keeps it below `limit`.
    ///
    /// Damaged packs are deleted.
    pub fn open(directory: &Path, limit: Bytes) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut cache = BlockCache {
            directory: directory.to_owned(),
            limit,
            packs: Vec::new(),
            index: HashMap::new(),
            growing: Mutex::new(None),
        };
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "pack") {
                remove_abandoned(&path);
                continue;
            }
            // Another process may have evicted it meanwhile.
            let Ok(file) = File::open(&path) else { continue };
            match read_index(&file)? {
                Some(entries) => {
                    let pack = cache.packs.len();
                    for (key, offset, len, crc) in entries {
                        cache.index.insert(key, Location { pack, offset, len, crc });
                    }
                    cache.packs.push(Pack { path, file, used: AtomicBool::new(false) });
                }
                None => remove_if_there(&path)?,
            }
        }
        Ok(cache)
    }

    /// Returns the compressed form of the block with `key` and size `block_len`. For a block that does not compress, it is
    /// longer than the block. `None` if it is missing or damaged.
    pub(crate) fn get(&self, key: &BlockKey, block_len: usize) -> Option<Vec<u8>> {
        let location = self.index.get(key)?;
        let pack = &self.packs[location.pack];
        let compressed = if location.len == 0 {
            vec![0; block_len + 1]
        } else {
            let mut bytes = vec![0; location.len as usize];
            pack.file.read_exact_at(&mut bytes, location.offset).ok()?;
            if bytes.len() > block_len || crc32fast::hash(&bytes) != location.crc {
                return None;
            }
            bytes
        };
        pack.used.store(true, Ordering::Relaxed);
        Some(compressed)
    }

    /// Stores the compressed form of the block with `key`. [`finalize`](Self::finalize) returns a failure.
    pub(crate) fn put(&self, key: BlockKey, compressed: &[u8], block_len: usize) {
        let mut growing = self.growing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let pack = match &mut *growing {
            Some(pack) => pack,
            empty => match GrowingPack::new(&self.directory) {
                Ok(pack) => empty.insert(pack),
                // Tried again for the next block; if that goes on, finalize finds nothing to keep.
                Err(_) => return,
            },
        };
        if pack.failed.is_none()
            && let Err(error) = pack.add(key, if compressed.len() > block_len { &[] } else { compressed })
        {
            pack.failed = Some(error);
        }
    }

    /// Adds the new blocks to the directory, and deletes the least recently used packs until it is within the limit.
    pub fn finalize(self) -> io::Result<()> {
        let now = SystemTime::now();
        for pack in self.packs.iter().filter(|pack| pack.used.load(Ordering::Relaxed)) {
            // The time of the last use. Without it the pack is only evicted earlier.
            let _ = File::options().write(true).open(&pack.path).and_then(|file| file.set_modified(now));
        }
        if let Some(pack) = self.growing.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            pack.publish(&self.directory)?;
        }
        evict(&self.directory, self.limit)
    }
}

impl GrowingPack {
    fn new(directory: &Path) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix("unfinished-").tempfile_in(directory)?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        out.write_all(&MAGIC)?;
        let len = MAGIC.len() as u64;
        Ok(GrowingPack { out, len, keys: HashSet::new(), index: Vec::new(), failed: None })
    }

    fn add(&mut self, key: BlockKey, bytes: &[u8]) -> io::Result<()> {
        if !self.keys.insert(key) {
            return Ok(());
        }
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.out.write_all(bytes)?;
        self.index.extend_from_slice(&key.0);
        self.index.extend_from_slice(&self.len.to_le_bytes());
        self.index.extend_from_slice(&len.to_le_bytes());
        self.index.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
        self.len += u64::from(len);
        Ok(())
    }

    fn publish(mut self, directory: &Path) -> io::Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.out.write_all(&self.index)?;
        self.out.write_all(&self.len.to_le_bytes())?;
        let count = u32::try_from(self.keys.len()).map_err(io::Error::other)?;
        self.out.write_all(&count.to_le_bytes())?;
        self.out.write_all(&crc32fast::hash(&self.index).to_le_bytes())?;
        self.out.write_all(&END)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let name = blake3::hash(&self.index).to_hex();
        file.persist(directory.join(format!("{}.pack", &name[..32]))).map_err(|error| error.error)?;
        Ok(())
    }
}

type IndexEntry = (BlockKey, u64, u32, u32);

/// Reads the index of a pack; `None` if the file is not a valid pack.
fn read_index(file: &File) -> io::Result<Option<Vec<IndexEntry>>> {
    let size = file.metadata()?.len();
    let Some(footer_at) = size.checked_sub(FOOTER as u64) else { return Ok(None) };
    let mut magic = [0; MAGIC.len()];
    let mut footer = [0; FOOTER];
    if file.read_exact_at(&mut magic, 0).is_err() || file.read_exact_at(&mut footer, footer_at).is_err() {
        return Ok(None);
    }
    let index_at = u64::from_le_bytes(array(&footer, 0));
    let count = u32::from_le_bytes(array(&footer, 8));
    let crc = u32::from_le_bytes(array(&footer, 12));
    // The index must fill the space between blocks and footer, so the file's size limits the allocation.
    let index_len = u64::from(count) * ENTRY as u64;
    if magic != MAGIC || footer[16..] != END || index_at.checked_add(index_len) != Some(footer_at) {
        return Ok(None);
    }
    let mut index = vec![0; index_len as usize];
    if file.read_exact_at(&mut index, index_at).is_err() || crc32fast::hash(&index) != crc {
        return Ok(None);
    }
    let entries = index.chunks_exact(ENTRY).map(|entry| {
        let (offset, len) = (u64::from_le_bytes(array(entry, 32)), u32::from_le_bytes(array(entry, 40)));
        (BlockKey(array(entry, 0)), offset, len, u32::from_le_bytes(array(entry, 44)))
    });
    let inside = |(_, offset, len, _): &IndexEntry| {
        offset.checked_add(u64::from(*len)).is_some_and(|end| end <= index_at)
    };
    Ok(Some(entries.filter(inside).collect()))
}

/// Returns `N` bytes of `bytes` from `at` on. The caller has checked that they exist.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn evict(directory: &Path, limit: Bytes) -> io::Result<()> {
    let mut packs = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pack")
            && let Ok(metadata) = path.metadata()
        {
            packs.push((metadata.modified()?, metadata.len(), path));
        }
    }
    packs.sort_by(|a, b| b.cmp(a));
    let mut kept = 0;
    for (number, (_, len, path)) in packs.iter().enumerate() {
        kept += len;
        if kept > limit.0 || number >= MAX_PACKS {
            remove_if_there(path)?;
        }
    }
    Ok(())
}

fn remove_abandoned(path: &Path) {
    let is_ours = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"unfinished-"));
    let age = path.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
    if is_ours && matches!(age, Ok(Ok(age)) if age > ABANDONED) {
        // An undeletable file wastes space, nothing else.
        let _ = fs::remove_file(path);
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
