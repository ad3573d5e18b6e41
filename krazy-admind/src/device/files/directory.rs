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

use super::{Location, TreePath};
use crate::problem::{Kind, Problem};

/// Entries in a listing; `truncated` is set if there are more.
const MAX_ENTRIES: usize = 10_000;

/// Levels of a tree that is removed as a whole. One file descriptor per level is open.
const MAX_DEPTH: usize = 64;

/// Lists the directory at `location`, sorted by name.
pub(super) fn list(location: &Location) -> Result<Listing, Problem> {
    let path = location.path().to_string();
    let problem = |errno| Problem::from_errno(errno, &path);
    let directory = location.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut entries = Vec::new();
    let mut truncated = false;
    for item in Dir::read_from(&directory).map_err(problem)? {
        let item = item.map_err(problem)?;
        let name = OsStr::from_bytes(item.file_name().to_bytes());
        if is_dots(item.file_name()) || !location.shows(name) {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            truncated = true;
            break;
        }
        match entry(directory.as_fd(), location.path(), name) {
            Ok(entry) => entries.push(entry),
            // Removed since the directory was read.
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

/// Makes the directory at `location` in an existing one, with the same owner. Returns true if it is new.
pub(super) fn make(location: Location) -> Result<bool, Problem> {
    let location = location.writable()?;
    let (parent, name) = location.open_parent()?;
    let problem = |errno| Problem::from_errno(errno, &location.path().to_string());
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let existing = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(problem)?;
            return match FileType::from_raw_mode(existing.st_mode) {
                FileType::Directory => Ok(false),
                _ => Err(problem(Errno::EXIST)),
            };
        }
        Err(errno) => return Err(problem(errno)),
    }
    inherit_owner(&parent, name).and_then(|()| fsync(&parent)).map_err(problem)?;
    Ok(true)
}

/// Gives the new directory `name` the owner of `parent`.
fn inherit_owner(parent: &File, name: &OsStr) -> Result<(), Errno> {
    use rustix::fs::{Gid, Uid};
    let directory = openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let owner = fstat(parent)?;
    match fchown(&directory, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid))) {
        // FAT has no owners, and only root may change them.
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes the directory at `location`; one with entries only if `recursive`. Links in it are removed, not followed.
pub(super) fn remove(location: Location, recursive: bool) -> Result<(), Problem> {
    let location = location.writable()?;
    let (parent, name) = location.open_parent()?;
    let problem = |errno| match errno {
        Errno::MLINK => Problem::new(
            Kind::BadRequest,
            format!("{} is deeper than {MAX_DEPTH} levels; remove its subdirectories first", location.path()),
        ),
        errno => Problem::from_errno(errno, &location.path().to_string()),
    };
    if recursive {
        remove_content(parent.as_fd(), name, MAX_DEPTH).map_err(problem)?;
    }
    unlinkat(&parent, name, AtFlags::REMOVEDIR).and_then(|()| fsync(&parent)).map_err(problem)
}

/// Removes everything in the directory `name`. Fails with `MLINK` if it is deeper than `depth` levels.
fn remove_content(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<(), Errno> {
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
            // For a directory, unlink fails with EPERM in POSIX and with EISDIR on Linux.
            Err(Errno::ISDIR | Errno::PERM) => {
                remove_content(directory.as_fd(), name, depth)?;
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
