//! Grows `/data` to the end of its disk: first the partition, then the file system.
//!
//! Both steps are checked at every boot and done if there is room, so a power cut at any moment is harmless. The partition
//! table changes in one sector, which disks write as a whole; the file system grows online, protected by its journal.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use krazy_boot::disk::ext4_superblock::Superblock;
use krazy_boot::disk::layout::{Extent, FirstSector};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::ordered_write::SectorWrite;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE, Sectors};

use super::block::{self, Disk};
use super::data::{DATA, PARTITION};

/// The smallest growth in bytes.
const MIN_GROWTH: u64 = 1 << 20;

/// The offset of the length of partition 4 in LBA 0. Source: the MBR's classical layout: entries of 16 bytes from 446,
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

/// Extends partition 4 to the end of `disk`, in the partition table and in the kernel. Returns true if it grew. A disk
/// with another layout is not changed.
pub(crate) fn partition(disk: &Disk) -> io::Result<bool> {
    let node = disk.node();
    let mut file = File::open(&node)?;
    let mut sector: FirstSector = [0; SECTOR_SIZE as usize];
    file.read_exact(&mut sector)?;
    let Some((grown, extent)) = grown_table(&sector, disk.sectors()?) else { return Ok(false) };
    disk.write_in_order(&[SectorWrite { at: Sectors(0), bytes: grown.to_vec() }])?;
    resize_in_kernel(&file, extent)?;
    Ok(true)
}

/// Returns LBA 0 with a longer partition 4, and the extent of that; `None` if it cannot grow.
fn grown_table(sector: &FirstSector, disk: u64) -> Option<(FirstSector, Extent)> {
    let mbr = Mbr::decode(sector).ok()?;
    let layout = mbr.layout.grown_to(disk);
    let extent = layout.data;
    if extent.len.bytes().0 < mbr.layout.data.len.bytes().0.checked_add(MIN_GROWTH)? {
        return None;
    }
    let mut grown = *sector;
    grown[LENGTH_OFFSET..LENGTH_OFFSET + 4].copy_from_slice(&extent.len.0.to_le_bytes());
    // The sector holds the boot code and all partitions, so check that nothing else has changed.
    let expected = Mbr { layout, ..mbr };
    (Mbr::decode(&grown).ok()? == expected).then_some((grown, extent))
}

fn resize_in_kernel(disk: &File, extent: Extent) -> io::Result<()> {
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

/// Extends the mounted ext4 file system on `node` to its partition. Returns the new size if it grew. Takes seconds on
/// large and slow disks.
pub(crate) fn file_system(node: &Path) -> io::Result<Option<Bytes>> {
    let room = block::partition_sectors(node)? * SECTOR_SIZE;
    let superblock = Superblock::read(&mut File::open(node)?)?;
    let Some(Superblock { blocks, block_size, .. }) = superblock else {
        return Err(io::Error::other("it has no ext4 superblock"));
    };
    let blocks_available = room / block_size;
    if blocks_available.saturating_sub(blocks) * block_size < MIN_GROWTH {
        return Ok(None);
    }
    let directory = File::open(DATA)?;
    // SAFETY: the request reads one u64.
    if unsafe { libc::ioctl(directory.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &blocks_available) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Some(Bytes(blocks_available * block_size)))
}

#[cfg(test)]
mod tests {
    use krazy_boot::disk::layout::{DiskLayout, DiskSignature, PartitionSizes};
    use proptest::prelude::*;

    use super::*;

    fn sector(disk: Bytes) -> (FirstSector, Mbr) {
        let layout = DiskLayout::new(PartitionSizes { disk, ..PartitionSizes::default() }).unwrap();
        let mbr = Mbr { signature: DiskSignature(0x1a2b_3c4d), layout };
        (mbr.encode(&[0x90; 439]).unwrap(), mbr)
    }

    #[test]
    fn growing_changes_only_the_length_of_partition_4() {
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
    fn foreign_and_smaller_disks_are_not_changed() {
        let (before, _) = sector(Bytes::gib(1));
        assert!(grown_table(&before, 10).is_none());
        assert!(grown_table(&[0; 512], 1 << 30).is_none());
        let mut other = before;
        other[446 + 3 * 16 + 4] = 0x07;
        assert!(grown_table(&other, 1 << 30).is_none());
    }

    proptest! {
        #[test]
        fn partition_never_shrinks_or_exceeds_the_disk(bytes in any::<[u8; 32]>(), at in 446usize..478, disk in any::<u64>()) {
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
