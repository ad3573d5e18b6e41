//! Disk images for the tests, made with the library's own writers.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use krazy_boot::boot::boot_sector;
use krazy_boot::boot::slot_area::refresh;
use krazy_boot::disk::layout::{DiskLayout, DiskSignature, PartitionSizes, StateSectors};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::ordered_write::write_in_order;
use krazy_boot::disk::selector::{Selector, SelectorCopies};
use krazy_boot::disk::size::{Bytes, Sectors};
use krazy_boot::disk::slot::{Slot, boot_file};
use tempfile::TempDir;

use crate::payload;

/// An image in a temporary directory.
pub struct Disk {
    path: PathBuf,
    pub kernel: Vec<u8>,
    pub initramfs: Vec<u8>,
    _directory: TempDir,
}

/// Returns bytes that differ from sector to sector and from 32 KiB to 32 KiB.
pub fn content(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

impl Disk {
    /// Returns a disk whose slots have equal kernels and initramfs, and the command lines `slot A` and `slot B`.
    pub fn new() -> Self {
        Self::with(&content(48 * 1024, 1), &content(20 * 1024, 2), ["slot A", "slot B"])
    }

    /// Returns a disk with `body` as the kernel's protected-mode part. Files are written alternately, 24 sectors at a time, so
    /// that longer ones have many fragments.
    pub fn with(body: &[u8], initramfs: &[u8], command_lines: [&str; 2]) -> Self {
        let sizes = PartitionSizes { disk: Bytes::mib(160), boot: Bytes::mib(64), root: Bytes::mib(1) };
        let layout = DiskLayout::new(sizes).unwrap();
        let kernel = payload::kernel(body);
        let mut boot = Cursor::new(vec![0; layout.boot.len.bytes().0 as usize]);
        let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32);
        fatfs::format_volume(&mut boot, options.bytes_per_cluster(512)).unwrap();
        {
            let fs = fatfs::FileSystem::new(&mut boot, fatfs::FsOptions::new()).unwrap();
            let root = fs.root_dir();
            for (slot, line) in Slot::ALL.into_iter().zip(command_lines) {
                let mut files: Vec<_> = [
                    (boot_file::KERNEL, &kernel[..]),
                    (boot_file::INITRAMFS, initramfs),
                    (boot_file::CMDLINE, line.as_bytes()),
                ]
                .map(|(name, bytes)| (root.create_file(&slot.boot_file(name)).unwrap(), bytes))
                .into();
                while files.iter().any(|(_, bytes)| !bytes.is_empty()) {
                    for (file, bytes) in &mut files {
                        let (now, later) = bytes.split_at(bytes.len().min(24 * 512));
                        file.write_all(now).unwrap();
                        *bytes = later;
                    }
                }
            }
        }

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(layout.disk().bytes().0).unwrap();
        let mbr = Mbr { signature: DiskSignature(0x6b72_617a), layout };
        file.write_all(&mbr.encode(boot_sector::CODE).unwrap()).unwrap();
        for (index, block) in boot.get_ref().chunks(1 << 16).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                let at = layout.boot.start.bytes().0 + (index << 16) as u64;
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(block).unwrap();
            }
        }
        for slot in Slot::ALL {
            let writes = refresh(&mut file, slot).unwrap();
            write_in_order(&mut file, &writes, |_| Ok(())).unwrap();
        }
        let disk = Disk { path, kernel, initramfs: initramfs.to_vec(), _directory: directory };
        disk.select(Selector::confirmed(Slot::A));
        disk
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).unwrap()
    }

    pub fn select(&self, selector: Selector) {
        write_in_order(&mut self.open(), &selector.writes(StateSectors::CURRENT), |_| Ok(())).unwrap();
    }

    pub fn selectors(&self) -> SelectorCopies {
        SelectorCopies::read(&mut self.open())
    }

    pub fn overwrite(&self, at: Sectors, bytes: &[u8]) {
        let mut file = self.open();
        file.seek(SeekFrom::Start(at.bytes().0)).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// Returns the payload's line for files that were loaded correctly.
    pub fn line(&self, command_line: &str) -> String {
        let body = &self.kernel[3 * 512..];
        let [kernel, initramfs] = [body, &self.initramfs].map(payload::checksum);
        format!("payload ok {kernel:08x} {initramfs:08x} {command_line}")
    }
}
