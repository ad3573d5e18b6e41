//! `/boot`: read-only until something asks to write it.

use std::io;

use rustix::mount::MountFlags;

use super::block::Disk;
use super::mounts;

/// Where it is mounted.
pub const BOOT: &str = "/boot";

/// Its partition's number.
pub const PARTITION: u8 = 1;

const FLAGS: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::NOATIME);

/// Root's alone: the command line may hold what services should not read. `iocharset` is set because the
/// kernel's default may be a module that the image lacks.
const OPTIONS: &str = "umask=0077,utf8=1,iocharset=ascii,errors=remount-ro";
const PLAIN_OPTIONS: &str = "umask=0077";

/// Mounts it. `Err` says in words why not.
pub fn mount(disk: Option<&Disk>, writable: bool) -> Result<(), String> {
    let disk = disk.ok_or("the root is on no disk with partitions")?;
    let node = disk
        .partition(PARTITION)
        .ok_or_else(|| format!("{} has no partition {PARTITION}", disk.node().display()))?;
    let flags = if writable { FLAGS } else { FLAGS | MountFlags::RDONLY };
    let source = node.to_string_lossy();
    mounts::mount_at(&source, BOOT, "vfat", flags, OPTIONS)
        .or_else(|_| mounts::mount_at(&source, BOOT, "vfat", flags, PLAIN_OPTIONS))
        .map_err(|error| format!("{source} cannot be mounted: {error}"))
}

/// Changes whether it can be written.
pub fn remount(writable: bool) -> io::Result<()> {
    let flags = if writable { FLAGS } else { FLAGS | MountFlags::RDONLY };
    Ok(rustix::mount::mount_remount(BOOT, flags, c"")?)
}

/// Whether it can be written; `None` when it is not mounted.
pub fn is_writable() -> Option<bool> {
    if !mounts::is_mounted(BOOT) {
        return None;
    }
    let stat = rustix::fs::statvfs(BOOT).ok()?;
    Some(!stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
