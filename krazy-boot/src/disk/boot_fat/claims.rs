//! The clusters that files and directories have been found to use, and the changes to the FAT that follow.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::{BAD_CLUSTER, BootFat, CLUSTER_MASK, FatError, SECTOR};

/// The entry that ends a chain.
pub(super) const END_OF_CHAIN: u32 = 0x0fff_ffff;

/// Limit of the steps along chains per cluster of the file system: an intact one takes one, and garbage in a directory
/// must not make the check endless.
const STEPS_PER_CLUSTER: u64 = 32;
const MIN_STEPS: u64 = 1 << 20;

/// The copies of the FAT, which are read once and in one piece, with a bit per cluster: memory in proportion to the file
/// system, and not to its files.
pub(super) struct Claims {
    /// The number of clusters. Their numbers begin with 2.
    clusters: u32,
    /// `None` for a copy that cannot be read, which is never the first.
    pub(super) copies: Vec<Option<Vec<u8>>>,
    bits: Vec<u64>,
    /// New values of FAT entries, by cluster.
    pub(super) changed: BTreeMap<u32, u32>,
    steps: u64,
}

/// The part of a chain that exists and belongs to nobody else.
pub(super) struct Chain {
    /// The number of its clusters, which are claimed.
    pub(super) len: u32,
    /// The last of them.
    pub(super) last: Option<u32>,
    /// The cluster at which it ends without an end mark.
    behind: u32,
    pub(super) end: ChainEnd,
}

/// The end of a [`Chain`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChainEnd {
    /// The end mark, after as many clusters as expected.
    Proper,
    /// The expected length, behind which the chain goes on.
    Surplus,
    /// The end mark, after fewer clusters than expected.
    Short,
    /// A free or bad cluster, or a number that is none.
    Dangling,
    /// A cluster of another file, or an earlier one of the same.
    CrossLinked,
}

impl ChainEnd {
    /// Returns true if all expected clusters are there.
    pub(super) fn is_complete(self) -> bool {
        matches!(self, ChainEnd::Proper | ChainEnd::Surplus)
    }
}

impl Claims {
    pub(super) fn new<R: Read + Seek>(fat: &mut BootFat<R>) -> Result<Self, FatError> {
        let mut copies = Vec::new();
        for copy in 0..fat.areas.fats {
            let mut content = vec![0; fat.areas.fat_len as usize * SECTOR];
            match fat.read_sectors(fat.areas.fat_start + copy * fat.areas.fat_len, &mut content) {
                // A write may bring the sector back, and only the first copy is used.
                Err(_) if copy > 0 => copies.push(None),
                read => read.map(|()| copies.push(Some(content)))?,
            }
        }
        Ok(Claims {
            clusters: fat.areas.clusters,
            copies,
            bits: vec![0; (fat.areas.clusters as usize + 2).div_ceil(64)],
            changed: BTreeMap::new(),
            steps: u64::from(fat.areas.clusters) * STEPS_PER_CLUSTER + MIN_STEPS,
        })
    }

    fn exists(&self, cluster: u32) -> bool {
        cluster >= 2 && cluster - 2 < self.clusters
    }

    /// Returns the entry of a cluster that exists; a copy that cannot be read has free ones.
    fn entry(&self, copy: usize, cluster: u32) -> u32 {
        let entries = self.copies[copy].as_ref().map(|content| content.as_chunks::<4>().0);
        entries.map_or(0, |entries| u32::from_le_bytes(entries[cluster as usize])) & CLUSTER_MASK
    }

    pub(super) fn contains(&self, cluster: u32) -> bool {
        self.bits[cluster as usize / 64] >> (cluster % 64) & 1 == 1
    }

    /// Returns false if the cluster was claimed before.
    fn claim(&mut self, cluster: u32) -> bool {
        let is_new = !self.contains(cluster);
        self.bits[cluster as usize / 64] |= 1 << (cluster % 64);
        is_new
    }

    /// Claims the chain that begins with `first`, by the entries of FAT `copy`, up to `limit` clusters.
    pub(super) fn walk(&mut self, copy: usize, first: u32, limit: u32) -> Result<Chain, FatError> {
        let (mut cluster, mut len, mut last) = (first, 0, None);
        let end = loop {
            if !self.exists(cluster) {
                break ChainEnd::Dangling;
            }
            let next = self.entry(copy, cluster);
            if next == 0 || next == BAD_CLUSTER {
                break ChainEnd::Dangling;
            }
            if !self.claim(cluster) {
                break ChainEnd::CrossLinked;
            }
            len += 1;
            last = Some(cluster);
            self.steps = self.steps.checked_sub(1).ok_or(FatError::Tangled)?;
            match (next > BAD_CLUSTER, len == limit) {
                (true, true) => break ChainEnd::Proper,
                (true, false) => break ChainEnd::Short,
                (false, true) => break ChainEnd::Surplus,
                (false, false) => cluster = next,
            }
        };
        Ok(Chain { len, last, behind: cluster, end })
    }

    /// Returns the first `len` clusters of a chain that was walked.
    pub(super) fn clusters(&self, copy: usize, first: u32, len: u32) -> Vec<u32> {
        let chain = std::iter::successors(Some(first), |cluster| Some(self.entry(copy, *cluster)));
        chain.take(len as usize).collect()
    }

    /// Takes back the claim of the first `len` clusters of a chain.
    pub(super) fn release(&mut self, copy: usize, first: u32, len: u32) {
        let mut cluster = first;
        for _ in 0..len {
            self.bits[cluster as usize / 64] &= !(1 << (cluster % 64));
            cluster = self.entry(copy, cluster);
        }
    }

    /// Ends a chain at its last cluster, unless it has its end mark there.
    pub(super) fn terminate(&mut self, chain: &Chain) {
        if let (Some(last), ChainEnd::Surplus | ChainEnd::Dangling | ChainEnd::CrossLinked) =
            (chain.last, chain.end)
        {
            self.changed.insert(last, END_OF_CHAIN);
        }
    }

    /// Ends a chain behind the free cluster that it leads to, which nobody else gets then.
    pub(super) fn terminate_behind(&mut self, chain: &Chain) {
        let leads_to_free = chain.end == ChainEnd::Dangling
            && self.exists(chain.behind)
            && self.entry(0, chain.behind) == 0
            && self.claim(chain.behind);
        match leads_to_free {
            true => drop(self.changed.insert(chain.behind, END_OF_CHAIN)),
            false => self.terminate(chain),
        }
    }

    /// Takes the entries of a chain from FAT `copy` into the first one.
    pub(super) fn restore(&mut self, copy: usize, first: u32, len: u32) {
        let mut cluster = first;
        for _ in 0..len {
            let next = self.entry(copy, cluster);
            self.changed.insert(cluster, next);
            cluster = next;
        }
    }
}
