//! The device's disk in a file: slot A complete, slot B empty. The FAT32 of `/boot` follows the directory of that name.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use krazy_boot::boot::boot_sector;
use krazy_boot::boot::slot_area;
use krazy_boot::disk::layout::{DiskLayout, DiskSignature, Extent, PartitionSizes, StateSectors};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::ordered_write::write_in_order;
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use krazy_boot::image::fat32::{self, BootFile, VolumeOptions};
use krazy_boot::image::tree::Content;
use krazy_boot::image::window::Window;

/// The size of each root partition.
pub const ROOT_SIZE: Bytes = Bytes::mib(260);

pub fn layout() -> DiskLayout {
    let sizes = PartitionSizes { boot: Bytes::mib(64), root: ROOT_SIZE, disk: Bytes::gib(1) };
    DiskLayout::new(sizes).unwrap()
}

pub fn open(root: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(root.join("dev/vda")).unwrap()
}

/// Creates the disk in `root`.
pub fn create(root: &Path) {
    let layout = layout();
    let disk = File::create(root.join("dev/vda")).unwrap();
    disk.set_len(layout.disk().bytes().0).unwrap();
    let mbr = Mbr { signature: DiskSignature(0x1a2b_3c4d), layout }.encode(boot_sector::CODE).unwrap();
    disk.write_all_at(&mbr, 0).unwrap();
    disk.write_all_at(&file_system(OLD_ROOT_LEN), layout.root_a.start.bytes().0).unwrap();
    fs::create_dir(root.join("boot")).unwrap();
    let line = "root=PARTUUID=1a2b3c4d-02 krazy.slot=a\n";
    for (name, content) in
        [("a-vmlinuz", kernel(1600)), ("a-initramfs", vec![7; 900]), ("a-cmdline.txt", line.into())]
    {
        fs::write(root.join("boot").join(name), content).unwrap();
    }
    write_selector(root, Selector::confirmed(Slot::A));
    sync_boot(root);
}

/// Writes the directory `boot` to the FAT32, and refreshes the slots' boot data: what kernel and init do when `/boot`
/// becomes read-only.
pub fn sync_boot(root: &Path) {
    let disk = open(root);
    // In the order of creation: a new file must not move an existing one.
    let mut entries: Vec<_> = fs::read_dir(root.join("boot"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.metadata().unwrap().modified().unwrap(), entry.file_name().into_string().unwrap())
        })
        .collect();
    entries.sort();
    let files: Vec<_> = entries
        .into_iter()
        .map(|(_, name)| {
            let content = Content::Bytes(fs::read(root.join("boot").join(&name)).unwrap());
            BootFile { name, content }
        })
        .collect();
    let options = VolumeOptions { volume_id: 1, label: *b"BOOT       ", mtime: 0 };
    fat32::write(Window::of(&disk, layout().boot), &options, &files).unwrap();
    let writes = slot_area::refresh(&mut &disk, Slot::A).unwrap();
    write_in_order(&mut &disk, &writes, |_| Ok(())).unwrap();
}

/// Writes both copies of `selector` to the disk.
pub fn write_selector(root: &Path, selector: Selector) {
    write_in_order(&mut &open(root), &selector.writes(StateSectors::CURRENT), |_| Ok(())).unwrap();
}

/// Reads the first `len` bytes of a partition.
pub fn partition_start(root: &Path, partition: Extent, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    open(root).read_exact_at(&mut bytes, partition.start.bytes().0).unwrap();
    bytes
}

/// The length of the root in slot A.
pub const OLD_ROOT_LEN: usize = 200_000;

/// Returns a root of `len` bytes: a SquashFS superblock with that length, and incompressible bytes.
pub fn file_system(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()
    };
    let mut image: Vec<u8> = (0..len.div_ceil(4)).flat_map(|_| next().into_iter().take(4)).collect();
    image.truncate(len);
    image[..4].copy_from_slice(b"hsqs");
    image[40..48].copy_from_slice(&(len as u64).to_le_bytes());
    image
}

/// Returns a kernel with a valid header (Linux, boot.rst): a real-mode part of 3 sectors, and `len` bytes more.
pub fn kernel(len: usize) -> Vec<u8> {
    let mut file = vec![0; 3 * 512 + len];
    for (at, bytes) in [
        (0x1f1, &[2][..]),
        (0x1fe, &[0x55, 0xaa]),
        (0x1f4, &(len as u32 / 16).to_le_bytes()),
        (0x202, b"HdrS"),
        (0x206, &[0x0f, 2]),
        (0x211, &[1]),
        (0x22c, &0x7fff_ffff_u32.to_le_bytes()),
        (0x230, &0x20_0000_u32.to_le_bytes()),
        (0x238, &2047_u32.to_le_bytes()),
        (0x258, &0x100_0000_u64.to_le_bytes()),
        (0x260, &0x3a0_1000_u32.to_le_bytes()),
    ] {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    file
}
