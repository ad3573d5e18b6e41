//! FAT32 with long names, for `/boot`.
//!
//! Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification 1.03. `fsck.fat` rejects the
//! subdirectories that fatfs 0.3.6 writes, so their first entries are written again.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};

use fatfs::{Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time};

use super::paged::Paged;
use super::tree::Content;
use super::window::Window;
use crate::disk::boot_fat::ATTRIBUTE_VOLUME;
use crate::disk::size::{Bytes, SECTOR_SIZE};

mod subdirectories;

/// Identity and time of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeOptions {
    /// The serial number that Linux shows as `XXXX-XXXX`.
    pub volume_id: u32,
    /// Label, upper-case ASCII padded with spaces, such as `b"BOOT       "`.
    pub label: [u8; 11],
    /// Time of all files, in seconds since 1970; FAT keeps even seconds from 1980 to 2107.
    pub mtime: u64,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Its name, with the directories that it is in: `config.txt`, `EFI/BOOT/BOOTX64.EFI`. FAT does not distinguish case.
    pub name: String,
    /// Its bytes.
    pub content: Content,
}

/// A failure to write a volume.
#[derive(Debug, thiserror::Error)]
pub enum Fat32Error {
    /// FAT32 is impossible at this size.
    #[error("a partition of {0} cannot be FAT32, which needs 64 MiB to 2 TiB")]
    Size(Bytes),
    /// The files do not fit.
    #[error("`{file}` does not fit on /boot: with it the files need {needed}, there is room for {available}")]
    TooLarge {
        /// The first file that does not fit.
        file: String,
        /// Space that the files up to and including this one need.
        needed: Bytes,
        /// Space on the volume.
        available: Bytes,
    },
    /// FAT does not allow the name.
    #[error("`{0}` cannot be a file name on /boot")]
    Name(String),
    /// Two files whose names FAT does not distinguish.
    #[error("/boot would have two files named `{0}`")]
    Duplicate(String),
    /// A file of the host cannot be read.
    #[error("failed to read {file} for `{name}` on /boot")]
    Read {
        /// The host's file.
        file: String,
        /// Its name on the volume.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// The partition cannot be written.
    #[error("failed to write /boot")]
    Write(#[from] io::Error),
}

/// Space for the root directory, which is in front of all files. It must not grow between the files of a slot: a disk
/// writes whole pages, of at most this length, and a power cut while one slot's entries are written could damage the other
/// slot's files.
const DIRECTORY_LEN: u64 = 16 << 10;

/// Formats `window` and writes `files` into it, in order and without fragmentation.
/// [`BootFat`](crate::disk::boot_fat::BootFat) returns their sectors.
pub fn write(window: Window<'_>, options: &VolumeOptions, files: &[BootFile]) -> Result<(), Fat32Error> {
    let size = window.len();
    let cluster = cluster_size(size)?;
    check_names(files)?;
    let mut disk = Paged::new(window);
    let format = FormatVolumeOptions::new()
        .bytes_per_cluster(cluster)
        .total_sectors(size.sectors_floor().ok_or(Fat32Error::Size(size))?.0)
        .volume_id(options.volume_id)
        .volume_label(options.label);
    fatfs::format_volume(&mut disk, format)?;
    reserve_directory(&mut disk)?;
    let filesystem = FileSystem::new(&mut disk, FsOptions::new().update_accessed_date(false))?;
    // Counts the free clusters, which also stores their number in the volume.
    let available = u64::from(filesystem.stats()?.free_clusters()) * u64::from(cluster);
    check_room(files, u64::from(cluster), available)?;
    for file in files {
        write_file(&filesystem, file, fat_time(options.mtime))?;
    }
    filesystem.unmount()?;
    subdirectories::tidy(&mut disk, u64::from(cluster))?;
    Ok(disk.flush()?)
}

/// Extends the empty root directory of a new volume to [`DIRECTORY_LEN`].
pub(crate) fn reserve_directory<T: Read + Write + Seek>(volume: &mut T) -> io::Result<()> {
    // fatfs extends it for files only. Each has a long name in 20 entries of 32 bytes, and a short one.
    const NAMES: u64 = DIRECTORY_LEN / (21 * 32);
    let filesystem = FileSystem::new(&mut *volume, FsOptions::new())?;
    (0..NAMES).try_for_each(|n| filesystem.root_dir().create_file(&format!("{n:0>255}")).map(drop))?;
    filesystem.unmount()?;
    // Zeros end a directory, so the files are gone. The label stays, which is the first entry.
    let start = root_directory(volume)?;
    let mut first = [0; 32];
    volume.seek(SeekFrom::Start(start))?;
    volume.read_exact(&mut first)?;
    let kept = if first[11] == ATTRIBUTE_VOLUME { first.len() as u64 } else { 0 };
    volume.seek(SeekFrom::Start(start + kept))?;
    volume.write_all(&vec![0; (DIRECTORY_LEN - kept) as usize])?;
    volume.rewind()
}

/// Returns the offset of the root directory of a volume that [`fatfs::format_volume`] has made: the first cluster.
fn root_directory<T: Read + Seek>(volume: &mut T) -> io::Result<u64> {
    let mut record = [0; SECTOR_SIZE as usize];
    volume.rewind()?;
    volume.read_exact(&mut record)?;
    let reserved = u64::from(u16::from_le_bytes([record[14], record[15]]));
    let fat_len = u64::from(u32::from_le_bytes([record[36], record[37], record[38], record[39]]));
    Ok((reserved + u64::from(record[16]) * fat_len) * SECTOR_SIZE)
}

/// Returns the size of clusters. FAT32 needs at least 65,525 of them, and small ones waste little; up to 4 GiB this gives
/// at least twice that number.
fn cluster_size(size: Bytes) -> Result<u32, Fat32Error> {
    if size < Bytes::mib(64) || size.sectors_floor().is_none() {
        return Err(Fat32Error::Size(size));
    }
    let target = (size.0 >> 17).min(32 << 10) as u32;
    Ok(1 << target.max(512).ilog2())
}

fn check_names(files: &[BootFile]) -> Result<(), Fat32Error> {
    let mut seen = HashSet::new();
    for BootFile { name, .. } in files {
        // fatfs writes trailing dots and spaces that Linux and Windows drop.
        let is_bad = |part: &str| part.is_empty() || part.contains('\\') || part.ends_with(['.', ' ']);
        if name.split('/').any(is_bad) {
            return Err(Fat32Error::Name(name.clone()));
        }
        if !seen.insert(name.to_uppercase()) {
            return Err(Fat32Error::Duplicate(name.clone()));
        }
    }
    Ok(())
}

fn check_room(files: &[BootFile], cluster: u64, available: u64) -> Result<(), Fat32Error> {
    // Label, and per file a short entry and one per 13 UTF-16 units of the long name, 32 bytes each. What is reserved for
    // the directory is not part of the free space.
    let mut entries = 1;
    let mut needed = 0;
    let mut directories = HashSet::new();
    for BootFile { name, content } in files {
        for (end, _) in name.match_indices('/') {
            if directories.insert(&name[..end]) {
                needed += cluster;
            }
        }
        entries += 1 + name.encode_utf16().count().div_ceil(13) as u64;
        let len = content.len().map_err(|source| read_error(name, content, source))?;
        needed += len.div_ceil(cluster) * cluster;
        let directory = (entries * 32).saturating_sub(DIRECTORY_LEN).div_ceil(cluster) * cluster;
        if needed + directory > available {
            let needed = Bytes(needed + directory);
            return Err(Fat32Error::TooLarge { file: name.clone(), needed, available: Bytes(available) });
        }
    }
    Ok(())
}

fn write_file(
    filesystem: &FileSystem<&mut Paged<'_>>,
    BootFile { name, content }: &BootFile,
    time: DateTime,
) -> Result<(), Fat32Error> {
    let root = filesystem.root_dir();
    let create = || {
        for (end, _) in name.match_indices('/') {
            root.create_dir(&name[..end])?;
        }
        root.create_file(name)
    };
    let mut file = create().map_err(|error| match error.kind() {
        // fatfs reports an invalid name as `Other`.
        io::ErrorKind::Other => Fat32Error::Name(name.clone()),
        _ => Fat32Error::Write(error),
    })?;
    let mut reader = content.open().map_err(|source| read_error(name, content, source))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => file.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(read_error(name, content, source)),
        }
    }
    #[expect(
        deprecated,
        reason = "the advertised TimeProvider is `&'static` and so cannot carry a parameter"
    )]
    {
        file.set_created(time);
        file.set_accessed(time.date);
        file.set_modified(time);
    }
    Ok(file.flush()?)
}

fn read_error(name: &str, content: &Content, source: io::Error) -> Fat32Error {
    Fat32Error::Read { file: content.to_string(), name: name.to_owned(), source }
}

/// Converts `seconds` since 1970 to UTC, clamped to the years that FAT can represent.
fn fat_time(seconds: u64) -> DateTime {
    /// 1980-01-01 and the last even second of 2107.
    const RANGE: (u64, u64) = (315_532_800, 4_354_819_198);
    let seconds = seconds.clamp(RANGE.0, RANGE.1) & !1;
    let (year, month, day) = civil_date(seconds / 86_400);
    let second = (seconds % 86_400) as u32;
    let part = |value: u32| value as u16;
    DateTime {
        date: Date { year, month, day },
        time: Time {
            hour: part(second / 3600),
            min: part(second / 60 % 60),
            sec: part(second % 60),
            millis: 0,
        },
    }
}

/// Returns year, month and day of a day counted from 1970-01-01, for the years 1970 to 2107.
fn civil_date(day: u64) -> (u16, u16, u16) {
    let leap = |year: u16| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut rest = day;
    let mut year = 1970;
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest as u16 + 1)
}

#[cfg(test)]
mod tests;
