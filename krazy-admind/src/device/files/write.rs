//! Writing and removing files. A file is replaced as a whole or not at all.
//!
//! An upload goes to a hidden file beside its target, is flushed to the disk and renamed. The hidden file has a
//! fixed name and is locked while it is written: a second upload of the same target is refused, and what a crash
//! left behind is taken over by the next one instead of piling up.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, flock, fstat, fsync,
    ftruncate, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::device::files::Place;
use crate::problem::{Kind, Problem};

const PREFIX: &str = ".";
const SUFFIX: &str = ".krazy-upload";

/// An upload under way. Dropped before [`Upload::finish`], it leaves the target as it was.
pub(crate) struct Upload {
    place: Place,
    directory: File,
    name: OsString,
    temporary: OsString,
    file: File,
    replaces: Option<Stat>,
    finished: bool,
}

impl Upload {
    /// Begins to write the regular file at `place`, new or not.
    pub(crate) fn begin(place: Place) -> Result<Self, Problem> {
        let place = place.writable()?;
        let (directory, name) = place.open_parent()?;
        let name = name.to_owned();
        let path = place.path().to_string();
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
            Errno::AGAIN => Problem::new(Kind::Busy, format!("another upload of {path} is under way")),
            errno => problem(errno),
        })?;
        Ok(Upload { place, directory, name, temporary, file, replaces, finished: false })
    }

    /// Appends `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.file.write_all(bytes).map_err(|error| Problem::from_io(&error, &self.place.path().to_string()))
    }

    /// Puts the file in its place; it is on the disk when this returns. Says whether it is new.
    ///
    /// A replaced file's owner and mode stay. A new one belongs to whom the directory belongs to, so that a
    /// service can change what is put into its folder, and has mode 0644.
    pub(crate) fn finish(mut self) -> Result<bool, Problem> {
        self.publish().map_err(|errno| Problem::from_errno(errno, &self.place.path().to_string()))?;
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
            // FAT has no owners, and only root gives files away.
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
            // What cannot be removed is taken over by the next upload.
            let _left_behind = unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

/// An empty file `name` that nobody else writes; `EAGAIN` if somebody does.
fn open_locked(directory: &File, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    loop {
        let file = openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Between opening and locking, its owner may have renamed or removed it: then it is not ours to write.
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

/// Removes the file at `place`, of whatever kind but a directory; of a link, the link itself.
pub(crate) fn remove_file(place: Place) -> Result<(), Problem> {
    let place = place.writable()?;
    let (directory, name) = place.open_parent()?;
    unlinkat(&directory, name, AtFlags::empty())
        .and_then(|()| fsync(&directory))
        .map_err(|errno| Problem::from_errno(errno, &place.path().to_string()))
}
