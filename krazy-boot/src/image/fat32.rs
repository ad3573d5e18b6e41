//! FAT32 with long names, for `/boot`.
//!
//! Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification 1.03. Files are in the root
//! directory only: directories written by fatfs 0.3.6 do not pass `fsck.fat`, and booting needs none.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};

use fatfs::{Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time};

use super::paged::Paged;
use super::tree::Content;
use super::window::Window;
use crate::disk::size::{Bytes, SECTOR_SIZE};

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

/// A file for the root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Its name. FAT does not distinguish case.
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

/// The attribute of the directory entry with the volume's label.
const VOLUME_LABEL: u8 = 8;

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
    let kept = if first[11] == VOLUME_LABEL { 32 } else { 0 };
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
        // fatfs interprets a slash as a directory, and writes trailing dots and spaces that Linux and Windows drop.
        if name.contains(['/', '\\']) || name.ends_with(['.', ' ']) {
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
    for BootFile { name, content } in files {
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
    let mut file = root.create_file(name).map_err(|error| match error.kind() {
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
mod tests {
    use super::*;
    use crate::disk::boot_fat::BootFat;
    use crate::disk::layout::Extent;
    use crate::disk::size::Sectors;

    const OPTIONS: VolumeOptions =
        VolumeOptions { volume_id: 0x1234_abcd, label: *b"BOOT       ", mtime: 1_700_000_000 };

    fn file(name: &str, len: usize) -> BootFile {
        let bytes = (0..len).map(|i| (i / 7) as u8 | 1).collect();
        BootFile { name: name.into(), content: Content::Bytes(bytes) }
    }

    fn volume(size: Bytes, files: &[BootFile]) -> Result<std::fs::File, Fat32Error> {
        let image = tempfile::tempfile()?;
        image.set_len(size.0)?;
        write(Window::new(&image, Bytes(0), size), &OPTIONS, files)?;
        Ok(image)
    }

    #[test]
    fn files_are_written_without_fragmentation() {
        let files = [
            file("a-vmlinuz", 3_000_001),
            file("a-initramfs", 0),
            file("A long name.bin", 2048),
            file("x", 1),
        ];
        let image = volume(Bytes::mib(256), &files).unwrap();
        let partition = Extent { start: Sectors(0), len: Sectors(256 << 11) };
        let mut volume = BootFat::open(&image, Bytes(0), partition).unwrap();
        let names: Vec<_> = volume.files().unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, files.each_ref().map(|file| file.name.as_str()));
        for BootFile { name, content } in &files {
            let Content::Bytes(bytes) = content else { panic!("in memory") };
            let found = volume.find(name).unwrap();
            assert_eq!(volume.extents(&found).unwrap().len(), usize::from(!bytes.is_empty()));
            assert!(volume.read(&found, Bytes::mib(4)).unwrap() == *bytes, "{name}");
        }
        // In front of the first file are the boot sectors, two FATs and the directory.
        let first = volume.find("a-vmlinuz").unwrap();
        let start = volume.extents(&first).unwrap()[0].start.bytes().0;
        assert_eq!(start - volume.root_start().bytes().0, DIRECTORY_LEN);
    }

    #[test]
    fn equal_files_give_equal_bytes() {
        let [a, b] = [0, 1].map(|_| {
            let image = volume(Bytes::mib(64), &[file("a-vmlinuz", 100_000)]).unwrap();
            let mut bytes = vec![0; 4 << 20];
            Window::new(&image, Bytes(0), Bytes::mib(64)).read_exact_at(&mut bytes, 0).unwrap();
            bytes
        });
        assert!(a == b);
    }

    #[test]
    fn file_that_does_not_fit_is_named_before_anything_is_written() {
        let error = volume(Bytes::mib(64), &[file("a-vmlinuz", 40 << 20), file("b-vmlinuz", 30 << 20)]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "`b-vmlinuz` does not fit on /boot: with it the files need 70 MiB, there is room for 63.0 MiB"
        );
        volume(Bytes::mib(64), &[file("exact", 62 << 20)]).unwrap();
    }

    #[test]
    fn duplicate_and_invalid_names_are_refused() {
        let error = |names: &[&str]| {
            let files: Vec<_> = names.iter().map(|name| file(name, 1)).collect();
            volume(Bytes::mib(64), &files).unwrap_err().to_string()
        };
        assert_eq!(error(&["a-vmlinuz", "A-VMLINUZ"]), "/boot would have two files named `A-VMLINUZ`");
        for name in ["overlays/x.dtbo", "x:y", "", "x."] {
            assert_eq!(error(&[name]), format!("`{name}` cannot be a file name on /boot"));
        }
    }

    #[test]
    fn any_size_has_enough_clusters_for_fat32() {
        for mib in (64..=2048).step_by(61).chain([4096, 65_536]) {
            let size = Bytes::mib(mib);
            let cluster = u64::from(cluster_size(size).unwrap());
            let fats = 2 * 4 * size.0 / cluster;
            assert!((size.0 - fats - 32 * 512) / cluster > 65_525, "{mib} MiB with {cluster}");
        }
        assert!(matches!(cluster_size(Bytes::mib(63)), Err(Fat32Error::Size(_))));
    }

    #[test]
    fn times_convert_to_calendar_dates() {
        let text = |seconds| {
            let DateTime { date, time } = fat_time(seconds);
            let clock = format!("{:02}:{:02}:{:02}", time.hour, time.min, time.sec);
            format!("{}-{:02}-{:02} {clock}", date.year, date.month, date.day)
        };
        assert_eq!(text(0), "1980-01-01 00:00:00");
        assert_eq!(text(951_827_696), "2000-02-29 12:34:56");
        assert_eq!(text(1_700_000_001), "2023-11-14 22:13:20");
        assert_eq!(text(1_735_689_599), "2024-12-31 23:59:58");
        assert_eq!(text(u64::MAX), "2107-12-31 23:59:58");
    }
}
