//! ext4 with a journal, for `/data`.
//!
//! rsext4 makes the file system (64-bit, extents, metadata checksums); identifier and label are written into the
//! superblocks afterwards, because rsext4 has no options for them. Metadata checksums are seeded by the identifier it was made with; the feature
//! `metadata_csum_seed` (Linux 4.4, e2fsprogs 1.43) keeps that seed beside the real identifier, which is how `tune2fs -U`
//! changes one too.
//!
//! Source: Linux `Documentation/filesystems/ext4/`, `super.rst` and `checksums.rst`. There are no reserved
//! descriptor blocks and no `meta_bg`; Linux's online resize turns `meta_bg` on where it needs descriptor blocks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::rc::Rc;

use rsext4::crc32c::{crc32c_append, crc32c_init};
use rsext4::{
    BlockIo, Clock, DeviceCapabilities, DeviceGeometry, DeviceNumber, Ext4, Ext4Error as Rsext4Error,
    Ext4Result, Ext4Timestamp, FileName, FilePermissions, InodeMetadataUpdate, InodeNumber, MkfsOptions,
    MountOptions, MountServices, MountedServices, MutationContext, NoopObserver, SectorId, SpecialInodeKind,
};

use super::paged::Paged;
use super::tree::{Content, Entry, Node, Tree, TreePath};
use super::window::Window;
use crate::disk::layout::MINIMUM_DATA;
use crate::disk::size::Bytes;

const BLOCK: u64 = 4096;
const SUPERBLOCK: u64 = 1024;

/// Identity and time of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ext4Options<'a> {
    /// The file system's UUID.
    pub uuid: [u8; 16],
    /// The label, at most 16 bytes.
    pub label: &'a str,
    /// Time of everything, in seconds since 1970.
    pub mtime: u64,
}

/// A failure to make a file system.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// The partition is too small for ext4 with a journal.
    #[error("a partition of {0} is too small for ext4 with a journal, it needs {MINIMUM_DATA}")]
    Size(Bytes),
    /// The label does not fit its field.
    #[error("the label `{0}` is longer than the 16 bytes ext4 has for it")]
    Label(String),
    /// The partition cannot be read or written.
    #[error("failed to write /data")]
    Io(#[from] io::Error),
    /// A file of the host cannot be read.
    #[error("failed to read {file} for `{path}` on /data")]
    Read {
        /// The host's file.
        file: String,
        /// Its path on the file system.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// rsext4 cannot make an entry, for example because the partition is full.
    #[error("failed to make `{path}` on /data: {reason}")]
    Entry {
        /// The entry.
        path: String,
        /// rsext4's reason.
        reason: String,
    },
    /// rsext4 cannot make the file system.
    #[error("failed to make the file system of /data: {0}")]
    Format(String),
}

/// Formats `window` and fills it with `tree`. An empty [`Tree`] leaves only `lost+found`.
///
/// Uses whole blocks of 4 KiB. Zeros are written only over other content.
pub fn write(window: Window<'_>, options: &Ext4Options<'_>, tree: &Tree) -> Result<(), Ext4Error> {
    let size = window.len();
    if size < MINIMUM_DATA {
        return Err(Ext4Error::Size(size));
    }
    if options.label.len() > 16 {
        return Err(Ext4Error::Label(options.label.to_owned()));
    }
    let disk = Rc::new(RefCell::new(Paged::new(window)));
    let failure = Rc::new(RefCell::new(None));
    let device = Device { disk: Rc::clone(&disk), blocks: size.0 / BLOCK, failure: Rc::clone(&failure) };
    let made = make(device, FixedClock(options.mtime), tree);
    // The disk's error explains more than the "I/O error" that rsext4 returns for it.
    if let Some(error) = failure.take() {
        return Err(Ext4Error::Io(error));
    }
    made?;
    let mut disk = disk.borrow_mut();
    identify(&mut disk, options)?;
    Ok(disk.flush()?)
}

fn make(device: Device<'_>, clock: FixedClock, tree: &Tree) -> Result<(), Ext4Error> {
    let format_error = |error: Rsext4Error| Ext4Error::Format(error.to_string());
    let device = rsext4::format(device, clock, MkfsOptions::default()).map_err(format_error)?;
    // Mounted even without files, because the first mount completes the format.
    let services = MountServices::new(clock, (), NoopObserver);
    let mut filesystem = Ext4::mount(device, services, MountOptions::read_write()).map_err(format_error)?;
    let mut directories = HashMap::from([("/".to_owned(), filesystem.root_inode())]);
    for (path, entry) in tree.iter() {
        let made = add(&mut filesystem, &directories, path, entry)?;
        if entry.node == Node::Directory {
            directories.insert(path.to_string(), made);
        }
    }
    filesystem.unmount().map_err(format_error)
}

type Mounted<'a> = Ext4<Device<'a>, MountedServices<(), NoopObserver>>;

/// Makes one entry. Its directory must be in `directories`.
fn add(
    filesystem: &mut Mounted<'_>,
    directories: &HashMap<String, InodeNumber>,
    path: &TreePath,
    entry: &Entry,
) -> Result<InodeNumber, Ext4Error> {
    let failed = |error: Rsext4Error| Ext4Error::Entry { path: path.to_string(), reason: error.to_string() };
    let permissions = FilePermissions::new(entry.mode).map_err(failed)?;
    let (Some(name), Some(parent)) = (path.name(), path.parent()) else {
        let root = filesystem.root_inode();
        let update = InodeMetadataUpdate {
            permissions: Some(permissions),
            owner: Some((entry.uid, entry.gid)),
            ..InodeMetadataUpdate::default()
        };
        filesystem.update_inode_metadata(root, update).map_err(failed)?;
        return Ok(root);
    };
    let name = FileName::new(name.as_bytes()).map_err(failed)?;
    let missing = || Ext4Error::Entry { path: path.to_string(), reason: "its directory is missing".into() };
    let parent = *directories.get(parent.as_str()).ok_or_else(missing)?;
    let context = MutationContext::new(entry.uid, entry.gid, 0, 0);
    let made = match &entry.node {
        Node::Directory => filesystem.create_directory(context, parent, name, permissions),
        Node::File(_) => filesystem.create_regular_file(context, parent, name, permissions),
        Node::Symlink(target) => filesystem.create_symlink(context, parent, name, target.as_bytes()),
        Node::CharacterDevice { major, minor } => {
            let kind = SpecialInodeKind::CharacterDevice(DeviceNumber::new(*major, *minor).map_err(failed)?);
            filesystem.create_special_inode(context, parent, name, permissions, kind)
        }
    };
    let inode = made.map_err(failed)?.number;
    if let Node::File(content) = &entry.node {
        copy(filesystem, inode, path, content)?;
        // Writing to a file clears set-user-ID and set-group-ID, as for any program.
        if entry.mode & 0o6000 != 0 {
            let update =
                InodeMetadataUpdate { permissions: Some(permissions), ..InodeMetadataUpdate::default() };
            filesystem.update_inode_metadata(inode, update).map_err(failed)?;
        }
    }
    Ok(inode)
}

fn copy(
    filesystem: &mut Mounted<'_>,
    inode: InodeNumber,
    path: &TreePath,
    content: &Content,
) -> Result<(), Ext4Error> {
    let read_error = |source| Ext4Error::Read { file: content.to_string(), path: path.to_string(), source };
    let mut reader = content.open().map_err(read_error)?;
    let mut buffer = Vec::with_capacity(1 << 20);
    let mut offset = 0;
    loop {
        buffer.clear();
        reader.by_ref().take(1 << 20).read_to_end(&mut buffer).map_err(read_error)?;
        if buffer.is_empty() {
            return Ok(());
        }
        filesystem
            .write_inode(inode, offset, &buffer)
            .map_err(|error| Ext4Error::Entry { path: path.to_string(), reason: error.to_string() })?;
        offset += buffer.len() as u64;
    }
}

/// Writes identifier, label and time into the superblock and its copies.
fn identify(disk: &mut Paged<'_>, options: &Ext4Options<'_>) -> io::Result<()> {
    const BLOCKS: usize = 0x04;
    const BLOCKS_PER_GROUP: usize = 0x20;
    const LAST_CHECK: usize = 0x40;
    const FEATURE_INCOMPAT: usize = 0x60;
    const UUID: usize = 0x68;
    const LABEL: usize = 0x78;
    const MADE: usize = 0x108;
    const BLOCKS_HIGH: usize = 0x150;
    const CHECKSUM_SEED: usize = 0x270;
    const CHECKSUM: usize = 0x3fc;
    const INCOMPAT_CSUM_SEED: u32 = 0x2000;

    let mut primary = [0; 1024];
    disk.read_exact_at(&mut primary, SUPERBLOCK)?;
    let blocks = u64::from(u32_at(&primary, BLOCKS)) | u64::from(u32_at(&primary, BLOCKS_HIGH)) << 32;
    let per_group = u64::from(u32_at(&primary, BLOCKS_PER_GROUP)).max(1);
    let groups = u32::try_from(blocks.div_ceil(per_group)).map_err(io::Error::other)?;
    let copies = (1..groups).filter(|group| rsext4::tool::need_redundant_backup(*group));
    let positions = copies.map(|group| u64::from(group) * per_group * BLOCK);
    for position in [SUPERBLOCK].into_iter().chain(positions) {
        let mut superblock = [0; 1024];
        disk.read_exact_at(&mut superblock, position)?;
        let seed = crc32c_append(crc32c_init(), &superblock[UUID..UUID + 16]);
        let features = u32_at(&superblock, FEATURE_INCOMPAT) | INCOMPAT_CSUM_SEED;
        let seconds = options.mtime as u32;
        let mut label = [0; 16];
        label[..options.label.len()].copy_from_slice(options.label.as_bytes());
        for (at, bytes) in [
            (FEATURE_INCOMPAT, &features.to_le_bytes()[..]),
            (CHECKSUM_SEED, &seed.to_le_bytes()),
            (UUID, &options.uuid),
            (LABEL, &label),
            (MADE, &seconds.to_le_bytes()),
            (LAST_CHECK, &seconds.to_le_bytes()),
        ] {
            superblock[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let checksum = crc32c_append(crc32c_init(), &superblock[..CHECKSUM]);
        superblock[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        disk.write_all_at(&superblock, position)?;
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[derive(Clone, Copy)]
struct FixedClock(u64);

impl Clock for FixedClock {
    fn now(&self) -> Ext4Result<Ext4Timestamp> {
        Ok(Ext4Timestamp::new(i64::try_from(self.0).unwrap_or(i64::MAX), 0))
    }
}

/// The partition as a device of rsext4, in blocks of 4 KiB.
struct Device<'a> {
    disk: Rc<RefCell<Paged<'a>>>,
    blocks: u64,
    /// The first error of the disk. rsext4's errors have no source.
    failure: Rc<RefCell<Option<io::Error>>>,
}

impl Device<'_> {
    fn record_failure(&self, result: io::Result<()>) -> Ext4Result<()> {
        result.map_err(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            Rsext4Error::io()
        })
    }
}

impl BlockIo for Device<'_> {
    fn write(&mut self, buffer: &[u8], sector: SectorId, _count: u32) -> Ext4Result<()> {
        let written = self.disk.borrow_mut().write_all_at(buffer, sector.raw() * BLOCK);
        self.record_failure(written)
    }

    fn read(&mut self, buffer: &mut [u8], sector: SectorId, _count: u32) -> Ext4Result<()> {
        let read = self.disk.borrow_mut().read_exact_at(buffer, sector.raw() * BLOCK);
        self.record_failure(read)
    }

    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry::new(BLOCK as u32, self.blocks)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        DeviceCapabilities { flush: true, ..DeviceCapabilities::default() }
    }

    /// Does nothing: the caller syncs the image when the whole file system is written.
    fn flush(&mut self) -> Ext4Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Ext4Options<'static> =
        Ext4Options { uuid: *b"0123456789abcdef", label: "data", mtime: 1_700_000_000 };

    fn image(size: Bytes) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size.0).unwrap();
        let mut tree = Tree::new();
        tree.add("/a/b", Entry::file(Content::Bytes(vec![5; 10_000])), "test").unwrap();
        write(Window::new(&file, Bytes(0), size), &OPTIONS, &tree).unwrap();
        let mut bytes = vec![0; size.0 as usize];
        Window::new(&file, Bytes(0), size).read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn equal_trees_give_equal_bytes() {
        assert!(image(Bytes::mib(40)) == image(Bytes::mib(40)));
    }

    #[test]
    fn impossible_options_are_refused() {
        let file = tempfile::tempfile().unwrap();
        let error = |size, label| {
            let options = Ext4Options { label, ..OPTIONS };
            write(Window::new(&file, Bytes(0), size), &options, &Tree::new()).unwrap_err().to_string()
        };
        assert_eq!(
            error(Bytes::mib(8), "data"),
            "a partition of 8 MiB is too small for ext4 with a journal, it needs 32 MiB"
        );
        let label = "a label of twenty-two";
        assert_eq!(
            error(Bytes::mib(32), label),
            format!("the label `{label}` is longer than the 16 bytes ext4 has for it")
        );
    }

    #[test]
    fn file_that_does_not_fit_is_named() {
        let file = tempfile::tempfile().unwrap();
        let mut tree = Tree::new();
        tree.add("/small", Entry::file(Content::Bytes(vec![1; 100])), "test").unwrap();
        tree.add("/large", Entry::file(Content::Bytes(vec![1; 40 << 20])), "test").unwrap();
        let error = write(Window::new(&file, Bytes(0), Bytes::mib(32)), &OPTIONS, &tree).unwrap_err();
        assert!(error.to_string().starts_with("failed to make `/large` on /data: "), "{error}");
    }
}
