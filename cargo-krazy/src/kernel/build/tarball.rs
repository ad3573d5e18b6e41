//! Unpacks the tarball of a kernel's source.
//!
//! A tarball has one directory at its top (`linux-6.12.1/`), whose content becomes the tree. Modification times are
//! kept, so that make sees the same order of times wherever the tree is unpacked.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use super::tree::{TreeError, Version};
use crate::cache;
use crate::failure::Result;
use crate::files::{io_failure, sorted_entries};
use crate::interrupt;
use crate::kernel::bundle::archive::decompressed;

/// Bytes of an unpacked tarball at most. Linux 6.12 has 1.5 GB.
const MAX_LEN: u64 = 8 << 30;

/// Unpacks `tarball` to `directory`, which appears complete or not at all. The caller holds the cache's guard.
pub(crate) fn unpack(tarball: &Path, directory: &Path) -> Result<()> {
    let new = cache::unfinished(directory.parent().unwrap_or(Path::new(".")))?;
    extract(tarball, new.path())?;
    let mut top = sorted_entries(new.path())?;
    let (Some((_, inner, metadata)), true) = (top.pop(), top.is_empty()) else {
        return Err(foreign(tarball).into());
    };
    if !metadata.is_dir() {
        return Err(foreign(tarball).into());
    }
    // Checked before the rename: a directory under its final name counts as a kernel's tree.
    Version::of(&inner).map_err(|_| foreign(tarball))?;
    std::fs::rename(&inner, directory).map_err(io_failure("write", directory))
}

fn foreign(tarball: &Path) -> TreeError {
    TreeError::NotATarball { tarball: tarball.to_owned() }
}

fn extract(tarball: &Path, into: &Path) -> Result<()> {
    let file = File::open(tarball).map_err(io_failure("read", tarball))?;
    let damaged = |error: std::io::Error| TreeError::Unpack { tarball: tarball.to_owned(), error };
    let mut stream = decompressed(file).map_err(damaged)?.take(MAX_LEN + 1);
    let mut archive = tar::Archive::new(&mut stream);
    archive.set_preserve_permissions(false);
    archive.set_overwrite(false);
    for entry in archive.entries().map_err(damaged)? {
        interrupt::check()?;
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        // The signed tarballs of kernel.org begin with a header that names the commit.
        if entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        let clean = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        // `unpack_in` follows no link out of the directory, and returns false for what it did not unpack.
        if !clean || !entry.unpack_in(into).map_err(|error| damaged(cause(error)))? {
            return Err(TreeError::Outside { tarball: tarball.to_owned(), path }.into());
        }
    }
    if stream.limit() == 0 {
        return Err(
            damaged(std::io::Error::other(format!("it holds more than {} GiB", MAX_LEN >> 30))).into()
        );
    }
    Ok(())
}

/// Returns the operating system's error within one of the tar crate's, which has a message but no kind.
fn cause(error: std::io::Error) -> std::io::Error {
    let inner = error.get_ref().and_then(|inner| inner.source());
    let system = inner.and_then(|source| source.downcast_ref::<std::io::Error>());
    match system.map(std::io::Error::kind) {
        Some(kind @ std::io::ErrorKind::StorageFull) => std::io::Error::new(kind, error),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::testing::FILES;
    use super::*;
    use crate::kernel::bundle::archive::testing::tar;

    fn unpack_bytes(bytes: &[u8]) -> (tempfile::TempDir, Result<()>) {
        let directory = tempfile::tempdir().unwrap();
        let tarball = directory.path().join("linux.tar");
        std::fs::write(&tarball, bytes).unwrap();
        let result = unpack(&tarball, &directory.path().join("sources/tree"));
        (directory, result)
    }

    fn message(bytes: &[u8]) -> String {
        let (directory, result) = unpack_bytes(bytes);
        let left = std::fs::read_dir(directory.path().join("sources")).unwrap().count();
        assert_eq!(left, 0, "nothing half-unpacked stays");
        result.unwrap_err().to_string().replace(&directory.path().display().to_string(), "DIR")
    }

    #[test]
    fn directory_at_the_top_becomes_the_tree() {
        let files = FILES.map(|(name, text)| (format!("linux-6.9.3/{name}"), text));
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let (directory, result) = unpack_bytes(&tar(&files));
        result.unwrap();
        assert!(directory.path().join("sources/tree/Kconfig").is_file());
    }

    #[test]
    fn other_archives_leave_nothing() {
        let foreign = "DIR/linux.tar is not the tarball of a Linux kernel's source";
        assert_eq!(message(&tar(&[("a/x", b"1")])), foreign);
        assert_eq!(message(&tar(&[("a/x", b"1"), ("b", b"1")])), foreign);
        assert_eq!(message(&tar(&[("x", b"1")])), foreign);
        assert_eq!(
            message(&tar(&[("a/../../x", b"1")])),
            "refused to unpack `a/../../x` of DIR/linux.tar: it leaves the directory"
        );
        let whole = tar(&[("a/x", &[7; 9000])]);
        assert!(message(&whole[..4000]).starts_with("failed to unpack DIR/linux.tar: "));
        assert!(message(b"\x1f\x8bgzip").contains("compressed with gzip"));
    }
}
