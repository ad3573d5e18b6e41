//! `/data` grows to the end of its disk: first the partition, then the file system.
//!
//! Both steps are looked at on every boot and done if there is something to gain, so it does not matter when the
//! power is cut. The partition table changes in one sector, which disks write as a whole; the file system grows
//! online, inside ext4's journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::mbr::{Mbr, MbrSector};
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE, Sectors};

use super::block::{self, Disk};
use super::data::{DATA, PARTITION};

/// Less than this is not worth a change.
const WORTHWHILE: u64 = 1 << 20;

/// Where the length of partition 4 is in LBA 0. Source: the MBR's classical layout: entries of 16 bytes from 446,
/// the number of sectors at 12.
const LENGTH_OFFSET: usize = 446 + 3 * 16 + 12;

/// `_IO(0x12, 105)`
const BLKPG: libc::c_ulong = 0x1269;
const BLKPG_RESIZE_PARTITION: libc::c_int = 3;

/// `_IOW('f', 16, __u64)`
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// The kernel's `struct blkpg_partition`; lengths in bytes.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    names: [u8; 128],
}

/// The kernel's `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    partition: *mut BlkpgPartition,
}

/// Lets partition 4 reach to the end of `disk`, on the disk and in the kernel's mind. Returns whether it grew. A
/// disk that is not laid out as ours is left alone.
pub(crate) fn partition(disk: &Disk) -> io::Result<bool> {
    let node = disk.node();
    let mut file = OpenOptions::new().read(true).write(true).open(&node)?;
    let mut sector: MbrSector = [0; SECTOR_SIZE as usize];
    file.read_exact(&mut sector)?;
    let Some((grown, extent)) = grown_table(&sector, disk.sectors()?) else { return Ok(false) };
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&grown)?;
    file.sync_data()?;
    tell_kernel(&file, extent)?;
    Ok(true)
}

/// LBA 0 with a longer partition 4, and where that is then; `None` if there is nothing to gain.
fn grown_table(sector: &MbrSector, disk: u64) -> Option<(MbrSector, Extent)> {
    let mbr = Mbr::decode(sector).ok()?;
    let data = mbr.layout.data;
    let end = u32::try_from(disk).unwrap_or(u32::MAX);
    let len = Sectors(end.checked_sub(data.start.0)?);
    if len.bytes().0 < data.len.bytes().0.checked_add(WORTHWHILE)? {
        return None;
    }
    let mut grown = *sector;
    grown[LENGTH_OFFSET..LENGTH_OFFSET + 4].copy_from_slice(&len.0.to_le_bytes());
    let extent = Extent { start: data.start, len };
    // Read back before it is believed: everything else must be as it was.
    let mut expected = mbr;
    expected.layout.data = extent;
    (Mbr::decode(&grown).ok()? == expected).then_some((grown, extent))
}

fn tell_kernel(disk: &File, extent: Extent) -> io::Result<()> {
    let bytes = |sectors: Sectors| i64::try_from(sectors.bytes().0).map_err(io::Error::other);
    let mut partition = BlkpgPartition {
        start: bytes(extent.start)?,
        length: bytes(extent.len)?,
        number: PARTITION.into(),
        names: [0; 128],
    };
    let mut argument = BlkpgArgument {
        operation: BLKPG_RESIZE_PARTITION,
        flags: 0,
        length: size_of::<BlkpgPartition>() as libc::c_int,
        partition: &mut partition,
    };
    // SAFETY: both structures have the kernel's layout and outlive the call.
    if unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &mut argument) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets the mounted ext4 on `node` fill its partition. Returns its new size if it grew. Takes seconds on large and
/// slow disks.
pub(crate) fn file_system(node: &Path) -> io::Result<Option<Bytes>> {
    let room = block::partition_sectors(node)? * SECTOR_SIZE;
    let mut superblock = [0u8; 1024];
    let mut device = File::open(node)?;
    device.seek(SeekFrom::Start(1024))?;
    device.read_exact(&mut superblock)?;
    let Some((blocks, block_size)) = ext4_size(&superblock) else {
        return Err(io::Error::other("its superblock is not ext4's"));
    };
    let wanted = room / block_size;
    if wanted.saturating_sub(blocks) * block_size < WORTHWHILE {
        return Ok(None);
    }
    let folder = File::open(DATA)?;
    // SAFETY: the request reads one u64.
    if unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &wanted) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Some(Bytes(wanted * block_size)))
}

/// Number and size of the blocks. Source: Linux `Documentation/filesystems/ext4/super.rst`: magic at 0x38, count at
/// 0x4, its high half at 0x150 if the feature 64BIT (0x80 at 0x60) is on, binary logarithm of the size less 10 at
/// 0x18.
fn ext4_size(superblock: &[u8; 1024]) -> Option<(u64, u64)> {
    let word = |at: usize| {
        u32::from_le_bytes([superblock[at], superblock[at + 1], superblock[at + 2], superblock[at + 3]])
    };
    let high = if word(0x60) & 0x80 != 0 { word(0x150) } else { 0 };
    let logarithm = word(0x18);
    if superblock[0x38..0x3a] != [0x53, 0xef] || logarithm > 6 {
        return None;
    }
    Some((u64::from(high) << 32 | u64::from(word(0x4)), 1024 << logarithm))
}

#[cfg(test)]
mod tests {
    use krazy_boot::disk::layout::{DiskLayout, DiskSignature, PartitionSizes};
    use proptest::prelude::*;

    use super::*;

    fn sector(disk: Bytes) -> (MbrSector, Mbr) {
        let layout = DiskLayout::new(PartitionSizes { disk, ..PartitionSizes::default() }).unwrap();
        let mbr = Mbr { signature: DiskSignature(0x1a2b_3c4d), layout };
        (mbr.encode(&[0x90; 440]).unwrap(), mbr)
    }

    #[test]
    fn only_the_length_of_partition_4_changes() {
        let (before, mbr) = sector(Bytes::gib(1));
        let disk = Bytes::gib(64).0 / SECTOR_SIZE;
        let (after, extent) = grown_table(&before, disk).unwrap();
        assert_eq!(u64::from(extent.end().0), disk);
        let changed: Vec<usize> = (0..512).filter(|at| before[*at] != after[*at]).collect();
        assert!(changed.iter().all(|at| (LENGTH_OFFSET..LENGTH_OFFSET + 4).contains(at)), "{changed:?}");
        assert_eq!(Mbr::decode(&after).unwrap().signature, mbr.signature);
        assert!(grown_table(&after, disk).is_none());
        assert!(grown_table(&before, Bytes::gib(1).0 / SECTOR_SIZE).is_none());
        // A disk beyond 2 TiB is used as far as an MBR reaches.
        assert_eq!(grown_table(&before, 1 << 40).unwrap().1.end(), Sectors(u32::MAX));
    }

    #[test]
    fn foreign_disks_and_smaller_ones_are_left_alone() {
        let (before, _) = sector(Bytes::gib(1));
        assert!(grown_table(&before, 10).is_none());
        assert!(grown_table(&[0; 512], 1 << 30).is_none());
        let mut other = before;
        other[446 + 3 * 16 + 4] = 0x07;
        assert!(grown_table(&other, 1 << 30).is_none());
    }

    #[test]
    fn superblocks_are_read() {
        let mut superblock = [0u8; 1024];
        assert_eq!(ext4_size(&superblock), None);
        superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        superblock[0x4..0x8].copy_from_slice(&5u32.to_le_bytes());
        superblock[0x18] = 2;
        superblock[0x150] = 1;
        assert_eq!(ext4_size(&superblock), Some((5, 4096)));
        superblock[0x60] = 0x80;
        assert_eq!(ext4_size(&superblock), Some(((1 << 32) + 5, 4096)));
    }

    proptest! {
        #[test]
        fn a_table_never_shrinks_or_reaches_beyond_the_disk(bytes in any::<[u8; 32]>(), at in 446usize..478, disk in any::<u64>()) {
            let (mut before, _) = sector(Bytes::gib(1));
            before[at..at + 32].copy_from_slice(&bytes);
            if let Some((after, extent)) = grown_table(&before, disk) {
                prop_assert!(u64::from(extent.end().0) <= disk);
                let old = Mbr::decode(&before).unwrap().layout.data;
                prop_assert!(extent.start == old.start && extent.len > old.len);
                prop_assert_eq!(Mbr::decode(&after).unwrap().layout.data, extent);
            }
        }
    }
}
