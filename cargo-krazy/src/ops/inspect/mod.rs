//! The content of an image or a disk, read from it alone.
//!
//! The input is not trusted. Everything readable is reported; an unreadable part is a problem in the report. Only a disk
//! without a partition table of this program, or one that ends before its partitions do, is refused.

mod report;
pub(crate) mod squashfs;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::boot::bzimage::{BzImage, MAX_SETUP_LEN};
use krazy_boot::boot::load_table::{LoadTable, TABLE_LEN};
use krazy_boot::boot::{cmdline, config_txt, slot_area, uefi_loader};
use krazy_boot::disk::boot_fat::{BootFat, FatError, FatFile};
use krazy_boot::disk::layout::{Extent, area_of_slot};
use krazy_boot::disk::mbr::{self, Mbr};
use krazy_boot::disk::selector::SelectorCopies;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};
use krazy_boot::disk::slot::{Slot, boot_file};
use krazy_boot::manifest::{self, Manifest, ManifestError};

pub(crate) use self::report::{KernelReport, LoadTableState, Partition, Report, SelectorReport, SlotReport};
use self::squashfs::{Squashfs, SquashfsError};
use crate::failure::{Exit, Explain, Result, chain};

/// The longest manifest that is read.
const MAX_MANIFEST: u64 = 4 << 20;

/// A disk that cannot be inspected.
#[derive(Debug, thiserror::Error)]
enum InspectError {
    #[error("failed to open `{}`: {error}", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("`{}` is a directory", .0.display())]
    IsDirectory(PathBuf),
    #[error("`{}` is not a cargo krazy disk: {why}", path.display())]
    Foreign { path: PathBuf, why: String },
    #[error("`{}` is cut off: it has {bytes}, its partitions need {end}", path.display())]
    CutOff { path: PathBuf, bytes: Bytes, end: Bytes },
}

impl Explain for InspectError {
    fn exit(&self) -> Exit {
        Exit::Image
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            InspectError::Open { error, .. } => match error.kind() {
                io::ErrorKind::NotFound => "`cargo krazy image` makes an image",
                io::ErrorKind::PermissionDenied => "reading a disk may need root",
                _ => return None,
            },
            InspectError::IsDirectory(_) => "give the name of an image file, or of a disk",
            InspectError::Foreign { .. } => {
                "give an image file made by `cargo krazy image`, or the whole disk it was written to"
            }
            InspectError::CutOff { .. } => "it was not copied or downloaded to its end",
        };
        Some(help.to_owned())
    }
}

/// Inspects the image file or block device `path`, which is only read.
pub(crate) fn inspect(path: &Path) -> Result<Report> {
    let mut disk = File::open(path).map_err(|error| InspectError::Open { path: path.to_owned(), error })?;
    if disk.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(InspectError::IsDirectory(path.to_owned()).into());
    }
    // A device has no length of its own, but an end.
    let bytes = disk
        .seek(SeekFrom::End(0))
        .with_context(|| format!("failed to find the size of `{}`", path.display()))?;
    examine(&mut disk, path, Bytes(bytes))
}

/// [`inspect`], of anything that can be read.
fn examine(disk: &mut (impl Read + Seek), path: &Path, bytes: Bytes) -> Result<Report> {
    let foreign = |why: String| InspectError::Foreign { path: path.to_owned(), why };
    let mut sector = [0; SECTOR_SIZE as usize];
    if bytes < Bytes(SECTOR_SIZE) {
        return Err(foreign(format!("it has {bytes}")).into());
    }
    read_at(disk, 0, &mut sector).with_context(|| format!("failed to read `{}`", path.display()))?;
    let mbr = Mbr::decode(&sector).map_err(|error| foreign(error.to_string()))?;
    let end = mbr.layout.disk().bytes();
    if bytes < end {
        return Err(InspectError::CutOff { path: path.to_owned(), bytes, end }.into());
    }
    let uefi_loader = BootFat::open(&mut *disk, mbr.layout.boot.start.bytes(), mbr.layout.boot)
        .ok()
        .and_then(|mut fat| uefi_loader::installed_version(&mut fat));
    let mut selector = selector(&SelectorCopies::read(disk));
    let (boot, files) = boot(disk, mbr.layout.boot);
    let has_firmware = files.iter().any(|file| file.name == config_txt::FILE);
    if has_firmware {
        let fat = BootFat::open(&mut *disk, mbr.layout.boot.start.bytes(), mbr.layout.boot);
        match fat.map_err(Into::into).and_then(|mut fat| config_txt::read(&mut fat)) {
            Ok(choice) => {
                selector.config_txt = Some(choice.slot);
                selector.launcher = choice.launcher;
            }
            Err(error) => selector.problem = Some(chain(&error)),
        }
    }
    let mut partitions = vec![boot];
    let mut slots = Vec::new();
    for slot in Slot::ALL {
        let (partition, manifest) = root(disk, slot, mbr.layout.root(slot));
        let empty = partition.file_system.is_none() && !has_files(&files, slot);
        slots.push(match manifest {
            _ if empty => SlotReport::nothing(slot),
            manifest => examine_slot(disk, slot, mbr.layout.boot, &files, has_firmware, manifest),
        });
        partitions.push(partition);
    }
    partitions.push(data(disk, mbr.layout.data));
    Ok(Report {
        image: path.to_owned(),
        bytes,
        disk_signature: mbr.signature.to_string(),
        partitions,
        uefi_loader,
        efi_system_partition: mbr::has_efi_system_partition(&sector),
        selector,
        slots,
    })
}

fn selector(copies: &SelectorCopies) -> SelectorReport {
    match copies.selector() {
        Ok(selector) => SelectorReport {
            confirmed: Some(selector.confirmed),
            trial: selector.trial,
            candidate: selector.candidate,
            config_txt: None,
            launcher: false,
            generation: Some(selector.generation),
            problem: copies
                .needs_repair()
                .then(|| "one of its two copies is damaged or outdated; the device repairs it".to_owned()),
        },
        Err(error) => SelectorReport {
            confirmed: None,
            trial: None,
            candidate: None,
            config_txt: None,
            launcher: false,
            generation: None,
            problem: Some(error.to_string()),
        },
    }
}

/// Partition 1 and its files.
fn boot(disk: &mut (impl Read + Seek), extent: Extent) -> (Partition, Vec<FatFile>) {
    let mut partition = Partition::new(1, "boot", extent);
    let files = BootFat::open(disk, extent.start.bytes(), extent).and_then(|mut fat| fat.files());
    let files = match files {
        Ok(files) => {
            partition.file_system = Some("fat32");
            partition.used = Some(Bytes(files.iter().fold(0, |sum, file| sum.saturating_add(file.size.0))));
            files
        }
        Err(error) => {
            partition.problem = Some(chain(&error));
            Vec::new()
        }
    };
    (partition, files)
}

fn has_files(files: &[FatFile], slot: Slot) -> bool {
    files.iter().any(|file| file.name.starts_with(slot.boot_prefix()))
}

/// The reason that a slot has no manifest.
#[derive(Debug, thiserror::Error)]
enum NoManifest {
    #[error("it has no root")]
    NoRoot,
    #[error("its root cannot be read")]
    UnreadableRoot,
    #[error("{}", chain(.0))]
    File(SquashfsError),
    #[error(transparent)]
    Content(#[from] ManifestError),
}

/// A root partition and its manifest, or the reason that there is none.
fn root(
    disk: &mut (impl Read + Seek),
    slot: Slot,
    extent: Extent,
) -> (Partition, Result<Manifest, NoManifest>) {
    let name = match slot {
        Slot::A => "root A",
        Slot::B => "root B",
    };
    let mut partition = Partition::new(slot.root_partition(), name, extent);
    let mut squashfs = match Squashfs::open(disk, extent.start.bytes().0, extent.len.bytes().0) {
        Ok(squashfs) => squashfs,
        Err(SquashfsError::Missing) => return (partition, Err(NoManifest::NoRoot)),
        Err(error) => {
            partition.file_system = Some("squashfs");
            partition.problem = Some(chain(&error));
            return (partition, Err(NoManifest::UnreadableRoot));
        }
    };
    partition.file_system = Some("squashfs");
    partition.used = Some(Bytes(squashfs.bytes_used));
    let manifest = squashfs
        .read(manifest::PATH, MAX_MANIFEST)
        .map_err(NoManifest::File)
        .and_then(|bytes| Ok(Manifest::from_json(&bytes)?));
    (partition, manifest)
}

/// A slot that holds something.
fn examine_slot(
    disk: &mut (impl Read + Seek),
    slot: Slot,
    boot: Extent,
    files: &[FatFile],
    has_firmware: bool,
    manifest: Result<Manifest, NoManifest>,
) -> SlotReport {
    let mut report = SlotReport { empty: false, ..SlotReport::nothing(slot) };
    let named = |name: &str| {
        let name = slot.boot_file(name);
        files.iter().find(|file| file.name == name).ok_or(FatError::NotFound(name))
    };
    match named(boot_file::INITRAMFS) {
        Ok(file) => report.initramfs = Some(file.size),
        Err(error) => report.problems.push(error.to_string()),
    }
    if let Ok(mut fat) = BootFat::open(&mut *disk, boot.start.bytes(), boot) {
        let start = named(boot_file::KERNEL)
            .and_then(|file| Ok((file.size, fat.read_start(file, Bytes(MAX_SETUP_LEN as u64))?)));
        match start.map(|(size, start)| (size, BzImage::parse(&start, size))) {
            // The firmware takes other images, whose release only the root tells.
            Ok((bytes, _)) if has_firmware => {
                let release = manifest.as_ref().ok().map(|manifest| manifest.kernel.release.clone());
                report.kernel = Some(KernelReport { release, version_text: None, bytes });
            }
            Ok((bytes, Ok(image))) => {
                let release = image.version_text.as_ref().and_then(|text| text.split(' ').next());
                let release = release.map(str::to_owned);
                report.kernel = Some(KernelReport { release, version_text: image.version_text, bytes });
            }
            Ok((bytes, Err(error))) => {
                report.kernel = Some(KernelReport { release: None, version_text: None, bytes });
                report.problems.push(error.to_string());
            }
            Err(error) => report.problems.push(chain(&error)),
        }
        match fat.read_text(&slot.boot_file(boot_file::CMDLINE), cmdline::MAX_FILE) {
            Ok(line) => report.cmdline = Some(line),
            Err(error) => report.problems.push(chain(&error)),
        }
    }
    report.load_table = match has_firmware {
        true => LoadTableState::Unneeded,
        false => load_table(disk, slot, &mut report.problems),
    };
    match manifest {
        Ok(manifest) => report.manifest = Some(manifest),
        Err(error) => report.problems.push(error.to_string()),
    }
    report
}

/// Compares the slot's load table with the one that its files need.
fn load_table(disk: &mut (impl Read + Seek), slot: Slot, problems: &mut Vec<String>) -> LoadTableState {
    let mut table = vec![0; TABLE_LEN];
    let stored = read_at(disk, area_of_slot(slot).start.bytes().0, &mut table);
    if stored.is_err() || LoadTable::decode(&table).is_err() {
        return LoadTableState::Missing;
    }
    match slot_area::refresh(disk, slot) {
        Ok(writes) if writes.is_empty() => LoadTableState::Current,
        Ok(_) => LoadTableState::Stale,
        Err(error) => {
            let text = chain(&error);
            // A missing file has been reported already.
            if !problems.contains(&text) {
                problems.push(text);
            }
            LoadTableState::Stale
        }
    }
}

/// Partition 4. Source: `Documentation/filesystems/ext4/super.rst`.
fn data(disk: &mut (impl Read + Seek), extent: Extent) -> Partition {
    let mut partition = Partition::new(4, "data", extent);
    let mut superblock = [0; 1024];
    if let Err(error) = read_at(disk, extent.start.bytes().0 + 1024, &mut superblock) {
        partition.problem = Some(error.to_string());
        return partition;
    }
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([
            superblock[at],
            superblock[at + 1],
            superblock[at + 2],
            superblock[at + 3],
        ]))
    };
    if superblock[0x38..0x3a] != [0x53, 0xef] {
        return partition;
    }
    partition.file_system = Some("ext4");
    // The upper halves count only with the feature `64bit`, and are zero otherwise on what is made today.
    let (blocks, free) = (word(0x4) | word(0x150) << 32, word(0xc) | word(0x158) << 32);
    let used = blocks.checked_sub(free).zip(1024u64.checked_shl(word(0x18) as u32));
    partition.used = used.and_then(|(blocks, size)| blocks.checked_mul(size)).map(Bytes);
    partition
}

impl Partition {
    fn new(number: u8, name: &'static str, extent: Extent) -> Self {
        let (start, bytes) = (extent.start.bytes(), extent.len.bytes());
        Partition { number, name, file_system: None, start, bytes, used: None, problem: None }
    }
}

impl SlotReport {
    fn nothing(slot: Slot) -> Self {
        SlotReport {
            slot,
            empty: true,
            kernel: None,
            initramfs: None,
            cmdline: None,
            load_table: LoadTableState::Missing,
            manifest: None,
            problems: Vec::new(),
        }
    }
}

fn read_at(disk: &mut (impl Read + Seek), at: u64, buffer: &mut [u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(at))?;
    disk.read_exact(buffer)
}

#[cfg(test)]
mod tests;
