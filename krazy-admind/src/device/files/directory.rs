//! Directories: listing, making, removing.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use krazy_boot::api::files::{Entry, EntryKind, Listing};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchown, fstat, fsync, mkdirat, openat, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::device::files::{Place, TreePath};
use crate::problem::{Kind, Problem};

/// The most entries a listing shows; it says when there are more.
const MAX_ENTRIES: usize = 10_000;

/// The deepest tree that is removed as a whole. One file descriptor per level is open.
const MAX_DEPTH: usize = 64;

/// Lists the directory at `place`, sorted by name.
pub(crate) fn list(place: &Place) -> Result<Listing, Problem> {
    let path = place.path().to_string();
    let problem = |errno| Problem::from_errno(errno, &path);
    let directory = place.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut entries = Vec::new();
    let mut truncated = false;
    for item in Dir::read_from(&directory).map_err(problem)? {
        let item = item.map_err(problem)?;
        let name = OsStr::from_bytes(item.file_name().to_bytes());
        if is_dots(item.file_name()) || !place.shows(name) {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            truncated = true;
            break;
        }
        match entry(directory.as_fd(), place.path(), name) {
            Ok(entry) => entries.push(entry),
            // Removed since it was read.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(problem(errno)),
        }
    }
    entries.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(Listing { path, entries, truncated })
}

fn entry(directory: BorrowedFd<'_>, parent: &TreePath, name: &OsStr) -> Result<Entry, Errno> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let target = match kind {
        FileType::Symlink => Some(readlinkat(directory, name, Vec::new())?.to_string_lossy().into_owned()),
        _ => None,
    };
    Ok(Entry {
        name: name.to_string_lossy().into_owned(),
        path: parent.url_of(name),
        kind: match kind {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            _ => EntryKind::Other,
        },
        size: stat.st_size.try_into().unwrap_or(0),
        mode: format!("{:04o}", stat.st_mode & 0o7777),
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: stat.st_mtime,
        target,
    })
}

/// Makes the directory at `place`; its parent must exist. Says whether it is new. It belongs to whom its parent
/// belongs to.
pub(crate) fn make(place: Place) -> Result<bool, Problem> {
    let place = place.writable()?;
    let (parent, name) = place.open_parent()?;
    let problem = |errno| Problem::from_errno(errno, &place.path().to_string());
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(problem)?;
            return match FileType::from_raw_mode(there.st_mode) {
                FileType::Directory => Ok(false),
                _ => Err(problem(Errno::EXIST)),
            };
        }
        Err(errno) => return Err(problem(errno)),
    }
    adopt(&parent, name).and_then(|()| fsync(&parent)).map_err(problem)?;
    Ok(true)
}

fn adopt(parent: &File, name: &OsStr) -> Result<(), Errno> {
    use rustix::fs::{Gid, Uid};
    let directory = openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let owner = fstat(parent)?;
    match fchown(&directory, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid))) {
        // FAT has no owners, and only root gives files away.
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes the directory at `place`; one with entries only if `recursive`. Links in it are removed, not followed.
pub(crate) fn remove_directory(place: Place, recursive: bool) -> Result<(), Problem> {
    let place = place.writable()?;
    let (parent, name) = place.open_parent()?;
    let problem = |errno| match errno {
        Errno::MLINK => Problem::new(
            Kind::BadRequest,
            format!("{} is deeper than {MAX_DEPTH} levels; remove its parts first", place.path()),
        ),
        errno => Problem::from_errno(errno, &place.path().to_string()),
    };
    if recursive {
        empty(parent.as_fd(), name, MAX_DEPTH).map_err(problem)?;
    }
    unlinkat(&parent, name, AtFlags::REMOVEDIR).and_then(|()| fsync(&parent)).map_err(problem)
}

/// Removes everything in the directory `name`. `MLINK` when it is deeper than `depth`.
fn empty(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    let depth = depth.checked_sub(1).ok_or(Errno::MLINK)?;
    for item in Dir::read_from(&directory)? {
        let item = item?;
        if is_dots(item.file_name()) {
            continue;
        }
        let name = OsStr::from_bytes(item.file_name().to_bytes());
        match unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // POSIX lets unlink answer EPERM for a directory, Linux says EISDIR.
            Err(Errno::ISDIR | Errno::PERM) => {
                empty(directory.as_fd(), name, depth)?;
                unlinkat(&directory, name, AtFlags::REMOVEDIR)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn is_dots(name: &CStr) -> bool {
    name == c"." || name == c".."
}
