//! Parts of slots by their hash: `CACHE/parts/SHA256`, in the user's cache.
//!
//! Content that was put into images and pushed stays here for a while, because a device that runs it can copy from it: then
//! only the rest has to be sent. Contents are named by their hash and never changed; the least recently used go
//! when there are too many bytes.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use krazy_boot::digest::{Hex, Sha256Hash};
use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::size::Bytes;
use krazy_boot::image::window::Window;
use krazy_boot::update::bundle::{Part, PartKind};
use sha2::{Digest, Sha256};

use super::Content;
use crate::failure::{Exit, Explain, Result};
use crate::output::Scratch;
use crate::user_directories;

/// Room for parts; some twenty kernels and roots of appliances of usual size.
const LIMIT: Bytes = Bytes::gib(1);

/// Offset of `bytes_used`, a little-endian u64, in a SquashFS superblock.
const BYTES_USED: u64 = 40;

/// Parts of a bundle that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to {}", directory.display())]
pub(crate) struct WriteError {
    /// The directory.
    pub(crate) directory: PathBuf,
    /// The cause.
    #[source]
    pub(crate) error: io::Error,
}

impl Explain for WriteError {
    fn exit(&self) -> Exit {
        Exit::Image
    }

    fn help(&self) -> Option<String> {
        let cache = user_directories::CACHE.variable;
        Some(match self.error.kind() {
            io::ErrorKind::StorageFull => {
                format!("free some space there; {cache} and TMPDIR name directories on other disks")
            }
            _ => format!("check the directory's owner and mode, or set {cache} to another one"),
        })
    }
}

/// The directory of parts.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    limit: Bytes,
}

impl Store {
    /// The user's.
    pub(crate) fn of_user() -> Result<Self> {
        Store::in_directory(&user_directories::CACHE.find()?, LIMIT)
    }

    /// The one in the caches' directory `cache`, with room for `limit`.
    pub(crate) fn in_directory(cache: &Path, limit: Bytes) -> Result<Self> {
        let directory = cache.join("parts");
        fs::create_dir_all(&directory).map_err(|error| WriteError { directory: directory.clone(), error })?;
        Ok(Store { directory, limit })
    }

    /// Keeps what `fill` writes as a part of this kind.
    pub(crate) fn add(&self, kind: PartKind, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<Content> {
        let writing = |error| WriteError { directory: self.directory.clone(), error };
        let mut scratch = Scratch::in_directory(&self.directory)?;
        fill(scratch.as_file_mut()).map_err(|failure| {
            let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
            let full = failure.causes().any(|cause| cause.downcast_ref().is_some_and(is_full));
            if full { writing(io::ErrorKind::StorageFull.into()).into() } else { failure }
        })?;
        let mut reader = File::open(scratch.path()).map_err(writing)?;
        let (sha256, size) = hash(&mut reader).map_err(writing)?;
        let path = self.directory.join(sha256.to_string());
        // Opened for reading only: nobody changes it any more.
        scratch.persist(&path).map_err(writing)?;
        self.prune(&path).map_err(writing)?;
        Ok(Content { part: Part { kind, size, sha256 }, file: Arc::new(reader), path })
    }

    /// The same for a file that is there already.
    pub(crate) fn add_file(&self, kind: PartKind, path: &Path) -> Result<Content> {
        let reading = || format!("failed to read {}", path.display());
        self.add(kind, |out| {
            let mut file = File::open(path).with_context(reading)?;
            // A reflink where the file system can, else a copy within the kernel.
            io::copy(&mut file, out).with_context(reading)?;
            Ok(())
        })
    }

    /// Keeps the root in the partition `root` of the disk `image`: devices that run it can copy from it.
    pub(crate) fn add_root(&self, image: &File, root: Extent) -> Result<Content> {
        self.add(PartKind::Root, |out| {
            let copy = squashfs_len(image, root.start.bytes())
                .and_then(|len| io::copy(&mut Window::of(image, root).take(len), out));
            copy.context("failed to copy the root")?;
            Ok(())
        })
    }

    /// Returns the content of this hash and length, if it is still there and intact. Counts as use.
    pub(crate) fn find(&self, sha256: &Sha256Hash, size: Bytes) -> Option<File> {
        let path = self.directory.join(sha256.to_string());
        let file = File::open(&path).ok()?;
        let (found, len) = hash(&mut &file).ok()?;
        if found != *sha256 || len != size {
            // Damaged by a full disk or by hand: it is of no use to anyone.
            let _gone = fs::remove_file(&path);
            return None;
        }
        let now = FileTimes::new().set_modified(SystemTime::now());
        // Someone else's cache stays in the order it has.
        let _unordered = File::options().write(true).open(&path).and_then(|file| file.set_times(now));
        Some(file)
    }

    /// Removes the least recently used until the rest fits; never `kept`.
    fn prune(&self, kept: &Path) -> io::Result<()> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Another run may remove it meanwhile; unfinished ones belong to other runs.
            let Ok(metadata) = entry.metadata() else { continue };
            if krazy_boot::digest::is_sha256(&entry.file_name().to_string_lossy()) {
                parts.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        parts.sort();
        let mut total: u64 = parts.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in parts {
            if total <= self.limit.0 {
                break;
            }
            if path != kept {
                fs::remove_file(&path).or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?;
                total -= len;
            }
        }
        Ok(())
    }
}

/// The length of the SquashFS at `start` of `file`.
pub(crate) fn squashfs_len(file: &File, start: Bytes) -> io::Result<u64> {
    let mut used = [0; 8];
    file.read_exact_at(&mut used, start.0 + BYTES_USED)?;
    Ok(u64::from_le_bytes(used))
}

/// SHA-256 and length of the rest of `reader`.
pub(crate) fn hash(reader: &mut impl Read) -> io::Result<(Sha256Hash, Bytes)> {
    let mut hasher = Hasher(Sha256::new());
    let len = io::copy(reader, &mut hasher)?;
    Ok((Hex(hasher.0.finalize().into()), Bytes(len)))
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(store: &Store, bytes: &[u8]) -> Content {
        store.add(PartKind::Root, |out| out.write_all(bytes).map_err(crate::failure::Failure::other)).unwrap()
    }

    #[test]
    fn parts_are_found_by_their_hash_while_they_are_intact() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::in_directory(cache.path(), Bytes::mib(1)).unwrap();
        let part = add(&store, b"abc").part;
        assert!(part.sha256.to_string().starts_with("ba7816bf8f01cfea"), "{part:?}");
        assert_eq!(part.size, Bytes(3));
        assert!(store.find(&part.sha256, part.size).is_some());
        assert!(store.find(&Hex([7; 32]), part.size).is_none());
        fs::write(cache.path().join("parts").join(part.sha256.to_string()), "abd").unwrap();
        assert!(store.find(&part.sha256, part.size).is_none());
        assert_eq!(fs::read_dir(cache.path().join("parts")).unwrap().count(), 0);
    }

    #[test]
    fn full_disk_has_an_exit_code_and_help() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::in_directory(cache.path(), Bytes::mib(1)).unwrap();
        let filled = store.add(PartKind::Initramfs, |_| {
            let mut full = File::options().write(true).open("/dev/full").unwrap();
            Ok(full.write_all(b"x").context("failed to write the initramfs")?)
        });
        let failure = filled.unwrap_err();
        assert_eq!(failure.exit(), Exit::Image);
        let directory = cache.path().join("parts");
        assert_eq!(failure.to_string(), format!("failed to write to {}", directory.display()));
        assert!(failure.next_step().unwrap().starts_with("free some space there"), "{failure:?}");
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }

    #[test]
    fn the_least_recently_used_goes_and_the_newest_stays() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::in_directory(cache.path(), Bytes(8)).unwrap();
        let parts: Vec<_> = [[1; 4], [2; 4]].iter().map(|bytes| add(&store, bytes).part).collect();
        let old = SystemTime::UNIX_EPOCH;
        for part in &parts {
            let path = cache.path().join("parts").join(part.sha256.to_string());
            File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        }
        store.find(&parts[0].sha256, parts[0].size).unwrap();
        let big = add(&store, &[3; 6]).part;
        let there = |part: &Part| store.find(&part.sha256, part.size).is_some();
        assert_eq!((there(&parts[0]), there(&parts[1]), there(&big)), (false, false, true));
        let huge = add(&store, &[4; 20]).part;
        assert!(there(&huge) && !there(&big));
    }
}
