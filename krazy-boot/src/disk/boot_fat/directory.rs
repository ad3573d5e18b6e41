//! Directory entries: 32 bytes each. A long name is in the entries in front of the one that it belongs to.

use super::{CLUSTER_MASK, FatFile};
use crate::disk::size::Bytes;

pub(crate) const ENTRY_LEN: usize = 32;
pub(super) const DELETED: u8 = 0xe5;
pub(crate) const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
pub(crate) const ATTRIBUTE_VOLUME: u8 = 0x08;
pub(crate) const ATTRIBUTE_DIRECTORY: u8 = 0x10;
/// Marks the last part of a long name, which comes first.
const LAST_LONG: u8 = 0x40;
/// 13 UTF-16 units each; names have at most 255.
const MAX_LONG_PARTS: u8 = 20;
/// Offsets of a part's units in its entry.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// A long name whose entries are being read. They are stored from its end to its start.
pub(super) struct LongName {
    checksum: u8,
    /// The number of the part read last; a complete name ends with part 1.
    part: u8,
    units: Vec<u16>,
}

/// The kinds of entries that can be found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// Returns the entries of `kind` in the content of a directory.
pub(super) fn entries(directory: &[u8], kind: Kind) -> Vec<FatFile> {
    let mut files = Vec::new();
    let mut long: Option<LongName> = None;
    for entry in directory.as_chunks::<ENTRY_LEN>().0 {
        match (entry[0], entry[11]) {
            (0, _) => break,
            (DELETED, _) => long = None,
            (_, attributes) if attributes & 0x3f == ATTRIBUTE_LONG_NAME => {
                long = LongName::continued(long.take(), entry);
            }
            (_, attributes) if attributes & ATTRIBUTE_VOLUME != 0 => long = None,
            (_, attributes) => {
                let found = if attributes & ATTRIBUTE_DIRECTORY != 0 { Kind::Directory } else { Kind::File };
                let long = long.take();
                if found == kind {
                    files.push(file(entry, long));
                }
            }
        }
    }
    files
}

impl LongName {
    /// Returns true if an entry is the last part of a name, with which its entries begin.
    pub(super) fn is_first(entry: &[u8; ENTRY_LEN]) -> bool {
        entry[0] & LAST_LONG != 0
    }

    pub(super) fn continued(before: Option<Self>, entry: &[u8; ENTRY_LEN]) -> Option<Self> {
        let part = entry[0] & 0x3f;
        let checksum = entry[13];
        let mut name = if Self::is_first(entry) {
            (1..=MAX_LONG_PARTS).contains(&part).then_some(LongName { checksum, part, units: Vec::new() })?
        } else {
            before.filter(|name| name.checksum == checksum && name.part == part + 1 && part > 0)?
        };
        name.part = part;
        name.units.splice(0..0, UNITS.iter().map(|&at| u16::from_le_bytes([entry[at], entry[at + 1]])));
        Some(name)
    }

    /// Returns the name if it is complete and belongs to the entry with the name `short`.
    pub(super) fn text(self, short: &[u8]) -> Option<String> {
        let checksum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        let units = self.units.split(|unit| *unit == 0).next()?;
        (self.part == 1 && self.checksum == checksum).then(|| String::from_utf16_lossy(units))
    }
}

pub(super) fn file(entry: &[u8; ENTRY_LEN], long: Option<LongName>) -> FatFile {
    // A first byte of 0x05 means 0xe5, and other bytes beyond ASCII depend on a code page. Our own names are ASCII.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (base, extension) = (text(&entry[..8]), text(&entry[8..11]));
    let short_name = if extension.is_empty() { base } else { format!("{base}.{extension}") };
    FatFile {
        name: long.and_then(|long| long.text(&entry[..11])).unwrap_or_else(|| short_name.clone()),
        short_name,
        size: Bytes(u64::from(half(entry, 28) | half(entry, 30) << 16)),
        first_cluster: first_cluster(entry),
    }
}

/// Returns the first cluster of the file or directory of an entry.
pub(crate) fn first_cluster(entry: &[u8; ENTRY_LEN]) -> u32 {
    (half(entry, 26) | half(entry, 20) << 16) & CLUSTER_MASK
}

fn half(entry: &[u8; ENTRY_LEN], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]))
}
