//! Writing and removing files. A file is replaced as a whole or not at all.
//!
//! An upload goes to a hidden file beside its target, is flushed to the disk and renamed. The hidden file has a fixed
//! name and is locked while it is written: a second upload to the same target is rejected, and a file that a crash left
//! behind is reused by the next upload, so that such files do not accumulate.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, flock, fstat, fsync,
    ftruncate, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::Location;
use crate::problem::{Kind, Problem};

const PREFIX: &str = ".";
const SUFFIX: &str = ".krazy-upload";

/// An upload in progress. Dropped before [`Upload::finish`], it leaves the target unchanged.
pub(super) struct Upload {
    location: Location,
    directory: File,
    name: OsString,
    temporary: OsString,
    file: File,
    replaces: Option<Stat>,
    finished: bool,
}

impl Upload {
    /// Starts writing the regular file at `location`, which may exist.
    pub(super) fn begin(location: Location) -> Result<Self, Problem> {
        let location = location.writable()?;
        let (directory, name) = location.open_parent()?;
        let name = name.to_owned();
        let path = location.path().to_string();
        let problem = |errno| Problem::from_errno(errno, &path);
        let replaces = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                // The link is replaced, not what it leads to.
                FileType::RegularFile | FileType::Symlink => Some(stat),
                FileType::Directory => return Err(problem(Errno::ISDIR)),
                _ => return Err(Problem::new(Kind::NotAFile, format!("{path} is not a regular file"))),
            },
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(problem(errno)),
        };
        let mut temporary = OsString::from(PREFIX);
        temporary.push(&name);
        temporary.push(SUFFIX);
        let file = open_locked(&directory, &temporary).map_err(|errno| match errno {
            Errno::AGAIN => Problem::new(Kind::Busy, format!("another upload to {path} is in progress")),
            errno => problem(errno),
        })?;
        Ok(Upload { location, directory, name, temporary, file, replaces, finished: false })
    }

    /// Appends `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.file
            .write_all(bytes)
            .map_err(|error| Problem::from_io(&error, &self.location.path().to_string()))
    }

    /// Replaces the target durably. Returns true if the file is new.
    ///
    /// A replaced file keeps its owner and mode. A new one gets the owner of the directory, so that a service can change
    /// files in its own directory, and mode 0644.
    pub(super) fn finish(mut self) -> Result<bool, Problem> {
        self.publish().map_err(|errno| Problem::from_errno(errno, &self.location.path().to_string()))?;
        self.finished = true;
        Ok(self.replaces.is_none())
    }

    fn publish(&self) -> Result<(), Errno> {
        let (owner, mode) = match &self.replaces {
            Some(old) if FileType::from_raw_mode(old.st_mode) == FileType::RegularFile => {
                (*old, Mode::from_raw_mode(old.st_mode & 0o7777))
            }
            _ => (fstat(&self.directory)?, Mode::from_raw_mode(0o644)),
        };
        match fchown(&self.file, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid))) {
            // FAT has no owners, and only root may change them.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        match fchmod(&self.file, mode) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        fsync(&self.file)?;
        renameat(&self.directory, &self.temporary, &self.directory, &self.name)?;
        fsync(&self.directory)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished {
            // A file that cannot be removed is reused by the next upload.
            let _left_behind = unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

/// Opens the hidden file `name`, locked and empty. Fails with `EAGAIN` while another upload holds the lock.
fn open_locked(directory: &File, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    loop {
        let file = openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Between opening and locking, the previous upload may have renamed the file to its target or removed it.
        let opened = fstat(&file)?;
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino) => {}
            Ok(_) | Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        }
        if FileType::from_raw_mode(opened.st_mode) != FileType::RegularFile {
            return Err(Errno::EXIST);
        }
        ftruncate(&file, 0)?;
        return Ok(File::from(file));
    }
}

/// Removes the file at `location`, of any kind but a directory. Of a symbolic link, removes the link.
pub(super) fn remove(location: Location) -> Result<(), Problem> {
    let location = location.writable()?;
    let (directory, name) = location.open_parent()?;
    unlinkat(&directory, name, AtFlags::empty())
        .and_then(|()| fsync(&directory))
        .map_err(|errno| Problem::from_errno(errno, &location.path().to_string()))
}
