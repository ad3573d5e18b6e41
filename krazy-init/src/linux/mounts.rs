//! The file systems every appliance has, as a table.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

/// One row of the table.
#[derive(Debug)]
pub struct Mount {
    /// What the kernel calls it.
    pub kind: &'static str,
    /// Where it goes.
    pub target: &'static str,
    /// Mount flags.
    pub flags: MountFlags,
    /// Options of the file system.
    pub options: &'static str,
    /// Whether the target is made if the parent is writable.
    pub make_target: bool,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const SCRATCH: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

const fn mount(kind: &'static str, target: &'static str, flags: MountFlags, options: &'static str) -> Mount {
    Mount { kind, target, flags, options, make_target: false }
}

/// What the first stage needs to find the root, and what `/bin/init` finds mounted.
pub const FIRST_STAGE: &[Mount] = &[
    mount("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    mount("proc", "/proc", QUIET, ""),
    mount("sysfs", "/sys", QUIET, ""),
];

/// What the supervisor mounts before anything else, in this order; those of the first stage are there already.
/// `/boot` and `/data` follow once their disk is known.
pub const SYSTEM: &[Mount] = &[
    mount("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    mount("proc", "/proc", QUIET, ""),
    mount("sysfs", "/sys", QUIET, ""),
    mount("tmpfs", "/run", SCRATCH, "mode=0755,size=25%"),
    mount("tmpfs", "/tmp", SCRATCH, "mode=1777,size=50%"),
    Mount {
        make_target: true,
        ..mount("devpts", "/dev/pts", MountFlags::NOSUID.union(MountFlags::NOEXEC), "mode=0620,ptmxmode=0666")
    },
    Mount { make_target: true, ..mount("tmpfs", "/dev/shm", SCRATCH, "mode=1777,size=50%") },
    mount("cgroup2", "/sys/fs/cgroup", QUIET, "nsdelegate"),
];

/// Links in `/dev` that devtmpfs leaves to userspace and programs expect: link and target.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Makes the links.
pub fn link_devices() -> io::Result<()> {
    for (link, target) in LINKS {
        match std::os::unix::fs::symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Mount {
    /// Mounts this row unless something is mounted there already.
    pub fn apply(&self) -> io::Result<()> {
        if self.make_target && !Path::new(self.target).exists() {
            fs::create_dir(self.target)?;
        }
        if is_mounted(self.target) {
            return Ok(());
        }
        mount_at(self.kind, self.target, self.kind, self.flags, self.options)
    }
}

/// Mounts `source` of type `kind` at `target`.
pub fn mount_at(source: &str, target: &str, kind: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(source, target, kind, flags, options.as_c_str())?)
}

/// Whether something is mounted at `target`: it is on another device than its parent. A bind mount of the same
/// file system would be missed; there are none.
pub fn is_mounted(target: &str) -> bool {
    let parent = Path::new(target).parent().unwrap_or(Path::new("/"));
    match (fs::metadata(target), fs::metadata(parent)) {
        (Ok(here), Ok(above)) => here.dev() != above.dev(),
        _ => false,
    }
}

/// Unmounts `target`; if it is busy to the last, makes it read-only so that nothing is half written.
pub fn unmount_or_freeze(target: &str) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(_) => Ok(rustix::mount::mount_remount(target, MountFlags::RDONLY, c"")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_after_what_they_stand_on() {
        for table in [FIRST_STAGE, SYSTEM] {
            for (i, row) in table.iter().enumerate() {
                let below = |other: &&Mount| row.target.starts_with(&format!("{}/", other.target));
                assert!(table[i..].iter().find(below).is_none(), "{}", row.target);
            }
        }
    }

    #[test]
    fn proc_is_a_mount_point_and_its_folders_are_not() {
        assert!(is_mounted("/proc"));
        assert!(!is_mounted("/proc/self"));
        assert!(!is_mounted("/nowhere/at/all"));
    }
}
