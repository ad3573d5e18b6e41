//! Directories of the user's cache that several processes fill: one at a time, and each directory wholly or not at all.

use std::fs::{File, TryLockError};
use std::path::Path;

use tempfile::TempDir;

use crate::failure::Result;
use crate::files::{io_failure, sorted_entries};
use crate::shell::Shell;

/// The start of the names of unfinished directories.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// Keeps other processes from changing a part of the cache until it is dropped.
#[derive(Debug)]
pub(crate) struct CacheGuard {
    _file: File,
}

/// Waits until no other process that `does` something holds the lock file `path`, and holds it.
pub(crate) fn exclusive(path: &Path, does: &str, shell: Shell) -> Result<CacheGuard> {
    // The file is never removed: another process may be waiting for its lock, and would not see a new file's.
    let file = File::create(path).map_err(io_failure("write", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            shell.status("Blocking", format!("waiting for another process that {does}"));
            file.lock().map_err(io_failure("lock", path))?;
        }
        Err(TryLockError::Error(error)) => return Err(io_failure("lock", path)(error)),
    }
    Ok(CacheGuard { _file: file })
}

/// Makes `directory` with the content that `fill` puts into an unfinished one beside it; a rename completes it. What it
/// replaces is removed. The caller holds the guard.
pub(crate) fn complete(directory: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = unfinished(directory.parent().unwrap_or(Path::new(".")))?;
    fill(new.path())?;
    if directory.exists() {
        std::fs::remove_dir_all(directory).map_err(io_failure("remove", directory))?;
    }
    std::fs::rename(new.path(), directory).map_err(io_failure("write", directory))?;
    // It has another name now, under which the guard must not remove it.
    let _renamed = new.keep();
    Ok(())
}

/// Makes a directory in `parent` that is removed unless it is kept, and removes those of killed processes. The caller holds
/// the guard, so no other process writes here.
pub(crate) fn unfinished(parent: &Path) -> Result<TempDir> {
    std::fs::create_dir_all(parent).map_err(io_failure("create", parent))?;
    for (name, path, _) in sorted_entries(parent)? {
        if name.starts_with(UNFINISHED) {
            std::fs::remove_dir_all(&path).map_err(io_failure("remove", &path))?;
        }
    }
    let new = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent);
    new.map_err(io_failure("write", parent))
}
