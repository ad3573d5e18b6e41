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

/// Returns the length of a file in bytes and its SHA-256 in hex.
pub(crate) fn measure(path: &Path) -> Result<(u64, String), Failure> {
    let mut file = std::fs::File::open(path).map_err(io_failure("read", path))?;
    let bytes = file.metadata().map_err(io_failure("read", path))?.len();
    Ok((bytes, sha256_of(&mut file).map_err(io_failure("read", path))?.to_string()))
}
