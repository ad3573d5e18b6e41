//! A bounded, read-only reader of FAT32 that returns the content of files and the location of their sectors, and a
//! check that returns the writes of a repair.
//!
//! Source: Microsoft "FAT: General Overview of On-Disk Format" 1.03. Long names are read. Not supported: FAT12 and FAT16,
//! sectors other than 512 bytes. For any image, at most `MAX_EXTENTS` extents and `MAX_ROOT_LEN` bytes of a directory are
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

use self::directory::Kind;
use self::record::Areas;

mod check;
mod claims;
mod directory;
mod entries;
mod record;
mod repair;

#[cfg(feature = "image")]
pub(crate) use directory::{
    ATTRIBUTE_DIRECTORY, ATTRIBUTE_LONG_NAME, ATTRIBUTE_VOLUME, ENTRY_LEN, first_cluster,
};
#[cfg(feature = "image")]
pub(crate) use entries::set_dot_entries;
pub use repair::{Findings, Repair};

/// Limit of a file's fragments. A load table holds far fewer.
const MAX_EXTENTS: usize = 4096;

/// Limit of a directory: FAT allows 65536 entries of 32 bytes.
const MAX_ROOT_LEN: usize = 65536 * 32;

const SECTOR: usize = SECTOR_SIZE as usize;

/// Cluster numbers from here on end a chain; one below marks a bad cluster. The upper four bits are reserved.
const BAD_CLUSTER: u32 = 0x0fff_fff7;
const CLUSTER_MASK: u32 = 0x0fff_ffff;

/// A FAT32 file system.
#[derive(Debug)]
pub struct BootFat<R> {
    reader: R,
    /// Start of the partition in `reader`.
    offset: Bytes,
    /// Location of the partition on the disk.
    partition: Extent,
    areas: Areas,
    /// The boot record, or its copy if that alone is valid.
    record: [u8; SECTOR],
    /// The FAT sector read last, by its number within the partition. Chains are mostly sequential, so one is enough.
    fat_sector: Option<(u32, [u8; SECTOR])>,
}

/// A file.
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
    /// Reads the boot record, or its copy where that cannot be read or is not valid. The file system begins `offset` bytes
    /// into `reader` and is at `partition` on the disk: for a whole disk, `offset` is the partition's start; for the
    /// partition's own device, 0.
    pub fn open(mut reader: R, offset: Bytes, partition: Extent) -> Result<Self, FatError> {
        if partition.start.0.checked_add(partition.len.0).is_none() {
            return Err(FatError::NotFat32("the partition leaves the disk"));
        }
        let mut record_at = |sector| {
            let mut record = [0; SECTOR];
            read_sectors(&mut reader, offset, sector, &mut record)?;
            Areas::of(&record, partition.len.0).map(|areas| (areas, record))
        };
        let (areas, record) =
            record_at(0).or_else(|error| record_at(record::COPY_AT).map_err(|_worse| error))?;
        Ok(BootFat { reader, offset, partition, areas, record, fat_sector: None })
    }

    /// Returns the files of the root directory, without subdirectories and the volume label.
    ///
    /// A chain that leads to no cluster ends the directory, as it does for Linux: a power cut while the directory grows leaves
    /// such a chain, and the files in front of it are whole.
    pub fn files(&mut self) -> Result<Vec<FatFile>, FatError> {
        self.entries("/", self.areas.root_cluster, Kind::File)
    }

    /// Returns the entries of `kind` in the directory `name` that begins at `cluster`.
    fn entries(&mut self, name: &str, mut cluster: u32, kind: Kind) -> Result<Vec<FatFile>, FatError> {
        let cluster_len = self.cluster_len();
        let mut root = Vec::new();
        let broken = || FatError::Chain(name.to_owned());
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
        Ok(directory::entries(&root, kind))
    }

    /// Finds the file with the long or short name `name` in the root directory; ASCII case is ignored.
    pub fn find(&mut self, name: &str) -> Result<FatFile, FatError> {
        let root = self.areas.root_cluster;
        self.find_entry("/", root, name, Kind::File)?.ok_or_else(|| FatError::NotFound(name.to_owned()))
    }

    /// Finds the file `path` in subdirectories: `EFI/BOOT/BOOTX64.EFI`.
    pub fn find_path(&mut self, path: &str) -> Result<FatFile, FatError> {
        let mut cluster = self.areas.root_cluster;
        let mut directory = "/";
        let mut parts = path.split('/').peekable();
        while let Some(name) = parts.next() {
            let kind = if parts.peek().is_some() { Kind::Directory } else { Kind::File };
            match (self.find_entry(directory, cluster, name, kind)?, kind) {
                (Some(file), Kind::File) => return Ok(file),
                (Some(found), Kind::Directory) => (cluster, directory) = (found.first_cluster, name),
                (None, _) => break,
            }
        }
        Err(FatError::NotFound(path.to_owned()))
    }

    fn find_entry(
        &mut self,
        directory: &str,
        cluster: u32,
        name: &str,
        kind: Kind,
    ) -> Result<Option<FatFile>, FatError> {
        let has_name = |entry: &FatFile| {
            entry.name.eq_ignore_ascii_case(name) || entry.short_name.eq_ignore_ascii_case(name)
        };
        Ok(self.entries(directory, cluster, kind)?.into_iter().find(has_name))
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
            let len = left.min(self.areas.sectors_per_cluster);
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

    /// Returns the text of the file `name`, of at most `limit` bytes, without surrounding white space.
    pub fn read_text(&mut self, name: &str, limit: Bytes) -> Result<String, FatError> {
        let file = self.find(name)?;
        let text = self.read(&file, limit)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
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
        Sectors(self.areas.data_start + (self.areas.root_cluster - 2) * self.areas.sectors_per_cluster)
            + self.partition.start
    }

    fn cluster_len(&self) -> usize {
        self.areas.sectors_per_cluster as usize * SECTOR
    }

    /// Returns the first sector of a cluster, counted from the partition's start; `None` outside of the data area.
    fn sector_of(&self, cluster: u32) -> Option<u32> {
        let index = cluster.checked_sub(2).filter(|index| *index < self.areas.clusters)?;
        Some(self.areas.data_start + index * self.areas.sectors_per_cluster)
    }

    /// Returns the successor of a cluster that [`Self::sector_of`] has accepted.
    fn next(&mut self, cluster: u32) -> Result<u32, FatError> {
        let sector = self.areas.fat_start + cluster / (SECTOR as u32 / 4);
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
        read_sectors(&mut self.reader, self.offset, sector, buffer)
    }
}

fn read_sectors<R: Read + Seek>(
    reader: &mut R,
    offset: Bytes,
    sector: u32,
    buffer: &mut [u8],
) -> Result<(), FatError> {
    let position = offset.0.saturating_add(Sectors(sector).bytes().0);
    reader
        .seek(SeekFrom::Start(position))
        .and_then(|_| reader.read_exact(buffer))
        .map_err(|source| FatError::Read { sector, source })
}

#[cfg(test)]
mod tests;
