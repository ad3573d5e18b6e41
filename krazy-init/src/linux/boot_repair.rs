//! Check and repair of the file system of `/boot`. The kernel has no part in it: while sectors are written, the file system
//! is not mounted, so nothing of it is in a cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use krazy_boot::disk::boot_fat::{BootFat, FatError, Findings, Repair};
use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::size::{Bytes, Sectors};
use krazy_boot::disk::slot::Slot;
use rustix::fs::{Advice, OFlags, fadvise};
use rustix::mount::{UnmountFlags, unmount};

use super::block::{Disk, NoPartition, partition_sectors};
use super::boot_mount::{self, BOOT, BootMountError};

/// The reason why `/boot` was not repaired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootRepairError {
    /// The partition is missing.
    #[error(transparent)]
    NoPartition(#[from] NoPartition),
    /// The partition cannot be read or written.
    #[error("{}: {source}", node.display())]
    Io { node: PathBuf, source: io::Error },
    /// The check gave up.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// A program has the file system in use.
    #[error(
        "the file system of {BOOT} is damaged ({0}) and in use, so it cannot be repaired; \
         stop the programs that use it, or restart the device"
    )]
    InUse(Findings),
    /// The file system cannot be mounted again.
    #[error("after the check of the file system, {0}")]
    Mount(#[from] BootMountError),
}

/// The outcome of a check.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing had to be written. Damaged files may have been found.
    Clean(Findings),
    /// The defects were repaired.
    Repaired(Findings),
    /// The defects are harmless, and the file system is in use: they stay.
    Deferred(Findings),
    /// The file system is of a kind or a size that the check does not know. It stays as it is.
    NotChecked(FatError),
}

/// Checks the file system on `disk`, and repairs it if there is need. Damaged files of `expendable` are removed. Changes on
/// `/boot` must have been synced.
///
/// Takes well below a second for a partition of common size: the FAT is read in one piece, and a repair waits for the disk
/// a few times, however much is damaged.
pub(crate) fn repair(disk: &Disk, expendable: Option<Slot>) -> Result<Outcome, BootRepairError> {
    let node = disk.require_partition(boot_mount::PARTITION)?;
    let failed = |source| BootRepairError::Io { node: node.clone(), source };
    let sectors = partition_sectors(&node).map_err(failed)?;
    let extent = Extent { start: Sectors(0), len: Sectors(u32::try_from(sectors).unwrap_or(u32::MAX)) };
    let check = |device: &File| -> Result<Repair, FatError> {
        BootFat::open(device, Bytes(0), extent)?.check(expendable)
    };

    let mounted_writable = boot_mount::is_writable();
    // Through the page cache of the partition, which is the one that the mounted file system writes to.
    let found = match check(&File::open(&node).map_err(failed)?) {
        Err(error @ FatError::Unsupported(_)) => return Ok(Outcome::NotChecked(error)),
        found => found?,
    };
    // A file system that is mounted writable is marked as such, and counts its free clusters later.
    let is_clean = found.is_empty() || mounted_writable == Some(true) && !found.findings.has_damage();
    match mounted_writable {
        Some(_) if is_clean => return Ok(Outcome::Clean(found.findings)),
        None if is_clean => {}
        Some(_) if unmount(BOOT, UnmountFlags::NOFOLLOW).is_err() => {
            return match found.findings.affects_files() {
                true => Err(BootRepairError::InUse(found.findings)),
                false => Ok(Outcome::Deferred(found.findings)),
            };
        }
        _ => {}
    }
    let repaired = match is_clean {
        true => Ok(Outcome::Clean(found.findings)),
        false => write(&node, check).map(Outcome::Repaired),
    };
    // Also after a failure: the files of the running slot are read from there.
    boot_mount::mount(Some(disk), mounted_writable == Some(true))?;
    repaired
}

/// Repairs the file system on `node`, which is not mounted.
fn write(
    node: &Path,
    check: impl Fn(&File) -> Result<Repair, FatError>,
) -> Result<Findings, BootRepairError> {
    let failed = |source| BootRepairError::Io { node: node.to_owned(), source };
    // Exclusive: fails while the file system is mounted at any other place.
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::EXCL.bits() as i32);
    let mut device = options.open(node).map_err(failed)?;
    // Once more, because the unmount may have written.
    let repair = check(&device)?;
    // A sync of the block device ends with a flush of the disk's write cache.
    repair.write(&mut device, |device| device.sync_all()).map_err(failed)?;
    fadvise(&device, 0, None, Advice::DontNeed).map_err(|error| failed(error.into()))?;
    Ok(repair.findings)
}
