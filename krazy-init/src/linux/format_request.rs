//! The request to format `/data` at the next start: a file on `/boot`, outside of what it is about.
//!
//! It names the appliance and the disk, so that a stray file does nothing, and how often `/data` has been mounted, so that
//! it holds for the next start only: an init that knows no requests may start first, from the other slot, and files that
//! were written then are not lost. It is removed when the new file system is complete, so that a start whose power is cut
//! meanwhile is followed by one that formats again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use krazy_boot::api::data::FORMAT_REQUEST as FILE;
use krazy_boot::disk::boot_fat::BootFat;
use krazy_boot::disk::layout::{DiskSignature, FirstSector};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::size::Bytes;
use rustix::mount::UnmountFlags;

use super::block::{Disk, NoPartition};
use super::boot_mount::{self, BOOT, BootMountError};
use super::{data, format_data};

/// Longer than any request.
const MAX_LEN: Bytes = Bytes(512);

/// The failure to make or to obey a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatRequestError {
    /// The disk cannot be read, or has no signature.
    #[error("{}: {source}", path.display())]
    Disk { path: PathBuf, source: io::Error },
    /// The partition is missing.
    #[error(transparent)]
    NoPartition(#[from] NoPartition),
    /// `/boot` is not mounted.
    #[error(transparent)]
    Boot(#[from] BootMountError),
    /// The file cannot be written or removed.
    #[error("{BOOT}/{FILE}: {0}")]
    File(#[source] io::Error),
    /// The new file system cannot be written.
    #[error("{}: {source}", node.display())]
    Format { node: PathBuf, source: io::Error },
}

/// Makes the request durable on a `/boot` that is mounted writable.
pub(crate) fn make(disk: &Disk, appliance: &str) -> Result<(), FormatRequestError> {
    let node = disk.require_partition(data::PARTITION)?;
    let content = content(appliance, signature(disk)?, mounts(&node));
    write(Path::new(BOOT), &content).map_err(FormatRequestError::File)
}

/// Formats `/data` if that was requested, before it is mounted. Returns true if it was. A request that does not hold any more
/// is removed.
pub(crate) fn obey(disk: &Disk, appliance: &str) -> Result<bool, FormatRequestError> {
    // A `/boot` that cannot be read is reported when it is mounted.
    let Some(found) = read(disk) else { return Ok(false) };
    let signature = signature(disk)?;
    if !found.starts_with(address(appliance, signature).as_bytes()) {
        return Ok(false);
    }
    let node = disk.require_partition(data::PARTITION)?;
    let holds = may_format(&found, appliance, signature, mounts(&node));
    // First, because a request that cannot be removed would be obeyed at every start.
    boot_mount::mount(Some(disk), true)?;
    let formatted = match holds {
        true => format_data::format_anew(&node, signature)
            .map_err(|source| FormatRequestError::Format { node, source }),
        false => Ok(()),
    };
    let outcome = formatted.and_then(|()| remove(Path::new(BOOT)).map_err(FormatRequestError::File));
    let unmounted = rustix::mount::unmount(BOOT, UnmountFlags::NOFOLLOW);
    outcome?;
    unmounted.map_err(|error| FormatRequestError::File(error.into()))?;
    Ok(holds)
}

/// Returns the number of times that the file system on `node` was mounted; `None` if it has no superblock of ext4, without
/// which it cannot be mounted.
fn mounts(node: &Path) -> Option<u16> {
    data::superblock(node).map(|superblock| superblock.mounts)
}

/// Returns the start of a request to this device.
fn address(appliance: &str, signature: DiskSignature) -> String {
    format!("{appliance} {signature} ")
}

fn content(appliance: &str, signature: DiskSignature, mounts: Option<u16>) -> String {
    let mounts = mounts.map_or_else(|| "none".to_owned(), |mounts| mounts.to_string());
    format!("{}{mounts}\n", address(appliance, signature))
}

/// Returns true if the request `found` is for this appliance and disk, and nobody has mounted `/data` since. An interrupted
/// formatting leaves no superblock, so it is continued.
fn may_format(found: &[u8], appliance: &str, signature: DiskSignature, mounts: Option<u16>) -> bool {
    let is_interrupted = mounts.is_none() && found.starts_with(address(appliance, signature).as_bytes());
    found == content(appliance, signature, mounts).as_bytes() || is_interrupted
}

fn signature(disk: &Disk) -> Result<DiskSignature, FormatRequestError> {
    let failed = |source| FormatRequestError::Disk { path: disk.node(), source };
    let signature = disk.signature().map_err(failed)?;
    signature.ok_or_else(|| failed(io::Error::other("it has no partition table")))
}

/// Reads the file from the disk, because `/boot` is not mounted yet; the driver of its file system would delay every start.
fn read(disk: &Disk) -> Option<Vec<u8>> {
    let mut whole = File::open(disk.node()).ok()?;
    let mut sector: FirstSector = [0; 512];
    whole.read_exact(&mut sector).ok()?;
    let extent = Mbr::decode(&sector).ok()?.layout.boot;
    let mut fat = BootFat::open(whole, extent.start.bytes(), extent).ok()?;
    let file = fat.find(FILE).ok()?;
    fat.read(&file, MAX_LEN).ok()
}

/// A power cut may leave a part of the file, which is no request.
fn write(boot: &Path, content: &str) -> io::Result<()> {
    let mut file = File::create(boot.join(FILE))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    sync(boot)
}

fn remove(boot: &Path) -> io::Result<()> {
    fs::remove_file(boot.join(FILE))?;
    sync(boot)
}

fn sync(boot: &Path) -> io::Result<()> {
    let directory = File::open(boot)?;
    rustix::fs::syncfs(&directory)?;
    // syncfs(2) of vfat does not flush the disk's write cache; fsync(2) does.
    directory.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_names_appliance_and_disk_and_can_be_removed() {
        let boot = tempfile::tempdir().unwrap();
        let content = content("weather", DiskSignature(0x1a2b_3c4d), Some(7));
        assert_eq!(content, "weather 1a2b3c4d 7\n");
        write(boot.path(), &content).unwrap();
        assert_eq!(fs::read_to_string(boot.path().join(FILE)).unwrap(), content);
        remove(boot.path()).unwrap();
        assert_eq!(fs::read_dir(boot.path()).unwrap().count(), 0);
        assert!(remove(boot.path()).is_err());
    }

    #[test]
    fn request_holds_until_data_is_mounted_again() {
        let disk = DiskSignature(0x1a2b_3c4d);
        let holds = |found: &str, mounts| may_format(found.as_bytes(), "weather", disk, mounts);
        assert!(holds("weather 1a2b3c4d 7\n", Some(7)));
        assert!(!holds("weather 1a2b3c4d 7\n", Some(8)), "another init has mounted it");
        assert!(!holds("weather 1a2b3c4d none\n", Some(1)), "somebody has made a file system");
        assert!(holds("weather 1a2b3c4d none\n", None));
        assert!(holds("weather 1a2b3c4d 7\n", None), "formatting was interrupted");
        for foreign in
            ["", "weather 1a2b3c4d", "weather 1a2b3c4e 7\n", "wind 1a2b3c4d 7\n", "weather 1a2b3c4d 7"]
        {
            assert!(!holds(foreign, Some(7)) && !holds(&foreign.replace("1a2b3c4d", "0"), None), "{foreign}");
        }
    }
}
