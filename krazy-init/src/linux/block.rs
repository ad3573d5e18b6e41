//! Disks and partitions as sysfs shows them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use krazy_boot::disk::layout::DiskSignature;

/// Where the kernel lists block devices.
const CLASS: &str = "/sys/class/block";

/// A whole disk with partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name, such as `vda`, `mmcblk0`, `nvme0n1`.
    pub name: String,
}

/// A partition named by the disk's signature and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartUuid {
    /// Of the disk.
    pub signature: DiskSignature,
    /// 1 to 4.
    pub number: u8,
}

impl PartUuid {
    /// Reads `1a2b3c4d-02`.
    pub fn parse(text: &str) -> Option<Self> {
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
    /// The device node of partition `number`, if the kernel knows that partition.
    pub fn partition(&self, number: u8) -> Option<PathBuf> {
        fs::read_dir(Path::new(CLASS).join(&self.name)).ok()?.flatten().find_map(|entry| {
            let text = fs::read_to_string(entry.path().join("partition")).ok()?;
            (text.trim().parse() == Ok(number)).then(|| Path::new("/dev").join(entry.file_name()))
        })
    }

    /// The device node of the whole disk.
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Its length in 512-byte sectors.
    pub fn sectors(&self) -> io::Result<u64> {
        read_number(&Path::new(CLASS).join(&self.name).join("size"))
    }

    /// The signature in its first sector; `None` without an MBR.
    pub fn signature(&self) -> io::Result<Option<DiskSignature>> {
        let mut sector = [0u8; 512];
        File::open(self.node())?.read_exact(&mut sector)?;
        Ok(signature_of(&sector))
    }

    /// The disk that holds the file system mounted at `path`.
    pub fn of_mount(path: &str) -> Option<Self> {
        let device = fs::metadata(path).ok()?.dev();
        let link = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
        let target = fs::canonicalize(link).ok()?;
        Self::of_device(&target)
    }

    /// The disk that partition `node` is on; a disk without partitions is its own.
    pub fn of_partition(node: &Path) -> Option<Self> {
        let target = fs::canonicalize(Path::new(CLASS).join(node.file_name()?)).ok()?;
        Self::of_device(&target)
    }

    /// The disk of a device's folder in sysfs.
    fn of_device(folder: &Path) -> Option<Self> {
        let disk = if folder.join("partition").exists() { folder.parent()? } else { folder };
        Some(Disk { name: disk.file_name()?.to_str()?.to_owned() })
    }

    /// The disk with `signature` in its first sector, among those the kernel shows now.
    ///
    /// Two disks with one signature are two copies of one image; the first by name is taken.
    pub fn with_signature(signature: DiskSignature) -> Option<Self> {
        let mut names: Vec<String> = fs::read_dir(CLASS)
            .ok()?
            .flatten()
            .filter(|entry| !entry.path().join("partition").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !["loop", "ram", "zram", "sr", "fd"].iter().any(|other| name.starts_with(other)))
            .collect();
        names.sort();
        names
            .into_iter()
            .map(|name| Disk { name })
            .find(|disk| disk.signature().is_ok_and(|found| found == Some(signature)))
    }
}

/// The length of partition `node` in 512-byte sectors.
pub fn partition_sectors(node: &Path) -> io::Result<u64> {
    let name = node.file_name().unwrap_or_default();
    read_number(&Path::new(CLASS).join(name).join("size"))
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{} holds no number", path.display())))
}

/// Source: the MBR's classical layout: signature at 440, boot mark at 510.
fn signature_of(sector: &[u8; 512]) -> Option<DiskSignature> {
    (sector[510..] == [0x55, 0xaa])
        .then(|| DiskSignature(u32::from_le_bytes([sector[440], sector[441], sector[442], sector[443]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partuuids_are_read_strictly() {
        let wanted = PartUuid { signature: DiskSignature(0x1a2b_3c4d), number: 2 };
        assert_eq!(PartUuid::parse("1a2b3c4d-02"), Some(wanted));
        for wrong in ["", "1a2b3c4d", "1a2b3c4d-05", "1a2b3c4d-2", "1a2b3c4x-02", "0-02", "1a2b3c4d-00"] {
            assert_eq!(PartUuid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_signature_needs_a_boot_mark() {
        let mut sector = [0u8; 512];
        sector[440..444].copy_from_slice(&[0x4d, 0x3c, 0x2b, 0x1a]);
        assert_eq!(signature_of(&sector), None);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(signature_of(&sector), Some(DiskSignature(0x1a2b_3c4d)));
    }
}
