//! Directory entries as the check sees them: with their positions, and with those that belong to none.

use super::directory::{
    ATTRIBUTE_DIRECTORY, ATTRIBUTE_LONG_NAME, ATTRIBUTE_VOLUME, DELETED, ENTRY_LEN, LongName, file,
    first_cluster,
};
use super::{CLUSTER_MASK, FatFile};

/// Characters that short names must not have. Source: the specification, section 6.1; `fsck.fat` accepts the others.
const FORBIDDEN: &[u8] = b".*?<>|\":/\\";
/// A first byte of this value stands for 0xe5.
const KANJI_E5: u8 = 0x05;
const BASE_LEN: usize = 8;
const NAME_LEN: usize = 11;

/// The name that every entry has, padded with spaces.
pub(super) type ShortName = [u8; NAME_LEN];

/// A file or a directory.
#[derive(Clone)]
pub(super) struct Entry {
    /// Offset of its short entry in the directory.
    at: usize,
    /// Offset of the first of its entries, which are adjacent.
    start: usize,
    pub(super) file: FatFile,
    pub(super) is_directory: bool,
    pub(super) short_name: ShortName,
    /// Set when `fsck.fat` would reject the short name.
    pub(super) has_bad_name: bool,
}

/// Returns files and subdirectories from `skip` bytes on, which are the dot entries of a subdirectory. Parts of long names
/// without a file and surplus labels are marked as deleted, and so are unused entries in front of used ones: Linux looks
/// behind them, and firmware stops there.
pub(super) fn entries(directory: &mut [u8], skip: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    // The parts of the long name that is being read: their offsets, and the name while it is consistent.
    let (mut parts, mut long): (Vec<usize>, Option<LongName>) = (Vec::new(), None);
    let mut orphans = Vec::new();
    let mut end_marks = Vec::new();
    let mut has_label = false;
    for at in (skip..directory.len()).step_by(ENTRY_LEN) {
        let mut entry = [0; ENTRY_LEN];
        entry.copy_from_slice(&directory[at..at + ENTRY_LEN]);
        let attributes = entry[11] & 0x3f;
        if entry[0] == 0 {
            end_marks.push(at);
            orphans.append(&mut parts);
            long = None;
            continue;
        }
        if entry[0] == DELETED {
            orphans.append(&mut parts);
            long = None;
            continue;
        }
        orphans.append(&mut end_marks);
        if attributes == ATTRIBUTE_LONG_NAME {
            if LongName::is_first(&entry) {
                orphans.append(&mut parts);
            }
            parts.push(at);
            long = LongName::continued(long.take(), &entry);
            if long.is_none() {
                orphans.append(&mut parts);
            }
            continue;
        }
        let name = long.take().and_then(|long| long.text(&entry[..NAME_LEN]));
        if name.is_none() || attributes & ATTRIBUTE_VOLUME != 0 {
            orphans.append(&mut parts);
        }
        if attributes & ATTRIBUTE_VOLUME != 0 {
            // The root directory has the only label.
            let is_label = skip == 0 && attributes & ATTRIBUTE_DIRECTORY == 0 && !has_label;
            has_label |= is_label;
            if !is_label {
                orphans.push(at);
            }
        } else {
            let start = parts.first().copied().unwrap_or(at);
            let mut found = file(&entry, None);
            found.name = name.unwrap_or(found.name);
            let is_directory = attributes & ATTRIBUTE_DIRECTORY != 0;
            let mut short_name = [0; NAME_LEN];
            short_name.copy_from_slice(&entry[..NAME_LEN]);
            let has_bad_name = is_bad_name(&short_name);
            entries.push(Entry { at, start, file: found, is_directory, short_name, has_bad_name });
        }
        parts.clear();
    }
    orphans.append(&mut parts);
    for at in orphans {
        directory[at] = DELETED;
    }
    entries
}

/// Returns true if `fsck.fat` rejects a short name.
fn is_bad_name(name: &[u8; NAME_LEN]) -> bool {
    let mut in_padding = false;
    (0..).zip(name).any(|(n, &byte)| {
        in_padding = n != BASE_LEN && in_padding || byte == b' ';
        let is_padded = in_padding && (byte != b' ' || n == 0);
        let is_kanji = n == 0 && byte == KANJI_E5;
        is_padded || !is_kanji && (byte < b' ' || byte == 0x7f || FORBIDDEN.contains(&byte))
    })
}

/// Returns the short name of a file that is renamed; `None` if there are no more.
pub(super) fn new_name(number: u32) -> Option<ShortName> {
    format!("FSCK{number:04X}REN").into_bytes().try_into().ok()
}

impl Entry {
    /// Marks the entry and its long name as deleted.
    pub(super) fn remove(&self, directory: &mut [u8]) {
        self.remove_long_name(directory);
        directory[self.at] = DELETED;
    }

    /// Replaces the short name. The long name, which has its checksum, is deleted.
    pub(super) fn rename(&self, directory: &mut [u8], name: &ShortName) {
        self.remove_long_name(directory);
        directory[self.at..self.at + NAME_LEN].copy_from_slice(name);
    }

    fn remove_long_name(&self, directory: &mut [u8]) {
        for at in (self.start..self.at).step_by(ENTRY_LEN) {
            directory[at] = DELETED;
        }
    }

    /// Returns true for an empty file with clusters.
    pub(super) fn has_chain_without_size(&self) -> bool {
        self.file.size.0 == 0 && self.file.first_cluster != 0
    }

    /// Sets the length.
    pub(super) fn set_size(&self, directory: &mut [u8], size: u32) {
        directory[self.at + 28..self.at + 32].copy_from_slice(&size.to_le_bytes());
        if size == 0 && !self.is_directory {
            set_first_cluster(directory, self.at, 0);
        }
    }
}

fn set_first_cluster(directory: &mut [u8], at: usize, cluster: u32) {
    let [b0, b1, b2, b3] = cluster.to_le_bytes();
    directory[at + 26..at + 28].copy_from_slice(&[b0, b1]);
    directory[at + 20..at + 22].copy_from_slice(&[b2, b3]);
}

/// The length of the entries `.` and `..`.
pub(super) const DOT_ENTRIES_LEN: usize = 2 * ENTRY_LEN;

/// Returns true if a subdirectory begins with `.` and `..`.
pub(super) fn has_dot_entries(directory: &[u8]) -> bool {
    [b".          ", b"..         "].into_iter().enumerate().all(|(n, name)| {
        let entry = &directory[n * ENTRY_LEN..(n + 1) * ENTRY_LEN];
        &entry[..11] == name && entry[11] & ATTRIBUTE_DIRECTORY != 0
    })
}

/// Makes `.` and `..` name the first clusters of the directory and its parent; 0 stands for the root directory.
pub(crate) fn set_dot_entries(directory: &mut [u8], own: u32, parent: u32) {
    for (at, cluster) in [(0, own), (ENTRY_LEN, parent)] {
        let mut entry = [0; ENTRY_LEN];
        entry.copy_from_slice(&directory[at..at + ENTRY_LEN]);
        if first_cluster(&entry) != cluster & CLUSTER_MASK {
            set_first_cluster(directory, at, cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fsck_rejects_are_bad() {
        for name in [b"A-VMLI~1   ", b"CONFIG  TXT", b"\x05       Z  ", b"FSCK00FFREN"] {
            assert!(!is_bad_name(name), "{name:?}");
        }
        for name in
            [b"           ", b" A         ", b"A B        ", b"A       B C", b"A?         ", b"..         "]
        {
            assert!(is_bad_name(name), "{name:?}");
        }
        for byte in [0, 1, 5, b'.', b'*', b'/', 0x7f] {
            assert!(
                is_bad_name(&[b'A', byte, b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ']),
                "{byte}"
            );
        }
    }

    #[test]
    fn new_names_are_good_and_end() {
        assert_eq!(new_name(0xfedc), Some(*b"FSCKFEDCREN"));
        assert!((0..=0xffff).all(|number| new_name(number).is_some_and(|name| !is_bad_name(&name))));
        assert_eq!(new_name(0x1_0000), None);
    }
}
