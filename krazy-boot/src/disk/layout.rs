//! The place of everything on the disk: the fixed sectors in front of partition 1, and the four partitions.
//!
//! | sectors | content | written |
//! |---|---|---|
//! | 0 | boot sector code, disk signature, partition table ([`crate::disk::mbr`]) | with the image, and when `/data` grows |
//! | 32 | spare [selector](crate::disk::selector) | when a trial is armed, confirmed or dropped |
//! | 40 … 63 | the first of two copies of the device's [identity](crate::disk::identity) | with the image, and when credentials change |
//! | 64 … 1983 | one [area](area_of_slot) per slot (`boot::slot_area` has its format) | by updates, and when files on `/boot` change |
//! | 1984 … 2007 | the second copy of the identity | |
//! | 2008 | [trial note](crate::disk::trial_note) | while a trial runs |
//! | 2040 | selector, the copy that decides | when a trial is armed, started, confirmed or dropped |
//! | 2048 … | [`DiskLayout`]: `/boot`, root A, root B, `/data` | |
//!
//! All other sectors are free. Disks write pages of 4 KiB, flash of 16 KiB and more, and a power cut can damage the whole
//! page. So no page of 16 KiB has both selectors, both identities, or one of them and LBA 0. On disks of
//! the first format selectors and note are in LBA 1 to 3, see [`StateSectors`].
//!
//! A new fixed sector gets its constant here and an entry in the test `fixed_sectors_do_not_overlap`; its format gets a
//! module of its own beside [`crate::disk::selector`].

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use crate::disk::slot::Slot;

/// The sectors of the boot state, which decides about the next start and explains the last one. LBA 0 says which ones
/// ([`mbr::state_sectors`](crate::disk::mbr::state_sectors)), because its code reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSectors {
    /// Primary copy of the boot selector, the one that decides.
    pub selector: Sectors,
    /// Spare copy of the boot selector, read when the primary copy is damaged.
    pub spare: Sectors,
    /// Note about the trial that was armed last.
    pub note: Sectors,
}

impl StateSectors {
    /// The sectors on a new disk.
    pub const CURRENT: Self =
        StateSectors { selector: Sectors(2040), spare: Sectors(32), note: Sectors(2008) };

    /// The sectors on a disk of the first format, behind LBA 0 and in one page with it.
    pub const FIRST: Self = StateSectors { selector: Sectors(1), spare: Sectors(2), note: Sectors(3) };

    /// Returns those of the disk whose LBA 0 is `sector`.
    pub fn of(sector: &FirstSector) -> Self {
        if sector[FORMAT_OFFSET] == 0 { StateSectors::FIRST } else { StateSectors::CURRENT }
    }
}

/// LBA 0 ([`mbr`](crate::disk::mbr)).
pub type FirstSector = [u8; SECTOR_SIZE as usize];

/// The byte of LBA 0 that names the [`StateSectors`], which the code in front of it reads. Earlier code was shorter, so the
/// byte is 0 on older disks.
pub(crate) const FORMAT_OFFSET: usize = 439;

/// First sectors of the two copies of the device's identity, each on a boundary of 4 KiB.
pub(crate) const IDENTITY: [Sectors; 2] = [Sectors(40), SLOT_AREAS_END];

/// Length of a copy of the identity.
pub(crate) const IDENTITY_LEN: Sectors = Sectors(24);

/// Length of a slot's area: its load table, and the data that is loaded into low memory.
pub(crate) const SLOT_AREA_LEN: Sectors = Sectors(960);

const FIRST_SLOT_AREA: Sectors = Sectors(64);

/// First sector behind the slot areas. No partition begins in front of it.
pub(crate) const SLOT_AREAS_END: Sectors = Sectors(FIRST_SLOT_AREA.0 + 2 * SLOT_AREA_LEN.0);

/// First sector of partition 1.
const FIRST_PARTITION: Sectors = Sectors(2048);

/// Alignment of partitions: 1 MiB, a multiple of the erase blocks of common flash.
const ALIGNMENT: Bytes = Bytes::mib(1);

/// Default size of `/boot` and of each root.
const DEFAULT_PARTITION: Bytes = Bytes::mib(256);

/// Default size of the image file. `/data` grows to the whole disk at the first boot.
const DEFAULT_IMAGE: Bytes = Bytes::gib(1);

/// Minimum size of `/data`, which ext4 with a journal needs.
pub const MINIMUM_DATA: Bytes = Bytes::mib(32);

/// Minimum size of `/boot`. A smaller FAT32 has too few clusters, and readers take it for a FAT16.
const MINIMUM_BOOT: Bytes = Bytes::mib(64);

/// The 32-bit MBR disk signature, at byte 440 of LBA 0. Linux derives partition UUIDs from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskSignature(pub u32);

impl DiskSignature {
    /// Returns the PARTUUID of primary partition `number` (1 to 4), as in `root=PARTUUID=1a2b3c4d-02`.
    /// Source: Linux `block/partitions/msdos.c`, format `%08x-%02x`.
    pub(crate) fn partuuid(self, number: u8) -> String {
        format!("{self}-{number:02x}")
    }
}

/// Prints eight lower-case hexadecimal digits.
impl fmt::Display for DiskSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A run of sectors on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The first sector.
    pub start: Sectors,
    /// The number of sectors.
    pub len: Sectors,
}

impl Extent {
    /// Returns the sector behind the last one.
    pub fn end(self) -> Sectors {
        self.start + self.len
    }
}

/// Returns the area of `slot`. The boot sector computes the same places, so the areas are adjacent and of equal length.
pub const fn area_of_slot(slot: Slot) -> Extent {
    let start = FIRST_SLOT_AREA.0 + slot.index() as u32 * SLOT_AREA_LEN.0;
    Extent { start: Sectors(start), len: SLOT_AREA_LEN }
}

/// Sizes that an appliance may choose; see [`DiskLayout::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSizes {
    /// The whole disk or image file.
    pub disk: Bytes,
    /// `/boot`, FAT32.
    pub boot: Bytes,
    /// Each of the two roots, SquashFS.
    pub root: Bytes,
}

impl Default for PartitionSizes {
    fn default() -> Self {
        PartitionSizes { disk: DEFAULT_IMAGE, boot: DEFAULT_PARTITION, root: DEFAULT_PARTITION }
    }
}

/// The four partitions of a disk, in order and without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLayout {
    /// Partition 1: `/boot`, FAT32 (type 0x0c).
    pub boot: Extent,
    /// Partition 2: root A, SquashFS (type 0x83).
    pub root_a: Extent,
    /// Partition 3: root B, SquashFS (type 0x83).
    pub root_b: Extent,
    /// Partition 4: `/data`, ext4 (type 0x83), up to the end of the disk.
    pub data: Extent,
}

/// Sizes that do not make a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The disk ends before `/data` has its minimum.
    #[error("a disk of {disk} is too small: /boot, two roots and a /data of {MINIMUM_DATA} need {needed}")]
    DiskTooSmall {
        /// The requested size.
        disk: Bytes,
        /// The minimum size.
        needed: Bytes,
    },
    /// The disk is larger than an MBR can address.
    #[error("a disk of {0} is too large for an MBR, which ends at 2 TiB")]
    DiskTooLarge(Bytes),
    /// A partition is below the minimum of its file system.
    #[error("{name} of {size} is too small, it needs at least {minimum}")]
    PartitionTooSmall {
        /// `/boot` or `root`.
        name: &'static str,
        /// The requested size.
        size: Bytes,
        /// The minimum size.
        minimum: Bytes,
    },
    /// A partition does not end on a MiB boundary.
    #[error("{name} of {size} is not a whole number of MiB")]
    Unaligned {
        /// `/boot` or `root`.
        name: &'static str,
        /// The requested size.
        size: Bytes,
    },
}

impl DiskLayout {
    /// Lays the partitions out one behind the other, from 1 MiB on. `/data` takes the rest, to the last whole sector.
    pub fn new(sizes: PartitionSizes) -> Result<Self, LayoutError> {
        for (name, size, minimum) in
            [("/boot", sizes.boot, MINIMUM_BOOT), ("root", sizes.root, Bytes::mib(1))]
        {
            if size < minimum {
                return Err(LayoutError::PartitionTooSmall { name, size, minimum });
            }
            if !size.0.is_multiple_of(ALIGNMENT.0) {
                return Err(LayoutError::Unaligned { name, size });
            }
        }
        let too_large = || LayoutError::DiskTooLarge(sizes.disk.max(sizes.boot).max(sizes.root));
        let disk = sizes.disk.sectors_floor().ok_or_else(too_large)?;
        let data_start = sizes
            .root
            .0
            .checked_mul(2)
            .and_then(|roots| roots.checked_add(sizes.boot.0))
            .and_then(|sum| sum.checked_add(FIRST_PARTITION.bytes().0))
            .map(Bytes)
            .ok_or_else(too_large)?;
        let needed = data_start + MINIMUM_DATA;
        if disk.bytes() < needed {
            return Err(LayoutError::DiskTooSmall { disk: sizes.disk, needed });
        }
        // Both are smaller than `disk`, which fits.
        let (boot_len, root_len) =
            sizes.boot.sectors_floor().zip(sizes.root.sectors_floor()).ok_or_else(too_large)?;
        let boot = Extent { start: FIRST_PARTITION, len: boot_len };
        let root_a = Extent { start: boot.end(), len: root_len };
        let root_b = Extent { start: root_a.end(), len: root_len };
        let data = Extent { start: root_b.end(), len: disk - root_b.end() };
        Ok(DiskLayout { boot, root_a, root_b, data })
    }

    /// Returns this layout with a `/data` that reaches to the end of a disk with this number of sectors, or to the end of
    /// what an MBR addresses. It never shrinks.
    #[must_use]
    pub fn grown_to(self, disk: u64) -> Self {
        let end = u32::try_from(disk).unwrap_or(u32::MAX).max(self.data.end().0);
        let data = Extent { len: Sectors(end) - self.data.start, ..self.data };
        DiskLayout { data, ..self }
    }

    /// Returns the root partition of `slot`.
    pub fn root(&self, slot: Slot) -> Extent {
        match slot {
            Slot::A => self.root_a,
            Slot::B => self.root_b,
        }
    }

    /// Returns the four partitions in table order.
    pub fn partitions(&self) -> [Extent; 4] {
        [self.boot, self.root_a, self.root_b, self.data]
    }

    /// Returns the length of the disk, from LBA 0 to the end of `/data`.
    pub fn disk(&self) -> Sectors {
        self.data.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_disk_has_four_partitions_in_1_gib() {
        let layout = DiskLayout::new(PartitionSizes::default()).unwrap();
        let [boot, a, b, data] = layout.partitions();
        assert_eq!(boot, Extent { start: Sectors(2048), len: Sectors(524_288) });
        assert_eq!(a, Extent { start: Sectors(526_336), len: Sectors(524_288) });
        assert_eq!(b, Extent { start: Sectors(1_050_624), len: Sectors(524_288) });
        assert_eq!(data, Extent { start: Sectors(1_574_912), len: Sectors(522_240) });
        assert_eq!(layout.disk().bytes(), DEFAULT_IMAGE);
    }

    #[test]
    fn fixed_sectors_do_not_overlap() {
        let sector = |start| Extent { start, len: Sectors(1) };
        let StateSectors { selector, spare, note } = StateSectors::CURRENT;
        let identity = IDENTITY.map(|start| Extent { start, len: IDENTITY_LEN });
        let mut fixed = [
            sector(Sectors(0)),
            sector(spare),
            identity[0],
            area_of_slot(Slot::A),
            area_of_slot(Slot::B),
            identity[1],
            sector(note),
            sector(selector),
        ];
        assert!(fixed.is_sorted_by(|one, next| one.end() <= next.start));
        // The first format may share pages, not sectors.
        let StateSectors { selector: first, spare: second, note: third } = StateSectors::FIRST;
        fixed[1..4].copy_from_slice(&[first, second, third].map(sector));
        assert!(fixed[..4].is_sorted_by(|one, next| one.end() <= next.start));
        assert!(third < spare);
        assert_eq!(area_of_slot(Slot::B).end(), SLOT_AREAS_END);
        assert!(fixed.iter().all(|extent| extent.end() <= FIRST_PARTITION));
    }

    #[test]
    fn torn_page_of_16_kib_leaves_a_selector_an_identity_and_the_partition_table() {
        let pages = |start: Sectors, len: u32| start.0 / 32..=(start.0 + len - 1) / 32;
        let StateSectors { selector, spare, .. } = StateSectors::CURRENT;
        let [one, two] = IDENTITY.map(|start| pages(start, IDENTITY_LEN.0));
        for page in 0..=SLOT_AREAS_END.0 / 32 + 1 {
            let hit = |pages: &std::ops::RangeInclusive<u32>| u8::from(pages.contains(&page));
            let selectors = hit(&pages(selector, 1)) + hit(&pages(spare, 1));
            let identities = hit(&one) + hit(&two);
            assert!(selectors <= 1 && identities <= 1, "page {page}");
            assert!(page != 0 || selectors + identities == 0, "LBA 0");
        }
        assert_eq!(selector - spare, Sectors(2008), "nearly 1 MiB apart");
    }

    #[test]
    fn data_partition_ends_at_the_last_sector_beyond_4_gib() {
        let sizes = PartitionSizes { disk: Bytes(Bytes::gib(64).0 + 700), ..PartitionSizes::default() };
        let layout = DiskLayout::new(sizes).unwrap();
        assert_eq!(layout.data.end().bytes(), Bytes(Bytes::gib(64).0 + 512));
        let small = DiskLayout::new(PartitionSizes::default()).unwrap();
        assert_eq!(small.grown_to(u64::from(layout.disk().0)), layout);
        assert_eq!(layout.grown_to(1), layout);
        assert_eq!(layout.grown_to(u64::MAX).disk(), Sectors(u32::MAX));
    }

    #[test]
    fn impossible_sizes_are_refused_with_the_needed_size() {
        let small = PartitionSizes { disk: Bytes::mib(700), ..PartitionSizes::default() };
        assert_eq!(
            DiskLayout::new(small).unwrap_err().to_string(),
            "a disk of 700 MiB is too small: /boot, two roots and a /data of 32 MiB need 801 MiB"
        );
        let huge = PartitionSizes { disk: Bytes::gib(3000), ..PartitionSizes::default() };
        assert!(matches!(DiskLayout::new(huge), Err(LayoutError::DiskTooLarge(_))));
        let boot = PartitionSizes { boot: Bytes::mib(16), ..PartitionSizes::default() };
        assert!(matches!(DiskLayout::new(boot), Err(LayoutError::PartitionTooSmall { name: "/boot", .. })));
        let odd = PartitionSizes { root: Bytes::kib(1500), ..PartitionSizes::default() };
        assert!(matches!(DiskLayout::new(odd), Err(LayoutError::Unaligned { name: "root", .. })));
    }

    #[test]
    fn partuuid_has_the_format_of_linux() {
        assert_eq!(DiskSignature(0x00ab_12cd).partuuid(2), "00ab12cd-02");
    }
}
