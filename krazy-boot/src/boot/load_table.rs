//! The load table of a slot: the sectors that the boot sector copies, their addresses in memory, and the address it jumps
//! to. A format of this project, in the first four sectors of a slot's area.
//!
//! | bytes | content |
//! |---|---|
//! | 0 … 3 | magic `KZLT` |
//! | 4, 5 | format version, 1 |
//! | 6, 7 | number of entries, 1 to 168 |
//! | 8 … 11 | CRC-32 (IEEE) of the 2048 bytes, these four counted as 0 |
//! | 12, 13 and 14, 15 | SP and SS at the jump; DS, ES, FS and GS equal SS |
//! | 16, 17 and 18, 19 | IP and CS to jump to |
//! | 32 + 12 n … | entry n: destination address, first sector, number of sectors; 32 bits each |
//!
//! The rest is zero. A table of at most [`FIRST_SECTOR_ENTRIES`] entries fits in one sector, which disks write
//! atomically. The boot sector checks the magic only; the CRC is for the programs that write and compare tables.
//!
//! The table exists so that the boot sector needs no file system: everything that can be computed beforehand is, by the
//! program that wrote the files.

use crate::disk::layout::Extent;
use crate::disk::size::{SECTOR_SIZE, Sectors};

/// The first four bytes.
pub(crate) const MAGIC: [u8; 4] = *b"KZLT";

/// The supported format version.
const VERSION: u16 = 1;

/// Length of a table in sectors.
pub(crate) const TABLE_SECTORS: Sectors = Sectors(4);

/// Length of a table in bytes.
pub const TABLE_LEN: usize = TABLE_SECTORS.0 as usize * SECTOR_SIZE as usize;

/// Number of entries that a table holds.
const CAPACITY: usize = (TABLE_LEN - ENTRIES_OFFSET) / ENTRY_LEN;

/// Number of entries in the first sector of a table.
pub const FIRST_SECTOR_ENTRIES: usize = (SECTOR_SIZE as usize - ENTRIES_OFFSET) / ENTRY_LEN;

pub(crate) const COUNT_OFFSET: usize = 6;
const CRC_OFFSET: usize = 8;
pub(crate) const STACK_OFFSET: usize = 12;
pub(crate) const START_OFFSET: usize = 16;
pub(crate) const ENTRIES_OFFSET: usize = 32;
const ENTRY_LEN: usize = 12;

/// A real-mode address: `segment` × 16 + `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FarPointer {
    /// The value of the segment register.
    pub(crate) segment: u16,
    /// The offset in the segment.
    pub(crate) offset: u16,
}

/// One copy from disk to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The physical address of the first byte.
    pub destination: u32,
    /// The sectors to copy.
    pub source: Extent,
}

/// Instructions of the boot sector for one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadTable {
    /// SS:SP at the jump; the other data segments equal SS.
    pub(crate) stack: FarPointer,
    /// CS:IP to jump to.
    pub(crate) start: FarPointer,
    /// The copies, in order: 1 to 168.
    pub loads: Vec<Load>,
}

/// A failure to make or read a load table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadTableError {
    /// The files have more fragments than the table has entries.
    #[error(
        "the boot files are in {0} pieces, a load table holds {CAPACITY}; write them again to defragment"
    )]
    TooFragmented(usize),
    /// The table is empty.
    #[error("the load table has no entries")]
    Empty,
    /// The sectors of a file are shorter than the file.
    #[error("a boot file has {have} sectors on disk, {need} are needed")]
    Short {
        /// The sum of the extents.
        have: u64,
        /// The number of sectors needed.
        need: u64,
    },
    /// A fragment would be loaded beyond 4 GiB.
    #[error("a boot file does not fit below 4 GiB when loaded at {0:#x}")]
    Address(u32),
    /// There is no table.
    #[error("no load table")]
    Magic,
    /// The table was written by a newer version.
    #[error("the load table has version {0}, this program reads {VERSION}")]
    Version(u16),
    /// The checksum does not match, or the number of entries is impossible.
    #[error("the load table is damaged: wrong checksum")]
    Checksum,
}

/// Returns `len` sectors of a file from sector `skip` on, as extents in file order.
pub(crate) fn file_part(file: &[Extent], skip: Sectors, len: Sectors) -> Result<Vec<Extent>, LoadTableError> {
    let have: u64 = file.iter().map(|extent| u64::from(extent.len.0)).sum();
    let need = u64::from(skip.0) + u64::from(len.0);
    if have < need {
        return Err(LoadTableError::Short { have, need });
    }
    let (mut skip, mut left) = (skip.0, len.0);
    let mut part: Vec<Extent> = Vec::new();
    for extent in file {
        let skipped = skip.min(extent.len.0);
        skip -= skipped;
        let taken = (extent.len.0 - skipped).min(left);
        left -= taken;
        if taken == 0 {
            continue;
        }
        let start = Sectors(extent.start.0.saturating_add(skipped));
        match part.last_mut() {
            // Adjacent extents become one: the table has few entries, and those in its first sector change atomically.
            Some(last) if last.start.0.checked_add(last.len.0) == Some(start.0) => {
                last.len = Sectors(last.len.0 + taken)
            }
            _ => part.push(Extent { start, len: Sectors(taken) }),
        }
    }
    Ok(part)
}

/// Returns copies of `extents` to consecutive addresses from `destination` on.
pub(crate) fn consecutive_loads(destination: u32, extents: &[Extent]) -> Result<Vec<Load>, LoadTableError> {
    let mut next = u64::from(destination);
    extents
        .iter()
        .map(|source| {
            let here = u32::try_from(next).map_err(|_| LoadTableError::Address(destination))?;
            next += source.len.bytes().0;
            if next > 1 << 32 {
                return Err(LoadTableError::Address(destination));
            }
            Ok(Load { destination: here, source: *source })
        })
        .collect()
}

impl LoadTable {
    /// Encodes the four sectors.
    pub fn encode(&self) -> Result<Vec<u8>, LoadTableError> {
        if self.loads.is_empty() {
            return Err(LoadTableError::Empty);
        }
        if self.loads.len() > CAPACITY {
            return Err(LoadTableError::TooFragmented(self.loads.len()));
        }
        let mut bytes = Vec::with_capacity(TABLE_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.loads.len() as u16).to_le_bytes());
        bytes.extend([0; 4]);
        for pointer in [self.stack, self.start] {
            bytes.extend(pointer.offset.to_le_bytes());
            bytes.extend(pointer.segment.to_le_bytes());
        }
        bytes.resize(ENTRIES_OFFSET, 0);
        for load in &self.loads {
            for number in [load.destination, load.source.start.0, load.source.len.0] {
                bytes.extend(number.to_le_bytes());
            }
        }
        bytes.resize(TABLE_LEN, 0);
        let crc = crc32fast::hash(&bytes);
        bytes[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Decodes the first [`TABLE_LEN`] of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, LoadTableError> {
        let table: &[u8; TABLE_LEN] = bytes.first_chunk().ok_or(LoadTableError::Magic)?;
        let short = |at: usize| u16::from_le_bytes([table[at], table[at + 1]]);
        let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        if table[..4] != MAGIC {
            return Err(LoadTableError::Magic);
        }
        if short(4) != VERSION {
            return Err(LoadTableError::Version(short(4)));
        }
        let mut counted = *table;
        counted[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
        let count = usize::from(short(COUNT_OFFSET));
        // The number of entries is checked too: a matching CRC does not make it a table that fits.
        if crc32fast::hash(&counted) != long(CRC_OFFSET) || !(1..=CAPACITY).contains(&count) {
            return Err(LoadTableError::Checksum);
        }
        let pointer = |at| FarPointer { offset: short(at), segment: short(at + 2) };
        let load = |n: usize| {
            let at = ENTRIES_OFFSET + n * ENTRY_LEN;
            Load {
                destination: long(at),
                source: Extent { start: Sectors(long(at + 4)), len: Sectors(long(at + 8)) },
            }
        };
        Ok(LoadTable {
            stack: pointer(STACK_OFFSET),
            start: pointer(START_OFFSET),
            loads: (0..count).map(load).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extent(start: u32, len: u32) -> Extent {
        Extent { start: Sectors(start), len: Sectors(len) }
    }

    fn table(loads: Vec<Load>) -> LoadTable {
        LoadTable {
            stack: FarPointer { segment: 0x1000, offset: 0xe000 },
            start: FarPointer { segment: 0x1020, offset: 0 },
            loads,
        }
    }

    #[test]
    fn encoded_table_has_the_golden_bytes() {
        let bytes =
            table(consecutive_loads(0x10_0000, &[extent(0x1234, 3), extent(0x0001_0000, 1)]).unwrap());
        let bytes = bytes.encode().unwrap();
        // The CRC was computed by another program (zlib).
        let mut expected = vec![0; 2048];
        expected[..20].copy_from_slice(b"KZLT\x01\0\x02\0\xf2\xdf\x04\x59\x00\xe0\x00\x10\x00\x00\x20\x10");
        expected[32..56].copy_from_slice(
            b"\x00\x00\x10\x00\x34\x12\0\0\x03\0\0\0\x00\x06\x10\x00\x00\x00\x01\0\x01\0\0\0",
        );
        assert!(bytes == expected, "{:x?}", &bytes[..64]);
    }

    #[test]
    fn a_part_of_a_file_may_begin_and_end_within_extents() {
        let file = [extent(100, 8), extent(300, 8), extent(308, 8), extent(50, 8)];
        let part = |skip, len| file_part(&file, Sectors(skip), Sectors(len));
        assert_eq!(part(0, 32).unwrap(), [extent(100, 8), extent(300, 16), extent(50, 8)]);
        assert_eq!(part(3, 6).unwrap(), [extent(103, 5), extent(300, 1)]);
        assert_eq!(part(8, 1).unwrap(), [extent(300, 1)]);
        assert_eq!(part(31, 1).unwrap(), [extent(57, 1)]);
        assert_eq!(part(4, 0).unwrap(), []);
        assert_eq!(part(31, 2), Err(LoadTableError::Short { have: 32, need: 33 }));
    }

    #[test]
    fn fragments_are_loaded_to_consecutive_addresses() {
        let loads = consecutive_loads(0x20_0000, &[extent(7, 2), extent(99, 1)]).unwrap();
        assert_eq!(loads[1], Load { destination: 0x20_0400, source: extent(99, 1) });
        assert!(consecutive_loads(0xffff_fe00, &[extent(0, 1)]).is_ok());
        let error = consecutive_loads(0xffff_fc00, &[extent(0, 1), extent(5, 2)]).unwrap_err();
        assert_eq!(error.to_string(), "a boot file does not fit below 4 GiB when loaded at 0xfffffc00");
    }

    #[test]
    fn table_holds_at_most_168_entries() {
        let load = |n: u32| Load { destination: n * 512, source: extent(n * 2, 1) };
        let full = table((0..168).map(load).collect());
        assert_eq!(LoadTable::decode(&full.encode().unwrap()).unwrap(), full);
        let error = table((0..169).map(load).collect()).encode().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the boot files are in 169 pieces, a load table holds 168; write them again to defragment"
        );
        assert_eq!(table(Vec::new()).encode(), Err(LoadTableError::Empty));
    }

    #[test]
    fn damaged_tables_give_distinct_errors() {
        let mut bytes = table(vec![Load { destination: 0, source: extent(1, 1) }]).encode().unwrap();
        assert_eq!(LoadTable::decode(&bytes[..2047]), Err(LoadTableError::Magic));
        bytes[2047] = 1;
        assert_eq!(LoadTable::decode(&bytes), Err(LoadTableError::Checksum));
        bytes[4] = 2;
        assert_eq!(LoadTable::decode(&bytes), Err(LoadTableError::Version(2)));
        bytes[0] = 0;
        assert_eq!(LoadTable::decode(&bytes), Err(LoadTableError::Magic));
    }

    proptest! {
        #[test]
        fn tables_survive_a_round_trip_and_changes_are_detected(
            entries in prop::collection::vec(any::<[u32; 3]>(), 1..=CAPACITY), at in 0..TABLE_LEN, bits in 1..=255u8,
        ) {
            let load = |[destination, start, len]: [u32; 3]| Load { destination, source: extent(start, len) };
            let table = table(entries.into_iter().map(load).collect());
            let mut bytes = table.encode().unwrap();
            prop_assert_eq!(LoadTable::decode(&bytes).unwrap(), table);
            bytes[at] ^= bits;
            prop_assert!(LoadTable::decode(&bytes).is_err());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), count: u16) {
            let mut bytes = bytes;
            let _ = LoadTable::decode(&bytes);
            if bytes.len() >= TABLE_LEN {
                bytes[..6].copy_from_slice(b"KZLT\x01\0");
                bytes[6..8].copy_from_slice(&count.to_le_bytes());
                bytes[8..12].fill(0);
                let crc = crc32fast::hash(&bytes[..TABLE_LEN]);
                bytes[8..12].copy_from_slice(&crc.to_le_bytes());
                prop_assert_eq!(LoadTable::decode(&bytes).is_ok(), (1..=168).contains(&count));
            }
        }
    }
}
