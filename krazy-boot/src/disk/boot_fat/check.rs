//! The check of a FAT32 file system: finds what power cuts and faulty writers leave behind, and decides about every file.
//!
//! A file with an intact chain is never changed. Where two files claim a cluster, the one that comes first keeps it: the
//! root directory, the files of the slots that may have to boot, then files of no slot, then those of the slot that the
//! caller is about to rewrite. Among equals, files that are otherwise intact come first.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use super::claims::{Chain, ChainEnd, Claims};
use super::entries::{
    DOT_ENTRIES_LEN, Entry, ShortName, entries, has_dot_entries, new_name, set_dot_entries,
};
use super::repair::{Findings, Repair};
use super::{BootFat, FatError, MAX_ROOT_LEN, SECTOR};
use crate::disk::ordered_write::SectorWrite;
use crate::disk::size::Sectors;
use crate::disk::slot::Slot;

/// Limits of memory and time: the length of all FATs, which is that of two for a million clusters, and the number of
/// directories.
const MAX_FATS_LEN: Sectors = Sectors(16 << 10);
const MAX_DIRECTORIES: usize = 1024;

/// The rank of a file: in this order they claim clusters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// A slot that may have to boot. A damaged file is restored from another copy of the FAT, or stays as it is.
    Kept,
    /// No slot. A damaged file is restored likewise, or cut where its chain ends.
    Shared,
    /// The slot that is about to be rewritten. A damaged file is removed.
    Expendable,
}

/// A directory with its changes.
struct Directory {
    clusters: Vec<u32>,
    original: Vec<u8>,
    content: Vec<u8>,
    names: BTreeSet<ShortName>,
    /// The number of the next [`new_name`].
    next_name: u32,
}

impl Directory {
    /// Returns true if no file can be found by the name of `entry`, or another one is.
    fn is_nameless(&self, entry: &Entry) -> bool {
        entry.has_bad_name || self.names.contains(&entry.short_name)
    }
}

/// A subdirectory that is still to be checked.
struct Subdirectory {
    clusters: Vec<u32>,
    parent: u32,
}

struct Check<'a, R> {
    fat: &'a mut BootFat<R>,
    claims: Claims,
    findings: Findings,
    writes: Vec<SectorWrite>,
    pending: Vec<Subdirectory>,
    directories: usize,
}

impl<R: Read + Seek> BootFat<R> {
    /// Checks the file system, without writing. Damaged files of `expendable` are removed, those of another slot stay as
    /// they are and are reported, others are cut where their chain ends.
    pub fn check(&mut self, expendable: Option<Slot>) -> Result<Repair, FatError> {
        if Sectors(self.areas.fat_len.saturating_mul(self.areas.fats)) > MAX_FATS_LEN {
            return Err(FatError::Unsupported("it is too large"));
        }
        let claims = Claims::new(self)?;
        let mut check = Check {
            fat: self,
            claims,
            findings: Findings::default(),
            writes: Vec::new(),
            pending: Vec::new(),
            directories: 0,
        };
        check.root(expendable)?;
        let Check { claims, findings, writes, .. } = check;
        Repair::complete(self, &claims, findings, writes)
    }
}

impl<R: Read + Seek> Check<'_, R> {
    fn root(&mut self, expendable: Option<Slot>) -> Result<(), FatError> {
        let first = self.fat.areas.root_cluster;
        let clusters = self.directory_chain(first)?;
        if clusters.is_empty() {
            return Err(FatError::Chain("/".to_owned()));
        }
        let mut root = self.read(clusters)?;
        let found = entries(&mut root.content, 0);
        for owner in [Owner::Kept, Owner::Shared, Owner::Expendable] {
            let own: Vec<_> =
                found.iter().filter(|entry| self.owner(entry, expendable) == owner).cloned().collect();
            self.files(&mut root, &own, owner, 0)?;
            // Before the expendable files, because files of subdirectories belong to no slot.
            while owner == Owner::Shared
                && let Some(next) = self.pending.pop()
            {
                self.subdirectory(next)?;
            }
        }
        self.write_changes(&root);
        Ok(())
    }

    fn owner(&self, entry: &Entry, expendable: Option<Slot>) -> Owner {
        let belongs = |slot: &Slot| {
            let prefix = slot.boot_prefix();
            [&entry.file.name, &entry.file.short_name]
                .into_iter()
                .any(|name| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
        };
        match Slot::ALL.into_iter().find(belongs) {
            Some(_) if entry.is_directory => Owner::Shared,
            Some(slot) if expendable == Some(slot) => Owner::Expendable,
            Some(_) => Owner::Kept,
            None => Owner::Shared,
        }
    }

    /// Claims the chain of a directory and returns its clusters.
    fn directory_chain(&mut self, first: u32) -> Result<Vec<u32>, FatError> {
        self.directories += 1;
        let chain = self.claims.walk(0, first, u32::MAX)?;
        let too_long = chain.len as usize > MAX_ROOT_LEN / self.fat.cluster_len();
        if too_long || self.directories > MAX_DIRECTORIES {
            return Err(FatError::Unsupported("its directories are too large"));
        }
        if chain.end != ChainEnd::Short {
            self.findings.entries += 1;
        }
        self.claims.terminate(&chain);
        Ok(self.claims.clusters(0, first, chain.len))
    }

    fn read(&mut self, clusters: Vec<u32>) -> Result<Directory, FatError> {
        let len = self.fat.cluster_len();
        let mut content = vec![0; clusters.len() * len];
        for (part, cluster) in content.chunks_mut(len).zip(&clusters) {
            let start = self.fat.sector_of(*cluster).ok_or_else(|| FatError::Chain("/".to_owned()))?;
            self.fat.read_sectors(start, part)?;
        }
        let original = content.clone();
        Ok(Directory { clusters, original, content, names: BTreeSet::new(), next_name: 0 })
    }

    fn subdirectory(&mut self, Subdirectory { clusters, parent }: Subdirectory) -> Result<(), FatError> {
        let own = clusters[0];
        let mut directory = self.read(clusters)?;
        set_dot_entries(&mut directory.content, own, parent);
        let found = entries(&mut directory.content, DOT_ENTRIES_LEN);
        self.files(&mut directory, &found, Owner::Shared, own)?;
        self.write_changes(&directory);
        Ok(())
    }

    /// Checks files of one owner: the complete ones first, so that no damaged one takes their clusters.
    fn files(
        &mut self,
        directory: &mut Directory,
        entries: &[Entry],
        owner: Owner,
        parent: u32,
    ) -> Result<(), FatError> {
        let mut damaged = Vec::new();
        for entry in entries {
            let is_nameless = owner != Owner::Kept && directory.is_nameless(entry);
            let is_intact = match entry.is_directory {
                // It is replaced anyway, and under another name its clusters would stay in use.
                _ if is_nameless && owner == Owner::Expendable => false,
                true => self.enter(directory, entry, parent)?,
                // Its size is lost, but the boot loader's table may still name its sectors.
                false if owner == Owner::Kept && entry.has_chain_without_size() => false,
                false => self.intact(directory, entry)?,
            };
            match is_intact {
                true if is_nameless => self.rename(directory, entry),
                true => drop(directory.names.insert(entry.short_name)),
                false => damaged.push(entry),
            }
        }
        for entry in damaged {
            let is_removed = match owner {
                Owner::Kept => false,
                Owner::Shared => entry.is_directory || directory.is_nameless(entry),
                Owner::Expendable => true,
            };
            if is_removed {
                self.remove(directory, entry);
                continue;
            }
            directory.names.insert(entry.short_name);
            if !self.restore(entry)? {
                match owner {
                    Owner::Kept => self.keep(entry)?,
                    _ => self.cut(directory, entry)?,
                }
            }
        }
        Ok(())
    }

    /// Enters a subdirectory. Returns false if it is none.
    fn enter(&mut self, directory: &mut Directory, entry: &Entry, parent: u32) -> Result<bool, FatError> {
        let first = entry.file.first_cluster;
        let Some(start) = self.fat.sector_of(first).filter(|_| !self.claims.contains(first)) else {
            return Ok(false);
        };
        let mut sector = [0; SECTOR];
        self.fat.read_sectors(start, &mut sector)?;
        if !has_dot_entries(&sector) {
            return Ok(false);
        }
        let clusters = self.directory_chain(first)?;
        if clusters.is_empty() {
            return Ok(false);
        }
        if entry.file.size.0 != 0 {
            entry.set_size(&mut directory.content, 0);
        }
        self.pending.push(Subdirectory { clusters, parent });
        Ok(true)
    }

    fn expected_clusters(&self, entry: &Entry) -> u32 {
        entry.file.size.0.div_ceil(self.fat.cluster_len() as u64) as u32
    }

    /// Claims the chain of a file that has all its clusters; otherwise returns false.
    fn intact(&mut self, directory: &mut Directory, entry: &Entry) -> Result<bool, FatError> {
        let first = entry.file.first_cluster;
        let expected = self.expected_clusters(entry);
        if expected == 0 {
            if first != 0 {
                self.findings.lengths += 1;
                entry.set_size(&mut directory.content, 0);
            }
            return Ok(true);
        }
        let chain = self.claims.walk(0, first, expected)?;
        if !chain.end.is_complete() {
            self.claims.release(0, first, chain.len);
            return Ok(false);
        }
        if chain.end == ChainEnd::Surplus {
            self.findings.lengths += 1;
        }
        self.claims.terminate(&chain);
        Ok(true)
    }

    /// Restores a file from another copy of the FAT. Returns false if there is none with its chain.
    fn restore(&mut self, entry: &Entry) -> Result<bool, FatError> {
        let (first, expected) = (entry.file.first_cluster, self.expected_clusters(entry));
        for copy in 1..self.claims.copies.len() {
            let chain = self.claims.walk(copy, first, expected)?;
            if chain.end.is_complete() {
                self.claims.restore(copy, first, chain.len);
                self.claims.terminate(&chain);
                self.findings.restored.push(entry.file.name.clone());
                return Ok(true);
            }
            self.claims.release(copy, first, chain.len);
        }
        Ok(false)
    }

    /// Leaves a file as it is.
    fn keep(&mut self, entry: &Entry) -> Result<(), FatError> {
        let (first, expected) = (entry.file.first_cluster, self.expected_clusters(entry));
        // The end mark keeps the file out of clusters that other files get later. All of its own stay in use, because the
        // boot loader's table may still name their sectors.
        let chain = self.claims.walk(0, first, expected)?;
        self.claims.terminate_behind(&chain);
        self.findings.damaged.push(entry.file.name.clone());
        Ok(())
    }

    /// Cuts a file where its chain ends.
    fn cut(&mut self, directory: &mut Directory, entry: &Entry) -> Result<(), FatError> {
        let (first, expected) = (entry.file.first_cluster, self.expected_clusters(entry));
        let chain: Chain = self.claims.walk(0, first, expected)?;
        self.claims.terminate(&chain);
        let len = u64::from(chain.len) * self.fat.cluster_len() as u64;
        entry.set_size(&mut directory.content, len as u32);
        self.findings.cut.push(entry.file.name.clone());
        Ok(())
    }

    fn remove(&mut self, directory: &mut Directory, entry: &Entry) {
        entry.remove(&mut directory.content);
        self.findings.removed.push(entry.file.name.clone());
    }

    /// Gives a file a name that no other has, or removes it if it is empty.
    fn rename(&mut self, directory: &mut Directory, entry: &Entry) {
        let is_empty = entry.file.size.0 == 0 && !entry.is_directory;
        let free = (directory.next_name..)
            .map_while(|number| Some((number, new_name(number)?)))
            .find(|(_, name)| !directory.names.contains(name));
        match free {
            Some((number, name)) if !is_empty => {
                entry.rename(&mut directory.content, &name);
                directory.names.insert(name);
                directory.next_name = number + 1;
            }
            _ => self.remove(directory, entry),
        }
    }

    /// Writes the changed sectors of a directory.
    fn write_changes(&mut self, directory: &Directory) {
        let len = self.fat.cluster_len();
        let parts = directory.content.chunks(len).zip(directory.original.chunks(len));
        for ((new, old), cluster) in parts.zip(&directory.clusters) {
            let Some(start) = self.fat.sector_of(*cluster) else { continue };
            for (n, (new, old)) in new.chunks(SECTOR).zip(old.chunks(SECTOR)).enumerate() {
                if new != old {
                    self.findings.entries += 1;
                    self.writes.push(SectorWrite { at: Sectors(start + n as u32), bytes: new.to_vec() });
                }
            }
        }
    }
}
