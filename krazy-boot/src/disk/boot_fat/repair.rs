//! The result of a check: what was found, and the writes that repair it, in an order in which a power cut leaves a file
//! system that the next check repairs.
//!
//! 1. Directories: from then on no entry names a cluster that is about to become free.
//! 2. The first copy of the FAT: chains get their end, and clusters of no file become free.
//! 3. Its other copies, from which files may have been restored.
//! 4. The number of free clusters.
//! 5. The boot record, with the mark of a file system that was not unmounted, and then its copy: one of them is always
//!    valid.
//!
//! Each is durable before the next begins; within each, any sectors may reach the disk first. So a repair takes a few
//! flushes, however much is damaged.

use std::fmt;
use std::io::{self, Read, Seek, Write};

use super::claims::{Claims, END_OF_CHAIN};
use super::{BAD_CLUSTER, BootFat, CLUSTER_MASK, FatError, SECTOR, record};
use crate::disk::ordered_write::{SectorWrite, write_in_order};
use crate::disk::size::Sectors;

// Offsets in the boot record and in FSInfo, by their names in the specification.
const BPB_MEDIA: usize = 21;
const BPB_EXT_FLAGS: usize = 40;
const NOT_MIRRORED: u8 = 0x80;
const BPB_FS_INFO: usize = 48;
/// Set while Linux or Windows has the file system mounted writable.
const BS_RESERVED1: usize = 65;
const STATE_DIRTY: u8 = 1;
const FSI_FREE_COUNT: usize = 488;
const FSI_NEXT_FREE: usize = 492;
const FSI_SIGNATURES: [(usize, u32); 3] = [(0, 0x4161_5252), (484, 0x6141_7272), (508, 0xaa55_0000)];
const UNKNOWN: u32 = 0xffff_ffff;

/// Names shown per kind of finding.
const SHOWN_NAMES: usize = 5;

/// The defects of a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Files of a slot that may have to boot, which are damaged and stay as they are.
    pub damaged: Vec<String>,
    /// The same, with an intact chain in another copy of the FAT.
    pub restored: Vec<String>,
    /// Removed files and directories.
    pub removed: Vec<String>,
    /// Files that end where their chain does.
    pub cut: Vec<String>,
    /// Files with more clusters than their length needs.
    pub lengths: u32,
    /// Clusters that are in use and belong to no file.
    pub lost_clusters: u32,
    /// Defects of directories: names, parts of names, chains.
    pub entries: u32,
    /// Set when the copies of the FAT differ, or its first entries are wrong.
    pub fats_differ: bool,
    /// Set when the boot record or its copy is damaged.
    pub boot_record: bool,
    /// Set when the number of free clusters is wrong.
    pub free_count: bool,
    /// Set when the file system was not unmounted.
    pub dirty: bool,
}

/// The repair of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Its defects.
    pub findings: Findings,
    stages: Vec<Vec<SectorWrite>>,
}

impl Repair {
    /// Returns true if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Returns the writes, counted from the partition's start. Those of a stage must be durable before the next begins.
    pub fn stages(&self) -> &[Vec<SectorWrite>] {
        &self.stages
    }

    /// Writes the repair to the partition, and calls `sync` (`File::sync_all`) after each stage.
    pub fn write<D: Write + Seek>(
        &self,
        partition: &mut D,
        mut sync: impl FnMut(&mut D) -> io::Result<()>,
    ) -> io::Result<()> {
        self.stages.iter().try_for_each(|stage| {
            write_in_order(partition, stage, |_| Ok(()))?;
            sync(partition)
        })
    }

    /// Adds the writes of the FAT and of the marks to those of the directories.
    pub(super) fn complete<R: Read + Seek>(
        fat: &mut BootFat<R>,
        claims: &Claims,
        mut findings: Findings,
        directories: Vec<SectorWrite>,
    ) -> Result<Self, FatError> {
        let record = fat.record;
        if record[BPB_EXT_FLAGS] & NOT_MIRRORED != 0 {
            return Err(FatError::Unsupported("the copies of its FAT are not mirrored"));
        }
        // They may belong to a file that is damaged, and still be what its slot boots from.
        let frees_lost = findings.damaged.is_empty();
        let old = claims.copies[0].as_deref().unwrap_or_default();
        let mut new = old.to_vec();
        let mut free = 0;
        for (number, entry) in (0..).zip(new.as_chunks_mut::<4>().0) {
            let before = u32::from_le_bytes(*entry);
            let is_cluster = number >= 2 && number - 2 < fat.areas.clusters;
            let after = match is_cluster {
                true => cluster_after(number, before, claims, frees_lost),
                false => reserved_after(number, before, record[BPB_MEDIA]),
            };
            if is_cluster {
                free += u32::from(after & CLUSTER_MASK == 0);
                findings.lost_clusters += u32::from(after != before && after & CLUSTER_MASK == 0);
            } else {
                findings.fats_differ |= after != before;
            }
            *entry = after.to_le_bytes();
        }
        let [mut first, mut others, mut count, mut mark, mut copy] = [const { Vec::new() }; 5];
        changes(fat.areas.fat_start, old, &new, &mut first);
        for (copy, present) in (0..).zip(&claims.copies).skip(1) {
            let at = fat.areas.fat_start + copy * fat.areas.fat_len;
            findings.fats_differ |= present.as_deref() != Some(old);
            match present {
                Some(present) => changes(at, present, &new, &mut others),
                None => others.push(SectorWrite { at: Sectors(at), bytes: new.clone() }),
            }
        }
        let info = u32::from(u16::from_le_bytes([record[BPB_FS_INFO], record[BPB_FS_INFO + 1]]));
        if info > 0 && info < fat.areas.fat_start {
            let mut sector = [0; SECTOR];
            fat.read_sectors(info, &mut sector)?;
            let new = info_sector(&sector, free, fat.areas.clusters);
            findings.free_count = new != sector;
            changes(info, &sector, &new, &mut count);
        }
        let clean = without_mark(record);
        findings.dirty = clean != record;
        let present = fat.read_record(0);
        findings.boot_record = present != Some(record);
        replace(0, present, &clean, &mut mark);
        if record::has_copy(&record) {
            let present = fat.read_record(record::COPY_AT);
            // The kernel marks only the first.
            findings.boot_record |= present.is_none_or(|present| without_mark(present) != clean);
            if findings.boot_record || findings.dirty {
                replace(record::COPY_AT, present, &clean, &mut copy);
            }
        }
        let mut stages = vec![directories, first, others, count, mark, copy];
        stages.retain(|stage| !stage.is_empty());
        Ok(Repair { findings, stages })
    }
}

impl<R: Read + Seek> BootFat<R> {
    /// Returns a boot record as it is on the disk, or `None` if it cannot be read.
    fn read_record(&mut self, at: u32) -> Option<[u8; SECTOR]> {
        let mut record = [0; SECTOR];
        self.read_sectors(at, &mut record).ok().map(|()| record)
    }
}

/// Returns a boot record without the mark of a file system that is mounted writable.
fn without_mark(mut record: [u8; SECTOR]) -> [u8; SECTOR] {
    record[BS_RESERVED1] &= !STATE_DIRTY;
    record
}

/// Adds the write of a boot record over what is `present`, if that could be read.
fn replace(at: u32, present: Option<[u8; SECTOR]>, new: &[u8; SECTOR], writes: &mut Vec<SectorWrite>) {
    if present.as_ref() != Some(new) {
        writes.push(SectorWrite { at: Sectors(at), bytes: new.to_vec() });
    }
}

/// Returns the new entry of a cluster. Its upper four bits are reserved and stay.
fn cluster_after(number: u32, before: u32, claims: &Claims, frees_lost: bool) -> u32 {
    let value = before & CLUSTER_MASK;
    let after = match claims.contains(number) {
        true => claims.changed.get(&number).copied().unwrap_or(value),
        false if value == BAD_CLUSTER || !frees_lost => value,
        false => 0,
    };
    before & !CLUSTER_MASK | after
}

/// Returns the new value of an entry that belongs to no cluster.
fn reserved_after(number: u32, before: u32, media: u8) -> u32 {
    let value = before & CLUSTER_MASK;
    let after = match number {
        0 => 0x0fff_ff00 | u32::from(media),
        // Any end mark will do. Its upper bits say that the volume was unmounted and had no errors.
        1 if value <= BAD_CLUSTER => END_OF_CHAIN,
        _ => value,
    };
    before & !CLUSTER_MASK | after
}

/// Returns the sector FSInfo with the number of free clusters.
fn info_sector(sector: &[u8; SECTOR], free: u32, clusters: u32) -> [u8; SECTOR] {
    let mut new = *sector;
    let read = |at: usize| u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]);
    let mut set = |at: usize, value: u32| new[at..at + 4].copy_from_slice(&value.to_le_bytes());
    for (at, signature) in FSI_SIGNATURES {
        set(at, signature);
    }
    // Unknown is no error: Linux counts then.
    if read(FSI_FREE_COUNT) != UNKNOWN {
        set(FSI_FREE_COUNT, free);
    }
    if !(2..clusters + 2).contains(&read(FSI_NEXT_FREE)) {
        set(FSI_NEXT_FREE, UNKNOWN);
    }
    new
}

/// Adds the sectors that differ, adjacent ones as one write.
fn changes(start: u32, old: &[u8], new: &[u8], writes: &mut Vec<SectorWrite>) {
    for (n, (old, new)) in old.chunks(SECTOR).zip(new.chunks(SECTOR)).enumerate() {
        let at = Sectors(start + n as u32);
        if old == new {
            continue;
        }
        match writes.last_mut() {
            Some(last) if last.at + Sectors((last.bytes.len() / SECTOR) as u32) == at => {
                last.bytes.extend(new)
            }
            _ => writes.push(SectorWrite { at, bytes: new.to_vec() }),
        }
    }
}

impl Findings {
    /// Returns true if files or directories are affected, so that a driver may fail or spread the damage when it writes.
    pub fn affects_files(&self) -> bool {
        let names = [&self.damaged, &self.restored, &self.removed, &self.cut];
        self.entries > 0 || names.into_iter().any(|names| !names.is_empty())
    }

    /// Returns true if there is more than the traces of a file system that is mounted writable.
    pub fn has_damage(&self) -> bool {
        let marks = Findings { dirty: self.dirty, free_count: self.free_count, ..Findings::default() };
        *self != marks
    }
}

/// Prints the defects and what becomes of them, such as `3 lost clusters freed, b-vmlinuz removed`; nothing if there are
/// none.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let named = [
            (&self.removed, "removed"),
            (&self.cut, "cut where the chain of clusters ends"),
            (&self.restored, "restored from the other copy of the FAT"),
            (&self.damaged, "damaged and left as found"),
        ];
        for (names, outcome) in named {
            if !names.is_empty() {
                let shown: Vec<_> =
                    names.iter().take(SHOWN_NAMES).map(|name| name.escape_debug().to_string()).collect();
                let more = names.len() - shown.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                parts.push(format!("{}{more} {outcome}", shown.join(", ")));
            }
        }
        let counted = [(self.lost_clusters, "lost clusters freed"), (self.lengths, "chains shortened")];
        for (count, outcome) in counted {
            if count > 0 {
                parts.push(format!("{count} {outcome}"));
            }
        }
        let flags = [
            (self.entries > 0, "directory entries corrected"),
            (self.fats_differ, "the copies of the FAT made equal"),
            (self.boot_record, "the boot record and its copy made equal"),
            (self.free_count, "the number of free clusters corrected"),
            (self.dirty, "the mark of a missing unmount cleared"),
        ];
        parts.extend(flags.into_iter().filter(|(found, _)| *found).map(|(_, text)| text.to_owned()));
        f.write_str(&parts.join(", "))
    }
}
