//! The file systems that every appliance has, as a table. Source: mount(2).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use krazy_boot::api::logs;
use rustix::mount::{MountFlags, UnmountFlags};

use super::system_log;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Mount {
    /// The type of file system, which is also its source.
    pub(crate) kind: &'static str,
    /// The mount point.
    pub(crate) target: &'static str,
    /// Mount flags.
    pub(crate) flags: MountFlags,
    /// Options of the file system.
    pub(crate) options: &'static str,
    /// Set when the mount point must be created first.
    pub(crate) create_target: bool,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const SCRATCH: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

const fn mount(kind: &'static str, target: &'static str, flags: MountFlags, options: &'static str) -> Mount {
    Mount { kind, target, flags, options, create_target: false }
}

/// Mounts of the first stage, which `/bin/init` finds in place.
pub(crate) const FIRST_STAGE: &[Mount] = &[
    mount("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    mount("proc", "/proc", QUIET, ""),
    mount("sysfs", "/sys", QUIET, ""),
];

/// Mounts of the supervisor, in this order. Those of the first stage are there already, unless the kernel mounted the
/// root itself. `/boot` and `/data` follow once their disk is known.
pub(crate) const SYSTEM: &[Mount] = &[
    mount("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    mount("proc", "/proc", QUIET, ""),
    mount("sysfs", "/sys", QUIET, ""),
    // All of these together leave a third of the memory to programs. What a service writes there counts as its memory.
    mount("tmpfs", "/run", SCRATCH, "mode=0755,size=10%"),
    // Of its own, so that no service can take its room by what it has in /run/NAME.
    Mount { create_target: true, ..mount("tmpfs", logs::DIRECTORY, QUIET, "mode=0755,size=15%") },
    mount("tmpfs", "/tmp", SCRATCH, "mode=1777,size=25%"),
    Mount {
        create_target: true,
        ..mount("devpts", "/dev/pts", MountFlags::NOSUID.union(MountFlags::NOEXEC), "mode=0620,ptmxmode=0666")
    },
    Mount { create_target: true, ..mount("tmpfs", "/dev/shm", SCRATCH, "mode=1777,size=15%") },
    // `nsdelegate`: root in a cgroup namespace of its own cannot lift the limits of its service.
    mount("cgroup2", "/sys/fs/cgroup", QUIET, "nsdelegate"),
];

/// Links in `/dev` that programs expect and devtmpfs leaves to user space: link and target.
pub(crate) const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    (system_log::PATH, system_log::SOCKET),
];

/// Creates the links that devtmpfs leaves to user space.
pub(crate) fn link_devices() -> io::Result<()> {
    for (link, target) in LINKS {
        match std::os::unix::fs::symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Mount {
    /// Mounts this row, unless something is mounted there already.
    pub(crate) fn apply(&self) -> io::Result<()> {
        if self.create_target {
            create_directory(self.target)?;
        }
        if is_mounted(self.target) {
            return Ok(());
        }
        mount_at(self.kind, self.target, self.kind, self.flags, self.options)
    }
}

/// Creates the directory `path` if it is missing.
pub(crate) fn create_directory(path: impl AsRef<Path>) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Mounts `source` of type `kind` at `target`.
pub(crate) fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(source, target, kind, flags, options.as_c_str())?)
}

/// Returns true if something is mounted at `target`, which is then on another device than its parent. Not detected: a
/// bind mount of the same file system, of which init makes none.
pub(crate) fn is_mounted(target: &str) -> bool {
    // By devices and not by /proc/self/mountinfo, because /proc may be the mount in question.
    let parent = Path::new(target).parent().unwrap_or(Path::new("/"));
    match (fs::metadata(target), fs::metadata(parent)) {
        (Ok(here), Ok(above)) => here.dev() != above.dev(),
        _ => false,
    }
}

/// Makes `target` read-only, so that its file system is clean, and unmounts it unless it is busy.
pub(crate) fn unmount_or_freeze(target: &str) -> io::Result<()> {
    // First, because the mounts of a service that has just ended may be there a moment longer than it. Fails while files are
    // open for writing: a process that even SIGKILL did not end may hold them.
    let frozen = rustix::mount::mount_remount(target, MountFlags::RDONLY, c"");
    match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(_) => Ok(frozen?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_follow_their_parents() {
        for table in [FIRST_STAGE, SYSTEM] {
            for (i, row) in table.iter().enumerate() {
                let below = |other: &&Mount| row.target.starts_with(&format!("{}/", other.target));
                assert!(table[i..].iter().find(below).is_none(), "{}", row.target);
            }
        }
    }

    #[test]
    fn memory_is_left_when_every_tmpfs_is_full() {
        let share = |row: &Mount| {
            let size = row.options.split(',').find_map(|option| option.strip_prefix("size="))?;
            size.strip_suffix('%')?.parse::<u32>().ok()
        };
        let all: Vec<_> = SYSTEM.iter().filter(|row| row.kind == "tmpfs").map(share).collect();
        assert_eq!(all.len(), 4);
        assert!(all.iter().map(|share| share.unwrap()).sum::<u32>() <= 66, "{all:?}");
    }

    #[test]
    fn mount_point_is_told_from_its_directories() {
        assert!(is_mounted("/proc"));
        assert!(!is_mounted("/proc/self"));
        assert!(!is_mounted("/nowhere/at/all"));
    }
}
