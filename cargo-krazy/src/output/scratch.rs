//! Temporary files that become something else when they are complete, and are removed otherwise, however the program
//! ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
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
        let mut builder = tempfile::Builder::new();
        // Less what the umask takes away.
        builder.prefix(Self::PREFIX).suffix(".part").permissions(fs::Permissions::from_mode(mode));
        let file = builder.tempfile_in(directory);
        let file = file.map_err(|error| write_failure(directory, &error))?;
        let path = file.path().to_owned();
        // The program is ending: nothing can be done about an error.
        let cleanup = interrupt::cleanup(move || drop(fs::remove_file(path)));
        Ok(Scratch { file, _cleanup: cleanup })
    }

    /// Removes the files that killed programs left in `directory`. No other program may be using it.
    pub(crate) fn sweep(directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(Self::PREFIX) && entry.file_type()?.is_file() {
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
        let left = Scratch::in_directory(directory.path()).unwrap();
        fs::write(directory.path().join("a.img"), "").unwrap();
        Scratch::sweep(directory.path()).unwrap();
        assert!(!left.path().exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
