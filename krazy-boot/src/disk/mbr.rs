//! LBA 0: boot sector code, disk signature, and the four primary partitions.
//!
//! The classic layout, written and read through `mbrman`. Only primary partitions of 512-byte sectors below
//! 2 TiB are supported, neither logical partitions nor GPT. CHS addresses have their largest value, which means
//! "use the LBA".

use std::io::{self, Cursor, Read, Seek};

use mbrman::{BOOT_ACTIVE, BOOT_INACTIVE, CHS, MBRHeader, MBRPartitionEntry};

use crate::disk::layout::{
    DiskLayout, DiskSignature, Extent, FORMAT_OFFSET, FirstSector, SLOT_AREAS_END, StateSectors,
};
use crate::disk::size::{SECTOR_SIZE, Sectors};

/// Partition type of `/boot` where no UEFI firmware starts from it: FAT32 with LBA.
const TYPE_FAT32_LBA: u8 = 0x0c;

/// Partition type of `/boot` where one may: EFI system partition. Some firmware starts from this type only, and some BIOSes
/// need nothing but the active flag. Source: UEFI Specification 2.10, 5.2.2.
const TYPE_EFI_SYSTEM: u8 = 0xef;

/// Partition type of the roots and of `/data`: Linux.
const TYPE_LINUX: u8 = 0x83;

/// Room for code in front of the disk signature and [`FORMAT_OFFSET`], in bytes.
pub(crate) const MAX_CODE_LEN: usize = FORMAT_OFFSET;

/// The format of new disks, the value of that byte.
pub const FORMAT: u8 = 2;

/// The offset of the first partition's type.
const FIRST_TYPE_OFFSET: usize = 446 + 4;

const TYPES: [u8; 4] = [TYPE_FAT32_LBA, TYPE_LINUX, TYPE_LINUX, TYPE_LINUX];
const BEYOND_CHS: CHS = CHS { cylinder: 1023, head: 254, sector: 63 };

/// The content of LBA 0 besides the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbr {
    /// The disk's signature.
    pub signature: DiskSignature,
    /// The four partitions.
    pub layout: DiskLayout,
}

/// Returns true if `sector`, a disk's LBA 0, has code to boot from: a BIOS starts such a disk, and the code uses its
/// selector and load tables. A Raspberry Pi's firmware needs no code.
pub fn has_code(sector: &FirstSector) -> bool {
    sector[..MAX_CODE_LEN].iter().any(|byte| *byte != 0)
}

/// Returns `sector`, a disk's LBA 0, with a partition 1 that UEFI firmware may start from.
pub fn with_efi_system_partition(sector: &FirstSector) -> FirstSector {
    let mut changed = *sector;
    changed[FIRST_TYPE_OFFSET] = TYPE_EFI_SYSTEM;
    changed
}

/// Returns true if partition 1 is of the type of an EFI system partition.
pub fn has_efi_system_partition(sector: &FirstSector) -> bool {
    sector[FIRST_TYPE_OFFSET] == TYPE_EFI_SYSTEM
}

/// Reads LBA 0 of a disk that begins at the reader's position 0, and returns the sectors of the boot state.
pub fn state_sectors(disk: &mut (impl Read + Seek)) -> io::Result<StateSectors> {
    let mut sector = [0; SECTOR_SIZE as usize];
    disk.rewind()?;
    disk.read_exact(&mut sector)?;
    Ok(StateSectors::of(&sector))
}

/// Returns `sector`, a disk's LBA 0, for a disk whose boot state is in [`StateSectors::CURRENT`]: with `code` in place of
/// its own if it has any.
pub fn with_current_state_sectors(sector: &FirstSector, code: &[u8]) -> Result<FirstSector, MbrError> {
    let mut moved = *sector;
    if has_code(sector) {
        moved[..MAX_CODE_LEN].fill(0);
        moved
            .get_mut(..code.len())
            .filter(|_| code.len() <= MAX_CODE_LEN)
            .ok_or(MbrError::CodeTooLong(code.len()))?
            .copy_from_slice(code);
    }
    moved[FORMAT_OFFSET] = FORMAT;
    Ok(moved)
}

/// A failure to write or read LBA 0.
#[derive(Debug, thiserror::Error)]
pub enum MbrError {
    /// The code does not fit.
    #[error("the boot sector code has {0} bytes, there is room for {MAX_CODE_LEN}")]
    CodeTooLong(usize),
    /// The sector holds no partition table.
    #[error("sector 0 holds no partition table")]
    NoTable(#[source] mbrman::Error),
    /// The type of a partition is not the one that this layout has at its number.
    #[error("partition {number} has type {found:#04x}, a krazy disk has {expected:#04x} there")]
    Type {
        /// 1 to 4.
        number: usize,
        /// The type byte in the table.
        found: u8,
        /// The type byte of this layout.
        expected: u8,
    },
    /// A partition overlaps another one or the fixed sectors, or ends beyond the 2 TiB that an MBR addresses.
    #[error("partition {0} overlaps another one, the boot sectors, or the end of what an MBR addresses")]
    Extent(usize),
}

impl Mbr {
    /// Returns LBA 0 with `code` in front of the disk signature. Partition 1 is marked active: some BIOSes start only
    /// disks that have an active partition.
    pub fn encode(&self, code: &[u8]) -> Result<FirstSector, MbrError> {
        let mut header = MBRHeader::new(self.signature.0.to_le_bytes());
        let (room, format) = header.bootstrap_code.split_at_mut(FORMAT_OFFSET);
        room.get_mut(..code.len()).ok_or(MbrError::CodeTooLong(code.len()))?.copy_from_slice(code);
        format[0] = FORMAT;
        for (((_, entry), extent), sys) in header.iter_mut().zip(self.layout.partitions()).zip(TYPES) {
            *entry = MBRPartitionEntry {
                boot: if sys == TYPE_FAT32_LBA { BOOT_ACTIVE } else { BOOT_INACTIVE },
                first_chs: BEYOND_CHS,
                sys,
                last_chs: BEYOND_CHS,
                starting_lba: extent.start.0,
                sectors: extent.len.0,
            };
        }
        let mut sector = [0; SECTOR_SIZE as usize];
        header.write_into(&mut Cursor::new(&mut sector[..])).map_err(MbrError::NoTable)?;
        Ok(sector)
    }

    /// Reads LBA 0 of a disk with this layout: types and order of the partitions must match, sizes may differ.
    pub fn decode(sector: &FirstSector) -> Result<Self, MbrError> {
        let header = MBRHeader::read_from(&mut Cursor::new(&sector[..])).map_err(MbrError::NoTable)?;
        let mut free = SLOT_AREAS_END.0;
        let mut extents = [Extent { start: Sectors(0), len: Sectors(0) }; 4];
        for (((number, entry), extent), expected) in header.iter().zip(&mut extents).zip(TYPES) {
            let is_expected = entry.sys == expected || (number == 1 && entry.sys == TYPE_EFI_SYSTEM);
            if !is_expected {
                return Err(MbrError::Type { number, found: entry.sys, expected });
            }
            let end = entry.starting_lba.checked_add(entry.sectors).ok_or(MbrError::Extent(number))?;
            if entry.starting_lba < free || entry.sectors == 0 {
                return Err(MbrError::Extent(number));
            }
            free = end;
            *extent = Extent { start: Sectors(entry.starting_lba), len: Sectors(entry.sectors) };
        }
        let [boot, root_a, root_b, data] = extents;
        Ok(Mbr {
            signature: DiskSignature(u32::from_le_bytes(header.disk_signature)),
            layout: DiskLayout { boot, root_a, root_b, data },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::layout::PartitionSizes;
    use crate::disk::size::Bytes;

    fn mbr(disk: Bytes) -> Mbr {
        let layout = DiskLayout::new(PartitionSizes { disk, ..PartitionSizes::default() }).unwrap();
        Mbr { signature: DiskSignature(0x1a2b_3c4d), layout }
    }

    #[test]
    fn encoded_table_has_the_golden_bytes() {
        let sector = mbr(Bytes::gib(1)).encode(&[0xeb, 0xfe]).unwrap();
        let mut expected = [0; 512];
        expected[..2].copy_from_slice(&[0xeb, 0xfe]);
        expected[439] = 2;
        expected[440..446].copy_from_slice(&[0x4d, 0x3c, 0x2b, 0x1a, 0, 0]);
        let partitions = [
            [0x80, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff, 0, 0x08, 0, 0, 0, 0, 0x08, 0],
            [0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0x08, 0x08, 0, 0, 0, 0x08, 0],
            [0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0x08, 0x10, 0, 0, 0, 0x08, 0],
            [0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0x08, 0x18, 0, 0, 0xf8, 0x07, 0],
        ];
        expected[446..510].copy_from_slice(partitions.as_flattened());
        expected[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(sector == expected, "{:x?}", &sector[440..]);
        let efi = with_efi_system_partition(&sector);
        assert_eq!(
            efi[446..462],
            [0x80, 0xfe, 0xff, 0xff, 0xef, 0xfe, 0xff, 0xff, 0, 0x08, 0, 0, 0, 0, 0x08, 0]
        );
        assert_eq!(Mbr::decode(&efi).unwrap(), mbr(Bytes::gib(1)));
        assert!(has_efi_system_partition(&efi) && !has_efi_system_partition(&sector));
        assert!(has_code(&sector) && !has_code(&mbr(Bytes::gib(1)).encode(&[]).unwrap()));
    }

    /// sfdisk must read the same numbers, also on a disk beyond 4 GiB, the limit of 32-bit byte counts.
    #[test]
    fn sfdisk_reads_the_same_table() {
        for disk in [Bytes::gib(1), Bytes::gib(900)] {
            let mbr = mbr(disk);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), mbr.encode(&[]).unwrap()).unwrap();
            file.as_file().set_len(disk.0).unwrap();
            let output = Command::new("sfdisk").arg("--json").arg(file.path()).output();
            let output = output.expect("sfdisk (package fdisk) judges the partition table");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            let table: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let table = &table["partitiontable"];
            assert_eq!(table["label"], "dos");
            assert_eq!(table["id"], "0x1a2b3c4d");
            let partitions = table["partitions"].as_array().unwrap();
            assert_eq!(partitions.len(), 4);
            for ((found, extent), sys) in partitions.iter().zip(mbr.layout.partitions()).zip(TYPES) {
                assert_eq!(found["start"], extent.start.0);
                assert_eq!(found["size"], extent.len.0);
                assert_eq!(found["type"], format!("{sys:x}"));
                assert_eq!(found["bootable"] == true, sys == TYPE_FAT32_LBA);
            }
            assert_eq!(mbr.layout.disk().bytes(), disk);
        }
    }

    #[test]
    fn foreign_disks_are_refused() {
        let good = mbr(Bytes::gib(1)).encode(&[]).unwrap();
        assert_eq!(Mbr::decode(&good).unwrap(), mbr(Bytes::gib(1)));
        assert_eq!(Mbr::decode(&[0; 512]).unwrap_err().to_string(), "sector 0 holds no partition table");
        let mut other = good;
        other[446 + 16 + 4] = 0x07;
        let message = Mbr::decode(&other).unwrap_err().to_string();
        assert_eq!(message, "partition 2 has type 0x07, a krazy disk has 0x83 there");
        let mut overlap = good;
        overlap[446 + 16 + 9] = 0x07;
        assert!(matches!(Mbr::decode(&overlap), Err(MbrError::Extent(2))));
        let mut low = good;
        low[446 + 8..446 + 12].copy_from_slice(&1983u32.to_le_bytes());
        assert!(matches!(Mbr::decode(&low), Err(MbrError::Extent(1))));
        assert!(matches!(mbr(Bytes::gib(1)).encode(&[0; 440]), Err(MbrError::CodeTooLong(440))));
    }

    proptest! {
        #[test]
        fn arbitrary_tables_never_panic(table in prop::array::uniform32(any::<u8>()), at in 440..478usize) {
            let mut sector = mbr(Bytes::gib(1)).encode(&[]).unwrap();
            sector[at..at + 32].copy_from_slice(&table);
            let _ = Mbr::decode(&sector);
        }
    }
}
