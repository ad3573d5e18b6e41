//! A bounded, read-only reader of FAT32 that returns the content of files and the location of their sectors, and a
//! check that returns the writes of a repair.
//!
//! Source: Microsoft "FAT: General Overview of On-Disk Format" 1.03. Long names are read. Only
//! files in the root directory are found; the check follows subdirectories too. Not supported: FAT12 and FAT16, sectors
//! other than 512 bytes. For any image, at most `MAX_EXTENTS` extents and `MAX_ROOT_LEN` bytes of the root directory are
//! allocated; the check has its own limits.
//!
//! Load tables consist of the locations of sectors. The kernel's vfat driver does not report them by FIEMAP, and the host
//! writes images that it does not mount; so both sides use this reader.
//!
//! A running system that reads a mounted `/boot` through this must sync the file system first and open the partition's
//! own device, not the disk's: the file system keeps its tables in the page cache of the partition's device.

use std::io::{self, Read, Seek, SeekFrom};

use crate::disk::layout::Extent;
use crate::disk::size::{Bytes, SECTOR_SIZE, Sectors};

mod check;
mod claims;
mod directory;
mod entries;
mod repair;

pub use repair::{Findings, Repair};

/// Limit of a file's fragments. A load table holds far fewer.
const MAX_EXTENTS: usize = 4096;

/// Limit of the root directory: FAT allows 65536 entries of 32 bytes.
const MAX_ROOT_LEN: usize = 65536 * 32;

const SECTOR: usize = SECTOR_SIZE as usize;

// Offsets of the boot record's fields, by their names in the specification.
const BPB_BYTS_PER_SEC: usize = 11;
const BPB_SEC_PER_CLUS: usize = 13;
const BPB_RSVD_SEC_CNT: usize = 14;
const BPB_NUM_FATS: usize = 16;
const BPB_ROOT_ENT_CNT: usize = 17;
const BPB_TOT_SEC16: usize = 19;
const BPB_FAT_SZ16: usize = 22;
const BPB_TOT_SEC32: usize = 32;
const BPB_FAT_SZ32: usize = 36;
const BPB_ROOT_CLUS: usize = 44;
const SIGNATURE_OFFSET: usize = 510;

/// Cluster numbers from here on end a chain; one below marks a bad cluster. The upper four bits are reserved.
const BAD_CLUSTER: u32 = 0x0fff_fff7;
const CLUSTER_MASK: u32 = 0x0fff_ffff;

/// A FAT32 file system.
#[derive(Debug)]
pub struct BootFat<R> {
    reader: R,
    /// Start of the partition in `reader`, in bytes.
    offset: u64,
    /// Location of the partition on the disk.
    partition: Extent,
    sectors_per_cluster: u32,
    fat_start: u32,
    /// Length of one FAT, in sectors, and the number of its copies.
    fat_len: u32,
    fats: u32,
    data_start: u32,
    /// Cluster numbers are 2 … `clusters` + 1.
    clusters: u32,
    root_cluster: u32,
    /// The FAT sector read last, by its number within the partition. Chains are mostly sequential, so one is enough.
    fat_sector: Option<(u32, [u8; SECTOR])>,
}

/// A file in the root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatFile {
    /// Its long name, or the short one if it has no long one.
    pub name: String,
    /// Its 8.3 name, in upper case.
    short_name: String,
    /// Its length.
    pub size: Bytes,
    first_cluster: u32,
}

/// A failure to read a file of `/boot`.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The disk could not be read.
    #[error("failed to read sector {sector} of the boot partition")]
    Read {
        /// The sector, counted from the partition's start.
        sector: u32,
        /// The disk's error.
        source: io::Error,
    },
    /// The partition holds no FAT32.
    #[error("the boot partition is not a FAT32 file system: {0}")]
    NotFat32(&'static str),
    /// The cluster chain of a file leaves the file system or ends early.
    #[error("the file system of the boot partition is damaged: the chain of `{0}` is broken")]
    Chain(String),
    /// The check would take too long.
    #[error("the file system of the boot partition is damaged: its chains are too tangled to be repaired")]
    Tangled,
    /// The file system is sound, as far as is known, but beyond the limits of the check.
    #[error("the file system of the boot partition cannot be checked: {0}")]
    Unsupported(&'static str),
    /// A file has more than `MAX_EXTENTS` fragments.
    #[error("`{0}` on the boot partition is in more than {MAX_EXTENTS} pieces")]
    TooFragmented(String),
    /// The file does not exist.
    #[error("there is no `{0}` on the boot partition")]
    NotFound(String),
    /// The file is longer than the caller expected.
    #[error("`{name}` on the boot partition has {size}, at most {limit} are expected")]
    TooLong {
        /// The file.
        name: String,
        /// Its length.
        size: Bytes,
        /// The caller's limit.
        limit: Bytes,
    },
}

impl<R: Read + Seek> BootFat<R> {
    /// Reads the boot record. The file system begins `offset` bytes into `reader` and is at `partition` on the disk: for
    /// a whole disk, `offset` is the partition's start; for the partition's own device, 0.
    pub fn open(reader: R, offset: Bytes, partition: Extent) -> Result<Self, FatError> {
        if partition.start.0.checked_add(partition.len.0).is_none() {
            return Err(FatError::NotFat32("the partition leaves the disk"));
        }
        let mut fat = BootFat {
            reader,
            offset: offset.0,
            partition,
            sectors_per_cluster: 1,
            fat_start: 0,
            fat_len: 0,
            fats: 0,
            data_start: 0,
            clusters: 0,
            root_cluster: 0,
            fat_sector: None,
        };
        let mut record = [0; SECTOR];
        fat.read_sectors(0, &mut record)?;
        let short = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
        let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        if short(SIGNATURE_OFFSET) != 0xaa55 {
            return Err(FatError::NotFat32("no boot signature"));
        }
        if u64::from(short(BPB_BYTS_PER_SEC)) != SECTOR_SIZE {
            return Err(FatError::NotFat32("its sectors do not have 512 bytes"));
        }
        // FAT12 and FAT16 have a root directory of fixed size and a 16-bit FAT length.
        if short(BPB_ROOT_ENT_CNT) != 0 || short(BPB_FAT_SZ16) != 0 || long(BPB_FAT_SZ32) == 0 {
            return Err(FatError::NotFat32("it is FAT12, FAT16 or something else"));
        }
        let sectors_per_cluster = u32::from(record[BPB_SEC_PER_CLUS]);
        if !sectors_per_cluster.is_power_of_two() {
            return Err(FatError::NotFat32("impossible cluster size"));
        }
        let total = match short(BPB_TOT_SEC16) {
            0 => long(BPB_TOT_SEC32),
            total => u32::from(total),
        };
        let fat_start = u32::from(short(BPB_RSVD_SEC_CNT));
        let data_start = long(BPB_FAT_SZ32)
            .checked_mul(u32::from(record[BPB_NUM_FATS]))
            .and_then(|fats| fats.checked_add(fat_start))
            .filter(|start| {
                *start < total && total <= partition.len.0 && fat_start > 0 && record[BPB_NUM_FATS] > 0
            })
            .ok_or(FatError::NotFat32("its areas do not fit in the partition"))?;
        // The data area and the FAT (4 bytes a cluster) both limit the number of clusters.
        let entries = u64::from(long(BPB_FAT_SZ32)) * (SECTOR_SIZE / 4);
        let clusters = ((total - data_start) / sectors_per_cluster)
            .min(u32::try_from(entries.saturating_sub(2)).unwrap_or(u32::MAX))
            .min(BAD_CLUSTER - 2);
        Ok(BootFat {
            sectors_per_cluster,
            fat_start,
            fat_len: long(BPB_FAT_SZ32),
            fats: u32::from(record[BPB_NUM_FATS]),
            data_start,
            clusters,
            root_cluster: long(BPB_ROOT_CLUS) & CLUSTER_MASK,
            ..fat
        })
    }

    /// Returns the files of the root directory, without subdirectories and the volume label.
    ///
    /// A chain that leads to no cluster ends the directory, as it does for Linux: a power cut while the directory grows leaves
    /// such a chain, and the files in front of it are whole.
    pub fn files(&mut self) -> Result<Vec<FatFile>, FatError> {
        let cluster_len = self.cluster_len();
        let mut cluster = self.root_cluster;
        let mut root = Vec::new();
        let broken = || FatError::Chain("/".to_owned());
        loop {
            let start = match self.sector_of(cluster) {
                Some(start) => start,
                None if root.is_empty() => return Err(broken()),
                None => break,
            };
            if root.len() + cluster_len > MAX_ROOT_LEN {
                return Err(broken());
            }
            let at = root.len();
            root.resize(at + cluster_len, 0);
            self.read_sectors(start, &mut root[at..])?;
            cluster = self.next(cluster)?;
            if cluster > BAD_CLUSTER {
                break;
            }
        }
        Ok(directory::files(&root))
    }

    /// Finds the file with the long or short name `name`; ASCII case is ignored.
    pub fn find(&mut self, name: &str) -> Result<FatFile, FatError> {
        self.files()?
            .into_iter()
            .find(|file| file.name.eq_ignore_ascii_case(name) || file.short_name.eq_ignore_ascii_case(name))
            .ok_or_else(|| FatError::NotFound(name.to_owned()))
    }

    /// Returns the sectors of a file on the disk, in file order, with adjacent ones joined, and only as many as the
    /// file's length needs.
    pub(crate) fn extents(&mut self, file: &FatFile) -> Result<Vec<Extent>, FatError> {
        let broken = || FatError::Chain(file.name.clone());
        let mut left = file.size.sectors_ceil().ok_or_else(broken)?.0;
        let mut cluster = file.first_cluster;
        let mut extents: Vec<Extent> = Vec::new();
        while left > 0 {
            let start = Sectors(self.sector_of(cluster).ok_or_else(broken)?) + self.partition.start;
            let len = left.min(self.sectors_per_cluster);
            match extents.last_mut() {
                Some(last) if last.end() == start => last.len = last.len + Sectors(len),
                _ => extents.push(Extent { start, len: Sectors(len) }),
            }
            if extents.len() > MAX_EXTENTS {
                return Err(FatError::TooFragmented(file.name.clone()));
            }
            left -= len;
            if left > 0 {
                cluster = self.next(cluster)?;
            }
        }
        Ok(extents)
    }

    /// Reads the whole content of a file of at most `limit`.
    pub fn read(&mut self, file: &FatFile, limit: Bytes) -> Result<Vec<u8>, FatError> {
        if file.size > limit {
            return Err(FatError::TooLong { name: file.name.clone(), size: file.size, limit });
        }
        self.read_start(file, file.size)
    }

    /// Reads the first `len` of a file, or all of a shorter one.
    pub fn read_start(&mut self, file: &FatFile, len: Bytes) -> Result<Vec<u8>, FatError> {
        let part = FatFile { size: len.min(file.size), ..file.clone() };
        let mut content = Vec::new();
        // The extents are inside the partition, which bounds the content.
        for extent in self.extents(&part)? {
            let at = content.len();
            content.resize(at + extent.len.bytes().0 as usize, 0);
            self.read_sectors((extent.start - self.partition.start).0, &mut content[at..])?;
        }
        content.truncate(part.size.0 as usize);
        Ok(content)
    }

    /// Returns the first sector of the root directory on the disk.
    #[cfg(all(test, feature = "image"))]
    pub(crate) fn root_start(&self) -> Sectors {
        Sectors(self.data_start + (self.root_cluster - 2) * self.sectors_per_cluster) + self.partition.start
    }

    fn cluster_len(&self) -> usize {
        self.sectors_per_cluster as usize * SECTOR
    }

    /// Returns the first sector of a cluster, counted from the partition's start; `None` outside of the data area.
    fn sector_of(&self, cluster: u32) -> Option<u32> {
        let index = cluster.checked_sub(2).filter(|index| *index < self.clusters)?;
        Some(self.data_start + index * self.sectors_per_cluster)
    }

    /// Returns the successor of a cluster that [`Self::sector_of`] has accepted.
    fn next(&mut self, cluster: u32) -> Result<u32, FatError> {
        let sector = self.fat_start + cluster / (SECTOR as u32 / 4);
        let content = match self.fat_sector {
            Some((number, content)) if number == sector => content,
            _ => {
                let mut content = [0; SECTOR];
                self.read_sectors(sector, &mut content)?;
                self.fat_sector = Some((sector, content));
                content
            }
        };
        let at = cluster as usize % (SECTOR / 4) * 4;
        Ok(u32::from_le_bytes([content[at], content[at + 1], content[at + 2], content[at + 3]])
            & CLUSTER_MASK)
    }

    fn read_sectors(&mut self, sector: u32, buffer: &mut [u8]) -> Result<(), FatError> {
        let position = self.offset.saturating_add(Sectors(sector).bytes().0);
        self.reader
            .seek(SeekFrom::Start(position))
            .and_then(|_| self.reader.read_exact(buffer))
            .map_err(|source| FatError::Read { sector, source })
    }
}

#[cfg(test)]
mod tests;
