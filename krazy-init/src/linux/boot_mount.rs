//! `/boot`: mounted read-only until a request makes it writable.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::mount::MountFlags;

use super::autoload::Autoload;
use super::block::{Disk, NoPartition};
use super::mounts;

/// The mount point.
pub(crate) const BOOT: &str = "/boot";

/// The partition's number.
pub(crate) const PARTITION: u8 = 1;

const FLAGS: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::NOATIME);

/// Only root may read it: the command line may hold secrets. `iocharset` is set because the kernel's default may be a
/// module that the image lacks.
const OPTIONS: &str = "umask=0077,utf8=1,iocharset=ascii,errors=remount-ro";
/// For kernels whose vfat lacks one of the others.
const FALLBACK_OPTIONS: &str = "umask=0077";

/// The reason why `/boot` is not mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootMountError {
    /// The root is no partition.
    #[error("the root is on no disk with partitions")]
    NoDisk,
    /// The partition is missing.
    #[error(transparent)]
    NoPartition(#[from] NoPartition),
    /// The kernel rejects the file system.
    #[error("{} cannot be mounted: {source}", node.display())]
    Mount { node: PathBuf, source: io::Error },
}

/// Mounts `/boot` from `disk`.
pub(crate) fn mount(disk: Option<&Disk>, writable: bool) -> Result<(), BootMountError> {
    let node = disk.ok_or(BootMountError::NoDisk)?.require_partition(PARTITION)?;
    let flags = if writable { FLAGS } else { FLAGS | MountFlags::RDONLY };
    let source = node.to_string_lossy();
    // The file system may be a module, and another one its character set.
    let _open = Autoload::open();
    mounts::mount_at(&source, BOOT, "vfat", flags, OPTIONS)
        .or_else(|_| mounts::mount_at(&source, BOOT, "vfat", flags, FALLBACK_OPTIONS))
        .map_err(|source| BootMountError::Mount { node: node.clone(), source })
}

/// Makes it writable or read-only.
pub(crate) fn remount(writable: bool) -> io::Result<()> {
    let flags = if writable { FLAGS } else { FLAGS | MountFlags::RDONLY };
    Ok(rustix::mount::mount_remount(BOOT, flags, c"")?)
}

/// Returns true if it is writable; `None` if it is not mounted. Never waits for the disk: statvfs(3) would make the kernel
/// count the free clusters.
pub(crate) fn is_writable() -> Option<bool> {
    is_writable_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Looks it up in the kernel's table. Source: proc_pid_mountinfo(5): the options of the mount are field 6, those of the
/// file system follow the type and the source after `-`.
fn is_writable_in(table: &str) -> Option<bool> {
    // The last one covers those before it.
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(BOOT))?;
    let (mount, file_system) = line.split_once(" - ")?;
    let (mount, file_system) = (mount.split(' ').nth(5)?, file_system.split(' ').nth(2)?);
    Some([mount, file_system].iter().all(|options| options.split(',').any(|option| option == "rw")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_is_writable_if_its_file_system_is_too() {
        let table = |mount: &str, file_system: &str| {
            format!(
                "22 1 254:2 / / ro,relatime - squashfs /dev/root ro,errors=continue\n\
                 29 22 254:1 / /boot {mount},nosuid,noatime - vfat /dev/vda1 {file_system},fmask=0077\n\
                 30 22 254:4 / /data rw,nosuid shared:7 - ext4 /dev/vda4 rw,commit=5\n"
            )
        };
        assert_eq!(is_writable_in(&table("rw", "rw")), Some(true));
        assert_eq!(is_writable_in(&table("ro", "ro")), Some(false));
        assert_eq!(is_writable_in(&table("rw", "ro")), Some(false), "after an error");
        assert_eq!(is_writable_in("22 1 254:2 / / rw - ext4 /dev/vda2 rw\n"), None);
    }
}
