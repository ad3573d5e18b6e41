//! Temporary files that become something else when they are complete, and are removed otherwise, however the program
//! ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use super::{directory_of, write_failure};
use crate::failure::Result;
use crate::interrupt::{self, Cleanup};

/// An unfinished file, such as an image. It is removed when dropped or interrupted.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: NamedTempFile,
    _cleanup: Cleanup,
}

impl Scratch {
    /// The beginning of the names of all.
    const PREFIX: &'static str = ".krazy-";

    /// The end of the names of all.
    const SUFFIX: &'static str = ".part";

    /// Makes an empty file in `directory`, for its owner only: an image holds the appliance's keys.
    pub(crate) fn in_directory(directory: &Path) -> Result<Self> {
        Self::make(directory, 0o600)
    }

    /// Makes an empty file that is to replace `path`: with its permissions, or those that a new file gets.
    pub(crate) fn beside(path: &Path) -> Result<Self> {
        let directory = directory_of(path);
        let Ok(existing) = fs::metadata(path) else { return Self::make(directory, 0o666) };
        let scratch = Self::make(directory, 0o600)?;
        fs::set_permissions(scratch.path(), existing.permissions())
            .map_err(|error| write_failure(directory, &error))?;
        Ok(scratch)
    }

    fn make(directory: &Path, mode: u32) -> Result<Self> {
        Self::try_make(directory, mode).map_err(|error| write_failure(directory, &error))
    }

    fn try_make(directory: &Path, mode: u32) -> io::Result<Self> {
        // What cannot be removed, another user's for instance, does not prevent a new one.
        let _of_no_concern = Self::sweep(directory);
        let mut builder = tempfile::Builder::new();
        // Less what the umask takes away.
        builder.prefix(Self::PREFIX).suffix(Self::SUFFIX).permissions(fs::Permissions::from_mode(mode));
        loop {
            let file = builder.tempfile_in(directory)?;
            // Not every file system has locks; there it stays after a kill, because sweeping needs the lock.
            let _lock = file.as_file().lock();
            // Another program may have swept it before it was locked.
            if file.as_file().metadata()?.nlink() == 0 {
                continue;
            }
            let path = file.path().to_owned();
            // The program is ending: nothing can be done about an error.
            let cleanup = interrupt::cleanup(move || drop(fs::remove_file(path)));
            return Ok(Scratch { file, _cleanup: cleanup });
        }
    }

    /// Removes the files that killed programs left in `directory`: those that nobody holds a lock on.
    fn sweep(directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_ours = name.starts_with(Self::PREFIX) && name.ends_with(Self::SUFFIX);
            if !is_ours || !entry.file_type()?.is_file() {
                continue;
            }
            let file = File::open(entry.path())?;
            if file.try_lock().is_ok() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the file, open for reading and writing.
    pub(crate) fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Returns the file for writers that need to own it.
    pub(crate) fn as_file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Renames it to `path`, in the same directory.
    pub(crate) fn persist(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map(drop).map_err(|error| error.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_killed_program_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let used = Scratch::in_directory(directory.path()).unwrap();
        for name in [".krazy-left.part", ".krazy-other", "a.img"] {
            fs::write(path(name), "").unwrap();
        }
        let new = Scratch::beside(&path("b.img")).unwrap();
        assert!(used.path().exists() && new.path().exists() && path(".krazy-other").exists());
        assert!(!path(".krazy-left.part").exists());
    }
}
