//! Mounting the root and moving over to it. Source: Linux `Documentation/filesystems/ramfs-rootfs-initramfs.rst`.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::mount::MountFlags;

use crate::linux::mounts;
use crate::linux::uevent::Uevents;

/// The mount point of the root before the move.
pub(crate) const SYSROOT: &str = "/sysroot";

/// Types of file system that are tried when the command line names none, the usual one first.
const KINDS: [&str; 3] = ["squashfs", "erofs", "ext4"];

/// The reason why a root cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountRootError {
    /// The mount point cannot be created.
    #[error("{0}: {1}")]
    MountPoint(&'static str, #[source] io::Error),
    /// The kernel rejects every type of file system, each with its error.
    #[error("{}", list(.0))]
    Mount(Vec<(String, io::Error)>),
}

/// Mounts `device` read-only at `target`. Without `kinds` from the command line, separated by commas, the types of
/// [`KINDS`] are tried.
pub(crate) fn mount(device: &Path, target: &'static str, kinds: Option<&str>) -> Result<(), MountRootError> {
    mounts::create_directory(target).map_err(|error| MountRootError::MountPoint(target, error))?;
    let source = device.to_string_lossy();
    let kinds = kinds.map_or(KINDS.to_vec(), |kinds| kinds.split(',').collect());
    let mut failures = Vec::new();
    for kind in kinds {
        match mounts::mount_at(&source, target, kind, MountFlags::RDONLY, "") {
            Ok(()) => return Ok(()),
            Err(error) => failures.push((kind.to_owned(), error)),
        }
    }
    Err(MountRootError::Mount(failures))
}

fn list(failures: &[(String, io::Error)]) -> String {
    failures.iter().map(|(kind, error)| format!("{kind}: {error}")).collect::<Vec<_>>().join("; ")
}

/// Moves the mounts over, makes [`SYSROOT`] the root, and empties the initramfs.
///
/// An initramfs cannot be unmounted, and pivot_root(2) refuses it, so the new root is moved over `/` instead. Its files
/// are removed afterwards through a descriptor, because no path leads to them any more.
pub(crate) fn switch() -> io::Result<()> {
    for row in mounts::FIRST_STAGE {
        // A root without the mount point does not get the mount.
        let target = format!("{SYSROOT}{}", row.target);
        if Path::new(&target).is_dir() {
            rustix::mount::mount_move(row.target, target.as_str())?;
        }
    }
    let old = rustix::fs::open("/", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    std::env::set_current_dir(SYSROOT)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")?;
    // Only files of the initramfs itself are removed; other mounts below it are other devices.
    let device = rustix::fs::fstat(&old)?.st_dev;
    empty(&old, device);
    console_as_standard_streams();
    Ok(())
}

/// Removes everything below `directory` that is on `device`, and never what is mounted there. A file that cannot be
/// removed only costs memory.
fn empty(directory: &OwnedFd, device: u64) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(child) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
                empty(&child, device);
            }
            let _kept = rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR);
        } else {
            let _kept = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}

/// Opens the console as standard streams. The kernel does it for its init only if the initramfs has the device node.
fn console_as_standard_streams() {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    if let Ok(console) = rustix::fs::open("/dev/console", flags, Mode::empty()) {
        let _kept = rustix::stdio::dup2_stdin(&console);
        let _kept = rustix::stdio::dup2_stdout(&console);
        let _kept = rustix::stdio::dup2_stderr(&console);
    }
}

/// Waits for a uevent, at most half a second and at most `left`.
pub(crate) fn wait_for_change(uevents: Option<&Uevents>, left: Duration) {
    // Partitions are announced before devtmpfs has their node, and a full queue loses events, so the wait is short.
    let limit = left.min(Duration::from_millis(500));
    let Some(uevents) = uevents else {
        std::thread::sleep(limit.min(Duration::from_millis(50)));
        return;
    };
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
    let mut descriptors = [PollFd::new(uevents.descriptor(), PollFlags::IN)];
    // The caller searches again, whatever ended the wait.
    let _ready = rustix::event::poll(&mut descriptors, Some(&timeout));
    while uevents.next().is_some() {}
}

/// Lists the block devices that the kernel knows, for the message that the root's is missing.
pub(crate) fn disks() -> String {
    let mut names: Vec<String> = fs::read_dir("/sys/class/block")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn emptying_the_initramfs_follows_no_links() {
        let dir = tempfile::tempdir().unwrap();
        let keep = dir.path().join("keep");
        fs::create_dir(&keep).unwrap();
        fs::write(keep.join("file"), "x").unwrap();
        let old = dir.path().join("old");
        fs::create_dir_all(old.join("a/b")).unwrap();
        fs::write(old.join("a/b/c"), "x").unwrap();
        symlink(&keep, old.join("a/link")).unwrap();
        let fd = rustix::fs::open(&old, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        let device = rustix::fs::fstat(&fd).unwrap().st_dev;
        empty(&fd, device);
        assert_eq!(fs::read_dir(&old).unwrap().count(), 0);
        assert!(keep.join("file").exists());
    }
}
