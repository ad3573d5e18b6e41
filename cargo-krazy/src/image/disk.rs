//! Writes a [`Composition`] as a disk.

use std::error::Error as _;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use krazy_boot::boot::boot_sector;
use krazy_boot::boot::slot_area::{self, SlotAreaError};
use krazy_boot::disk::identity::{IdentityCopies, IdentityError, IdentityFile};
use krazy_boot::disk::layout::{DiskLayout, DiskSignature, StateSectors};
use krazy_boot::disk::mbr::{self, Mbr, MbrError};
use krazy_boot::disk::ordered_write::{SectorWrite, write_in_order};
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use krazy_boot::disk::slot::{Slot, boot_file};
use krazy_boot::image::block_cache::BlockCache;
use krazy_boot::image::ext4::{self, Ext4Error, Ext4Options};
use krazy_boot::image::fat32::{self, BootFile, Fat32Error, VolumeOptions};
use krazy_boot::image::initramfs::{self, InitramfsError};
use krazy_boot::image::squashfs::{self, SquashfsError, SquashfsOptions, SquashfsStats};
use krazy_boot::image::tree::Content;
use krazy_boot::image::window::Window;
use krazy_boot::update::bundle::{BundleError, Part, PartKind, Signed};

use super::board_files::BoardFiles;
use super::composition::Composition;
use crate::board::Boot;
use crate::bundle;
use crate::bundle::store::{hash, squashfs_len};
use crate::failure::{Exit, Explain, Failure};
use crate::output::Scratch;
use crate::provision::{DataFile, Secrets};

/// zstd level of the initramfs. It is read at every boot, and unpacks equally fast at every level.
const INITRAMFS_LEVEL: i32 = 12;

/// Room for compressed blocks of roots, of all appliances that share a target directory.
const BLOCK_CACHE_LIMIT: Bytes = Bytes::gib(1);

/// How to write a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskOptions<'a> {
    /// Where the partitions are.
    pub(crate) layout: &'a DiskLayout,
    /// The length of the disk that the image is for, in sectors, if it is known. `/data` has the rest of it from the start,
    /// so that the device need not change its partition table.
    pub(crate) disk: Option<u64>,
    /// zstd level of the root.
    pub(crate) level: i32,
    /// Time of everything, in seconds since 1970.
    pub(crate) mtime: u64,
    /// A directory for what the next image can use again.
    pub(crate) cache: &'a Path,
}

/// A disk that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error(transparent)]
    Mbr(#[from] MbrError),
    #[error(transparent)]
    SlotArea(#[from] SlotAreaError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    #[error(transparent)]
    Root(#[from] SquashfsError),
    #[error(transparent)]
    Boot(#[from] Fat32Error),
    #[error(transparent)]
    Record(#[from] BundleError),
    #[error(transparent)]
    Data(#[from] Ext4Error),
    #[error("failed to use the block cache {}", .0.display())]
    Cache(PathBuf, #[source] io::Error),
    #[error("failed to read {0}")]
    Read(String, #[source] io::Error),
    #[error(transparent)]
    Sign(Failure),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Scratch(#[from] Failure),
}

impl Explain for DiskError {
    fn exit(&self) -> Exit {
        match self {
            DiskError::Root(SquashfsError::TooLarge { .. })
            | DiskError::Boot(Fat32Error::TooLarge { .. }) => Exit::Image,
            DiskError::Scratch(failure) => failure.exit(),
            _ => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            DiskError::Root(SquashfsError::TooLarge { .. }) => {
                Some("set a larger `root-size` (and `size`), or install less".to_owned())
            }
            DiskError::Boot(Fat32Error::TooLarge { .. }) => {
                Some("set a larger `boot-size` (and `size`)".to_owned())
            }
            DiskError::Scratch(failure) => failure.next_step().map(str::to_owned),
            _ => None,
        }
    }
}

impl DiskError {
    /// Returns true if the disk to write to is full.
    pub(crate) fn is_storage_full(&self) -> bool {
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        let mut causes = std::iter::successors(self.source(), |&cause| cause.source());
        match self {
            DiskError::Io(error) => is_full(error),
            _ => causes.any(|cause| cause.downcast_ref().is_some_and(is_full)),
        }
    }
}

/// Writes the disk to `file`, which is empty. What it returns is about the root. `/data` is copied from the disk
/// `kept`, if there is one.
///
/// The result is complete only when this returns; it is the caller who makes it visible.
pub(crate) fn write(
    file: &File,
    composition: &Composition,
    secrets: &Secrets,
    kept: Option<&File>,
    options: &DiskOptions<'_>,
) -> Result<SquashfsStats, DiskError> {
    let layout = options.layout;
    file.set_len(layout.disk().bytes().0)?;
    let code = match composition.boot {
        Boot::Pc { .. } => boot_sector::CODE,
        Boot::RaspberryPi { .. } => &[],
    };
    let table = options.disk.map_or(*layout, |sectors| layout.grown_to(sectors));
    let mut boot_sector = Mbr { signature: secrets.disk_signature(), layout: table }.encode(code)?;
    if composition.loader.is_some() {
        boot_sector = mbr::with_efi_system_partition(&boot_sector);
    }
    let archive = Scratch::in_directory(options.cache)?;
    let stats = std::thread::scope(|scope| {
        let rest = scope.spawn(|| {
            write_initramfs(BufWriter::new(archive.as_file()), composition)?.flush()?;
            match kept {
                Some(kept) => copy_data(kept, file, options),
                None => write_data(file, composition, secrets, options),
            }
        });
        let out = BufWriter::with_capacity(1 << 20, Window::of(file, layout.root(Slot::A)));
        let stats = write_root(out, composition, options);
        rest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        stats
    })?;
    write_boot(file, composition, archive.path(), secrets, options)?;
    write_sectors(file, &[SectorWrite::padded(Sectors(0), boot_sector.to_vec())])?;
    if let Boot::Pc { .. } = composition.boot {
        write_sectors(file, &slot_area::refresh(&mut &*file, Slot::A)?)?;
    }
    write_sectors(file, &Selector::confirmed(Slot::A).writes(StateSectors::CURRENT))?;
    write_sectors(file, &IdentityCopies::read(&mut &*file).writes(&identity(secrets)?)?)?;
    file.sync_all()?;
    Ok(stats)
}

/// The device's credentials, for their place outside `/data`.
fn identity(secrets: &Secrets) -> Result<Vec<IdentityFile>, DiskError> {
    let files = secrets.data_files().map_err(|error| DiskError::Scratch(error.into()))?;
    Ok(files
        .into_iter()
        .map(|DataFile { path, bytes, .. }| IdentityFile { path: path.to_owned(), bytes })
        .collect())
}

/// In a scratch file the order does not matter, so nothing is synced in between.
fn write_sectors(mut file: &File, writes: &[SectorWrite]) -> Result<(), DiskError> {
    Ok(write_in_order(&mut file, writes, |_| Ok(()))?)
}

/// Writes the root from the start of `out` on.
pub(crate) fn write_root<W: Write + Seek>(
    out: W,
    composition: &Composition,
    options: &DiskOptions<'_>,
) -> Result<SquashfsStats, DiskError> {
    let partition = options.layout.root(Slot::A);
    let directory = options.cache.join("blocks");
    let cache_error = |error| DiskError::Cache(directory.clone(), error);
    let cache = BlockCache::open(&directory, BLOCK_CACHE_LIMIT).map_err(cache_error)?;
    let squashfs =
        SquashfsOptions { level: options.level, mtime: options.mtime, limit: partition.len.bytes() };
    let stats = squashfs::write(&composition.root, &squashfs, out, Some(&cache))?;
    cache.finalize().map_err(cache_error)?;
    Ok(stats)
}

/// Writes the initramfs, and returns `out` at its end.
pub(crate) fn write_initramfs<W: Write>(out: W, composition: &Composition) -> Result<W, DiskError> {
    Ok(initramfs::write(&composition.initramfs, INITRAMFS_LEVEL, out)?)
}

/// Writes `/boot`, of a disk that has its root already: the record of slot A has the hash of it.
fn write_boot(
    file: &File,
    composition: &Composition,
    initramfs: &Path,
    secrets: &Secrets,
    options: &DiskOptions<'_>,
) -> Result<(), DiskError> {
    let boot = |name: &str, content| BootFile { name: Slot::A.boot_file(name), content };
    let guard = |name| boot(name, Content::Bytes(boot_file::GUARD.to_vec()));
    let [first, last] = boot_file::GUARDS;
    let mut files = vec![
        guard(first),
        boot(boot_file::KERNEL, Content::File(composition.kernel.clone())),
        boot(boot_file::INITRAMFS, Content::File(initramfs.to_owned())),
        boot(boot_file::CMDLINE, Content::Bytes(format!("{}\n", composition.cmdline).into_bytes())),
    ];
    if let Some(launcher) = &composition.launcher {
        files.push(boot(boot_file::LAUNCH, Content::Bytes(format!("{launcher}\n").into_bytes())));
    }
    let BoardFiles { of_slot, shared } = &composition.board_files;
    files.extend(of_slot.iter().map(|file| boot(&file.name, file.content.clone())));
    let Signed { json, signature } = record(file, composition, initramfs, secrets, options)?;
    files.push(boot(boot_file::RECORD, Content::Bytes(json)));
    files.push(boot(boot_file::SIGNATURE, Content::Bytes(signature.to_vec())));
    files.push(guard(last));
    files.extend(shared.iter().cloned());
    let volume = VolumeOptions {
        volume_id: secrets.id().number("boot"),
        label: *b"BOOT       ",
        mtime: options.mtime,
    };
    fat32::write(Window::of(file, options.layout.boot), &volume, &files)?;
    Ok(())
}

/// Returns the signed record of slot A, as an update would leave it: boot loaders and updates compare files with it.
fn record(
    file: &File,
    composition: &Composition,
    initramfs: &Path,
    secrets: &Secrets,
    options: &DiskOptions<'_>,
) -> Result<Signed, DiskError> {
    let mut parts = vec![
        part(PartKind::Kernel, &Content::File(composition.kernel.clone()))?,
        part(PartKind::Initramfs, &Content::File(initramfs.to_owned()))?,
    ];
    for BootFile { name, content } in &composition.board_files.of_slot {
        parts.push(part(PartKind::BootFile(name.clone()), content)?);
    }
    let root = options.layout.root(Slot::A);
    let len = squashfs_len(file, root.start.bytes())?;
    let (sha256, size) = hash(&mut Window::of(file, root).take(len))?;
    parts.push(Part { kind: PartKind::Root, size, sha256 });
    let json = composition.slot(parts).to_json()?;
    bundle::signed(json, secrets.update_key()).map_err(|error| DiskError::Sign(error.into()))
}

fn part(kind: PartKind, content: &Content) -> Result<Part, DiskError> {
    let hashed = content.open().and_then(|mut content| hash(&mut content));
    let (sha256, size) = hashed.map_err(|error| DiskError::Read(content.to_string(), error))?;
    Ok(Part { kind, size, sha256 })
}

fn write_data(
    file: &File,
    composition: &Composition,
    secrets: &Secrets,
    options: &DiskOptions<'_>,
) -> Result<(), DiskError> {
    let ext4 = Ext4Options { uuid: secrets.uuid("data"), label: "data", mtime: options.mtime };
    ext4::write(Window::of(file, options.layout.data), &ext4, &composition.data)?;
    Ok(())
}

/// Opens the disk at `path` if it is one of the same appliance with the same partitions, so that its `/data` can be
/// used again. Anything else, a missing file included, is no such disk.
pub(crate) fn with_same_data(path: &Path, layout: &DiskLayout, signature: DiskSignature) -> Option<File> {
    let mut file = File::open(path).ok()?;
    let mut sector = [0; SECTOR_SIZE as usize];
    file.read_exact(&mut sector).ok()?;
    let mbr = Mbr::decode(&sector).ok()?;
    (mbr.layout == *layout && mbr.signature == signature).then_some(file)
}

fn copy_data(kept: &File, file: &File, options: &DiskOptions<'_>) -> Result<(), DiskError> {
    let mut from = Window::of(kept, options.layout.data);
    // Leaves out zeros, so that the copy is as sparse as a new file system.
    let mut to = BufWriter::with_capacity(64 << 10, Window::of(file, options.layout.data));
    io::copy(&mut BufReader::with_capacity(64 << 10, &mut from), &mut to)?;
    Ok(to.flush()?)
}
