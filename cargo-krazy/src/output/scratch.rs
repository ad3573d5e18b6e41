//! Files in the making: gone when what they are for does not come about, however the program ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use tempfile::NamedTempFile;

use super::{folder_of, write_failure};
use crate::interrupt::{self, Cleanup};

/// A file in the making, such as an image. It is removed when dropped or interrupted.
#[derive(Debug)]
pub struct Scratch {
    file: NamedTempFile,
    _cleanup: Cleanup,
}

impl Scratch {
    /// What the names of all begin with.
    const PREFIX: &'static str = ".krazy-";

    /// An empty file in `folder`, for its owner only: an image holds the appliance's keys.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        Self::make(folder, 0o600)
    }

    /// An empty file that is to replace `path`: with its permissions, or those that a new file gets.
    pub fn beside(path: &Path) -> Result<Self> {
        let folder = folder_of(path);
        let Ok(existing) = fs::metadata(path) else { return Self::make(folder, 0o666) };
        let scratch = Self::make(folder, 0o600)?;
        fs::set_permissions(scratch.path(), existing.permissions())
            .map_err(|error| write_failure(folder, &error))?;
        Ok(scratch)
    }

    fn make(folder: &Path, mode: u32) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        // Less what the umask takes away.
        builder.prefix(Self::PREFIX).suffix(".part").permissions(fs::Permissions::from_mode(mode));
        let file = builder.tempfile_in(folder);
        let file = file.map_err(|error| write_failure(folder, &error))?;
        let path = file.path().to_owned();
        // The program is ending; there is nobody left who could do something about an error.
        let cleanup = interrupt::cleanup(move || drop(fs::remove_file(path)));
        Ok(Scratch { file, _cleanup: cleanup })
    }

    /// Removes what programs that were killed left in `folder`, which nobody else may be using.
    pub fn sweep(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(Self::PREFIX) && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file, open for reading and writing.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// The same for writers that want to own it.
    pub fn as_file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Renames it to `path`, in the same folder.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map(drop).map_err(|error| error.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_program_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let left = Scratch::in_folder(folder.path()).unwrap();
        fs::write(folder.path().join("a.img"), "").unwrap();
        Scratch::sweep(folder.path()).unwrap();
        assert!(!left.path().exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
