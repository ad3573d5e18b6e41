//! Mounting the root and moving over to it.

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

/// Where the root is mounted before the move.
pub const SYSROOT: &str = "/sysroot";

/// File systems a root may have when the command line names none, the usual one first.
const KINDS: [&str; 3] = ["squashfs", "erofs", "ext4"];

/// Makes `path` if it is missing.
pub fn ensure_folder(path: &str) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Mounts `device` read-only on [`SYSROOT`]. The error lists what each kind of file system said.
pub fn mount(device: &Path, kind: Option<&str>) -> Result<(), String> {
    mount_at(device, SYSROOT, kind)
}

/// The same on `target`.
pub fn mount_at(device: &Path, target: &str, kind: Option<&str>) -> Result<(), String> {
    ensure_folder(target).map_err(|error| format!("{target}: {error}"))?;
    let source = device.to_string_lossy();
    let kinds: Vec<&str> = match kind {
        Some(kinds) => kinds.split(',').collect(),
        None => KINDS.to_vec(),
    };
    let mut failures = Vec::new();
    for kind in kinds {
        match mounts::mount_at(&source, target, kind, MountFlags::RDONLY, "") {
            Ok(()) => return Ok(()),
            Err(error) => failures.push(format!("{kind}: {error}")),
        }
    }
    Err(failures.join("; "))
}

/// Moves the mounts over, makes [`SYSROOT`] the root, and empties the initramfs.
pub fn switch() -> io::Result<()> {
    for row in mounts::FIRST_STAGE {
        // A root without the mount point keeps nothing mounted that it cannot see.
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
    let device = rustix::fs::fstat(&old)?.st_dev;
    empty(&old, device);
    console_as_standard_streams();
    Ok(())
}

/// Removes everything below `folder` that is on `device`. What cannot be removed stays and costs memory; that is
/// no reason not to boot.
fn empty(folder: &OwnedFd, device: u64) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(child) = rustix::fs::openat(folder, name, flags, Mode::empty()) {
                empty(&child, device);
            }
            let _kept = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
        } else {
            let _kept = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    }
}

/// The kernel opens the console for its init only if the initramfs has the node; `/dev` has it now.
fn console_as_standard_streams() {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    if let Ok(console) = rustix::fs::open("/dev/console", flags, Mode::empty()) {
        let _kept = rustix::stdio::dup2_stdin(&console);
        let _kept = rustix::stdio::dup2_stdout(&console);
        let _kept = rustix::stdio::dup2_stderr(&console);
    }
}

/// Waits for an announcement of the kernel, at most half a second and at most `left`.
pub fn wait_for_change(uevents: Option<&Uevents>, left: Duration) {
    // Partitions are announced before devtmpfs has their node, and a full queue loses announcements: look anyway.
    let limit = left.min(Duration::from_millis(500));
    let Some(uevents) = uevents else {
        std::thread::sleep(limit.min(Duration::from_millis(50)));
        return;
    };
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
    let mut descriptors = [PollFd::new(uevents.descriptor(), PollFlags::IN)];
    // Interrupted or not, the caller looks again.
    let _ready = rustix::event::poll(&mut descriptors, Some(&timeout));
    while uevents.next().is_some() {}
}

/// The block devices the kernel shows, for the message that the root's is not among them.
pub fn disks() -> String {
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
    fn emptying_follows_no_links() {
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
