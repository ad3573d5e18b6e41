//! Disks and partitions, from sysfs. Source: Linux `Documentation/ABI/stable/sysfs-block`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use krazy_boot::disk::layout::DiskSignature;
use krazy_boot::disk::ordered_write::{SectorWrite, write_in_order};
use rustix::fs::OFlags;

const CLASS: &str = "/sys/class/block";

/// Starts of the names of block devices that cannot hold an appliance.
const NO_DISKS: [&str; 5] = ["loop", "ram", "zram", "sr", "fd"];

/// The alignment of memory that every disk accepts for transfers without the page cache.
const PAGE_LEN: usize = 4096;

/// Offsets in the first sector. Source: the MBR's classical layout.
const SIGNATURE: usize = 440;
const BOOT_MARK: usize = 510;

/// A whole disk with partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The kernel's name, such as `vda`, `mmcblk0`, `nvme0n1`.
    pub(crate) name: String,
}

/// The partition table of a disk lacks a partition.
#[derive(Debug, thiserror::Error)]
#[error("{} has no partition {number}", disk.display())]
pub(crate) struct NoPartition {
    disk: PathBuf,
    number: u8,
}

/// A partition named by the disk's signature and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartUuid {
    /// The disk's signature.
    pub(crate) signature: DiskSignature,
    /// The partition's number, 1 to 4.
    pub(crate) number: u8,
}

impl PartUuid {
    /// Parses `1a2b3c4d-02`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (signature, number) = text.split_once('-')?;
        if signature.len() != 8 || number.len() != 2 {
            return None;
        }
        Some(PartUuid {
            signature: DiskSignature(u32::from_str_radix(signature, 16).ok()?),
            number: u8::from_str_radix(number, 16).ok().filter(|n| (1..=4).contains(n))?,
        })
    }
}

impl Disk {
    /// Returns the device node of partition `number`, if the kernel has that partition.
    pub(crate) fn partition(&self, number: u8) -> Option<PathBuf> {
        fs::read_dir(Path::new(CLASS).join(&self.name)).ok()?.flatten().find_map(|entry| {
            let text = fs::read_to_string(entry.path().join("partition")).ok()?;
            (text.trim().parse() == Ok(number)).then(|| Path::new("/dev").join(entry.file_name()))
        })
    }

    /// Returns the device node of partition `number`, or the error that names the disk.
    pub(crate) fn require_partition(&self, number: u8) -> Result<PathBuf, NoPartition> {
        self.partition(number).ok_or_else(|| NoPartition { disk: self.node(), number })
    }

    /// Returns the device node of the whole disk.
    pub(crate) fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Writes sectors of the whole disk, each durable before the next begins.
    ///
    /// They bypass the page cache: it writes whole pages, so that a torn write of one sector could take its seven neighbours
    /// along, the partition table among them.
    pub(crate) fn write_in_order(&self, writes: &[SectorWrite]) -> io::Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let mut file = options.open(self.node())?;
        let direct = options.custom_flags(OFlags::DIRECT.bits() as i32).open(self.node());
        for write in writes {
            // Not supported by disks with sectors of 4 KiB, and by file systems of a test.
            let directly = match &direct {
                Ok(direct) => write_directly(direct, write),
                Err(_) => Err(io::ErrorKind::InvalidInput.into()),
            };
            match directly {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    write_in_order(&mut file, std::slice::from_ref(write), |file: &mut File| {
                        file.sync_data()
                    })?;
                }
                written => written?,
            }
        }
        Ok(())
    }

    /// Returns the length in 512-byte sectors.
    pub(crate) fn sectors(&self) -> io::Result<u64> {
        read_number(&Path::new(CLASS).join(&self.name).join("size"))
    }

    /// Reads the signature in the first sector; `None` without an MBR.
    pub(crate) fn signature(&self) -> io::Result<Option<DiskSignature>> {
        let mut sector = [0u8; 512];
        File::open(self.node())?.read_exact(&mut sector)?;
        Ok(signature_of(&sector))
    }

    /// Returns the disk that holds the file system mounted at `path`.
    pub(crate) fn of_mount(path: &str) -> Option<Self> {
        let device = fs::metadata(path).ok()?.dev();
        let link = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
        let target = fs::canonicalize(link).ok()?;
        Self::of_device(&target)
    }

    /// Returns the disk of partition `node`; a disk without partitions is its own.
    pub(crate) fn of_partition(node: &Path) -> Option<Self> {
        let target = fs::canonicalize(Path::new(CLASS).join(node.file_name()?)).ok()?;
        Self::of_device(&target)
    }

    /// Returns the disk of a device's directory in sysfs.
    fn of_device(directory: &Path) -> Option<Self> {
        let disk = if directory.join("partition").exists() { directory.parent()? } else { directory };
        Some(Disk { name: disk.file_name()?.to_str()?.to_owned() })
    }

    /// Returns the disk with `signature` in its first sector, among those that the kernel lists now.
    ///
    /// Two disks with one signature are two copies of one image. The first one by name is returned, which need not be
    /// the disk that was booted.
    pub(crate) fn with_signature(signature: DiskSignature) -> Option<Self> {
        Self::all_with_signature(signature).into_iter().next()
    }

    /// Returns the other disks with the signature of this one, sorted by name. Nothing tells which of them was booted: a BIOS
    /// passes on no more than the signature.
    pub(crate) fn twins(&self) -> Vec<Self> {
        let Ok(Some(signature)) = self.signature() else { return Vec::new() };
        Self::all_with_signature(signature).into_iter().filter(|disk| disk != self).collect()
    }

    fn all_with_signature(signature: DiskSignature) -> Vec<Self> {
        let mut names: Vec<String> = fs::read_dir(CLASS)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| !entry.path().join("partition").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !NO_DISKS.iter().any(|driver| name.starts_with(driver)))
            .collect();
        names.sort();
        names
            .into_iter()
            .map(|name| Disk { name })
            .filter(|disk| disk.signature().is_ok_and(|found| found == Some(signature)))
            .collect()
    }
}

/// Writes sectors to a disk that was opened with `O_DIRECT`, and waits until they are durable.
fn write_directly(disk: &File, write: &SectorWrite) -> io::Result<()> {
    // The memory must be aligned like the sectors.
    let mut memory = vec![0; write.bytes.len() + PAGE_LEN];
    let start = memory.as_ptr().align_offset(PAGE_LEN);
    let aligned = memory.get_mut(start..start + write.bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    aligned.copy_from_slice(&write.bytes);
    disk.write_all_at(aligned, write.at.bytes().0)?;
    disk.sync_data()
}

/// Returns the length of partition `node` in 512-byte sectors.
pub(crate) fn partition_sectors(node: &Path) -> io::Result<u64> {
    let name = node.file_name().unwrap_or_default();
    read_number(&Path::new(CLASS).join(name).join("size"))
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{} holds no number", path.display())))
}

fn signature_of(sector: &[u8; 512]) -> Option<DiskSignature> {
    let signature = sector[SIGNATURE..].first_chunk()?;
    (sector[BOOT_MARK..] == [0x55, 0xaa]).then(|| DiskSignature(u32::from_le_bytes(*signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_partuuids_are_parsed() {
        let expected = PartUuid { signature: DiskSignature(0x1a2b_3c4d), number: 2 };
        assert_eq!(PartUuid::parse("1a2b3c4d-02"), Some(expected));
        for wrong in ["", "1a2b3c4d", "1a2b3c4d-05", "1a2b3c4d-2", "1a2b3c4x-02", "0-02", "1a2b3c4d-00"] {
            assert_eq!(PartUuid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn signature_needs_a_boot_mark() {
        let mut sector = [0u8; 512];
        sector[440..444].copy_from_slice(&[0x4d, 0x3c, 0x2b, 0x1a]);
        assert_eq!(signature_of(&sector), None);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(signature_of(&sector), Some(DiskSignature(0x1a2b_3c4d)));
    }
}
