//! Files and directories of this machine, with errors that name the path and what was attempted.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use krazy_boot::digest::sha256_of;

use crate::failure::{Exit, Explain, Failure};

/// Bytes of a single file in a bundle at most. The largest module of trixie, amdgpu, has 28 MB.
pub(crate) const MAX_FILE: u64 = 256 << 20;
/// Bytes of an unpacked archive at most. Trixie's amd64 package has 112 MB before modules are uncompressed.
pub(crate) const MAX_UNPACKED: u64 = 4 << 30;

/// The failure of an access to a file or directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The operating system refused it.
    #[error("failed to {verb} {}: {error}", path.display())]
    Io {
        /// The attempt, such as `read`.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// A name that no message and no archive could hold.
    #[error("the name of {} is not UTF-8", path.display())]
    Name {
        /// The file or directory.
        path: PathBuf,
    },
}

impl Explain for FileError {
    fn exit(&self) -> Exit {
        Exit::Fetch
    }

    fn help(&self) -> Option<String> {
        let FileError::Io { error, .. } = self else { return None };
        match error.kind() {
            io::ErrorKind::StorageFull => {
                Some("make room, or set KRAZY_CACHE_DIR to a directory on a larger disk".to_owned())
            }
            io::ErrorKind::PermissionDenied => Some("check the owner and the mode of the path".to_owned()),
            _ => None,
        }
    }
}

/// Returns a conversion of an I/O error into a failure that names the attempt and the path.
pub(crate) fn io_failure<'p>(verb: &'static str, path: &'p Path) -> impl Fn(io::Error) -> Failure + 'p {
    move |error| FileError::Io { verb, path: path.to_owned(), error }.into()
}

/// Returns what a directory holds, sorted by name, with metadata of the entries themselves (links are not followed).
pub(crate) fn sorted_entries(directory: &Path) -> Result<Vec<(String, PathBuf, Metadata)>, Failure> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io_failure("read", directory))? {
        let entry = entry.map_err(io_failure("read", directory))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(io_failure("read", &path))?;
        let name = entry.file_name().into_string().map_err(|_| FileError::Name { path: path.clone() })?;
        entries.push((name, path, metadata));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// Copies everything in the directory `from` into the existing directory `to`, except for entries with the names `without`.
/// Links are copied as links.
pub(crate) fn copy_directory(from: &Path, to: &Path, without: &[&str]) -> Result<(), Failure> {
    for (name, path, metadata) in sorted_entries(from)? {
        if without.contains(&name.as_str()) {
            continue;
        }
        let copy = to.join(&name);
        if metadata.is_dir() {
            std::fs::create_dir_all(&copy).map_err(io_failure("create", &copy))?;
            copy_directory(&path, &copy, without)?;
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(&path).map_err(io_failure("read", &path))?;
            std::os::unix::fs::symlink(target, &copy).map_err(io_failure("write", &copy))?;
        } else {
            std::fs::copy(&path, &copy).map_err(io_failure("copy", &path))?;
        }
    }
    Ok(())
}

/// Returns the length of a file in bytes and its SHA-256 in hex.
pub(crate) fn measure(path: &Path) -> Result<(u64, String), Failure> {
    let mut file = std::fs::File::open(path).map_err(io_failure("read", path))?;
    let bytes = file.metadata().map_err(io_failure("read", path))?.len();
    Ok((bytes, sha256_of(&mut file).map_err(io_failure("read", path))?.to_string()))
}
