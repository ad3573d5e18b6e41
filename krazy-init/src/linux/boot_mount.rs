//! `/boot`: mounted read-only until a request makes it writable.

use std::io;
use std::path::PathBuf;

use rustix::mount::MountFlags;

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
    mounts::mount_at(&source, BOOT, "vfat", flags, OPTIONS)
        .or_else(|_| mounts::mount_at(&source, BOOT, "vfat", flags, FALLBACK_OPTIONS))
        .map_err(|source| BootMountError::Mount { node: node.clone(), source })
}

/// Makes it writable or read-only.
pub(crate) fn remount(writable: bool) -> io::Result<()> {
    let flags = if writable { FLAGS } else { FLAGS | MountFlags::RDONLY };
    Ok(rustix::mount::mount_remount(BOOT, flags, c"")?)
}

/// Returns true if it is writable; `None` if it is not mounted.
pub(crate) fn is_writable() -> Option<bool> {
    if !mounts::is_mounted(BOOT) {
        return None;
    }
    let stat = rustix::fs::statvfs(BOOT).ok()?;
    Some(!stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
