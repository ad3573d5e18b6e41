//! Damaged file systems of `/boot` are repaired: `fsck.fat` finds nothing afterwards, and the files of the slot that may
//! have to boot are the same bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::OnceLock;

use fatfs::{FileSystem, FsOptions};
use krazy_boot::disk::boot_fat::{BootFat, Findings};
use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::ordered_write::SectorWrite;
use krazy_boot::disk::size::{Bytes, Sectors};
use krazy_boot::disk::slot::Slot;
use krazy_boot::image::fat32::{self, BootFile, VolumeOptions};
use krazy_boot::image::tree::Content;
use krazy_boot::image::window::Window;
use proptest::prelude::*;
use tempfile::NamedTempFile;

const SIZE: Bytes = Bytes::mib(64);
const PARTITION: Extent = Extent { start: Sectors(0), len: Sectors(64 << 11) };
const SECTOR: usize = 512;
/// Layout of the volumes: clusters of one sector, FATs behind the reserved sectors.
const CLUSTERS_PER_FAT_SECTOR: u32 = 128;

/// A volume without its zeros, with the writes since the last `take_log`.
#[derive(Clone, Default)]
struct Volume {
    sectors: BTreeMap<u32, [u8; SECTOR]>,
    log: Vec<(u32, [u8; SECTOR])>,
    position: u64,
}

impl Volume {
    fn sector(&self, number: u32) -> [u8; SECTOR] {
        self.sectors.get(&number).copied().unwrap_or([0; SECTOR])
    }

    fn set(&mut self, number: u32, sector: [u8; SECTOR]) {
        self.sectors.insert(number, sector);
    }

    fn word(&self, sector: u32, at: usize) -> u32 {
        u32::from_le_bytes(*self.sector(sector)[at..].first_chunk().unwrap())
    }

    fn change(&mut self, sector: u32, at: usize, bytes: &[u8]) {
        let mut content = self.sector(sector);
        content[at..at + bytes.len()].copy_from_slice(bytes);
        self.set(sector, content);
    }

    fn fat_start(&self) -> u32 {
        self.word(0, 14) & 0xffff
    }

    fn fat_len(&self) -> u32 {
        self.word(0, 36)
    }

    /// The root directory's first sector, which has cluster 2.
    fn root(&self) -> u32 {
        self.fat_start() + 2 * self.fat_len()
    }

    fn entry(&self, cluster: u32) -> u32 {
        let (sector, at) = place(cluster);
        self.word(self.fat_start() + sector, at)
    }

    fn set_entry(&mut self, copies: &[u32], cluster: u32, value: u32) {
        let (sector, at) = place(cluster);
        for copy in copies {
            let sector = self.fat_start() + copy * self.fat_len() + sector;
            self.change(sector, at, &value.to_le_bytes());
        }
    }

    /// Returns sector and offset of the short entry whose name begins with `name`.
    fn find(&self, name: &[u8]) -> (u32, usize) {
        (self.root()..self.root() + 16)
            .flat_map(|sector| (0..SECTOR).step_by(32).map(move |at| (sector, at)))
            .find(|&(sector, at)| {
                let content = self.sector(sector);
                content[at..].starts_with(name) && content[at + 11] != 0x0f
            })
            .unwrap()
    }

    fn first_cluster(&self, name: &[u8]) -> u32 {
        let (sector, at) = self.find(name);
        self.word(sector, at + 26) & 0xffff | (self.word(sector, at + 20) & 0xffff) << 16
    }

    fn clusters(&self, name: &[u8]) -> Vec<u32> {
        let mut clusters = vec![self.first_cluster(name)];
        while let next @ 2..0x0fff_fff7 = self.entry(*clusters.last().unwrap()) {
            clusters.push(next);
        }
        clusters
    }

    /// Repairs it for an update of slot B.
    fn repair(&mut self) -> Findings {
        let repair = self.fat().check(Some(Slot::B)).unwrap();
        repair.stages().iter().flatten().for_each(|write| self.perform(write));
        repair.findings
    }

    fn perform(&mut self, write: &SectorWrite) {
        for (number, sector) in (write.at.0..).zip(write.bytes.as_chunks::<SECTOR>().0) {
            self.set(number, *sector);
        }
    }

    fn fat(&self) -> BootFat<Self> {
        let volume = Volume { sectors: self.sectors.clone(), ..Volume::default() };
        BootFat::open(volume, Bytes(0), PARTITION).unwrap()
    }

    fn content(&self, name: &str) -> Vec<u8> {
        let mut fat = self.fat();
        let file = fat.find(name).unwrap();
        fat.read(&file, Bytes::mib(4)).unwrap()
    }

    fn store(&self) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE.0).unwrap();
        for (number, sector) in &self.sectors {
            file.as_file().write_all_at(sector, u64::from(*number) * SECTOR as u64).unwrap();
        }
        file
    }

    fn load(mut file: &File) -> Self {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let sectors = (0..).zip(bytes.as_chunks::<SECTOR>().0).filter(|(_, sector)| **sector != [0; SECTOR]);
        Volume { sectors: sectors.map(|(number, sector)| (number, *sector)).collect(), ..Volume::default() }
    }

    fn judge(&self, context: &str) {
        let file = self.store();
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let output = Command::new("fsck.fat").arg("-n").arg(file.path()).env("PATH", path).output();
        let output = output.expect("`fsck.fat` is missing; install the package dosfstools");
        assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

fn place(cluster: u32) -> (u32, usize) {
    (cluster / CLUSTERS_PER_FAT_SECTOR, (cluster % CLUSTERS_PER_FAT_SECTOR) as usize * 4)
}

impl Read for Volume {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let sector = self.sector((self.position / SECTOR as u64) as u32);
        let read = sector[(self.position % SECTOR as u64) as usize..].as_ref().read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Volume {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let number = (self.position / SECTOR as u64) as u32;
        let mut sector = self.sector(number);
        let written = (&mut sector[(self.position % SECTOR as u64) as usize..]).write(buffer)?;
        self.set(number, sector);
        self.log.push((number, sector));
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Volume {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut cursor = Cursor::new([]);
        cursor.set_position(self.position);
        self.position = cursor.seek(to)?;
        Ok(self.position)
    }
}

const KEPT: [(&str, usize); 3] = [("a-vmlinuz", 70_001), ("a-initramfs", 9000), ("a-cmdline.txt", 80)];

fn data(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 512 * 31 + n * seed) as u8 | 1).collect()
}

/// Returns a volume with both slots and a file of neither.
fn volume() -> Volume {
    static VOLUME: OnceLock<Volume> = OnceLock::new();
    let make = || {
        let other = [("config.txt", 1500), ("b-vmlinuz", 40_000), ("b-initramfs", 3000)];
        let files: Vec<_> = KEPT
            .iter()
            .chain(&other)
            .map(|&(name, len)| BootFile { name: name.into(), content: Content::Bytes(data(len, len)) })
            .collect();
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE.0).unwrap();
        let options = VolumeOptions { volume_id: 7, label: *b"BOOT       ", mtime: 1_700_000_000 };
        fat32::write(Window::fresh(&file, PARTITION), &options, &files).unwrap();
        Volume::load(&file)
    };
    VOLUME.get_or_init(make).clone()
}

/// Asserts that a repaired volume needs no other repair and has the files of slot A.
fn assert_sound(volume: &Volume, context: &str) {
    let again = volume.fat().check(Some(Slot::B)).unwrap();
    assert!(again.is_empty(), "{context}: {}", again.findings);
    for (name, len) in KEPT {
        assert!(volume.content(name) == data(len, len), "{name} {context}");
    }
}

#[test]
fn sound_volume_is_left_alone() {
    let mut volume = volume();
    assert_eq!(volume.repair(), Findings::default());
    assert_sound(&volume, "as written");
    volume.judge("as written");
}

/// Replaces the files of slot B.
fn rewrite(volume: &mut Volume) {
    let fs = FileSystem::new(volume, FsOptions::new()).unwrap();
    let root = fs.root_dir();
    for name in ["b-vmlinuz", "b-initramfs"] {
        root.remove(name).unwrap();
    }
    for (name, len) in [("b-vmlinuz", 50_000), ("b-initramfs", 2000), ("b-a rather long name.dtb", 700)] {
        let mut file = root.create_file(name).unwrap();
        data(len, len).chunks(4096).for_each(|piece| file.write_all(piece).unwrap());
        file.flush().unwrap();
    }
}

/// Returns true for about half of the numbers, by a seed.
fn survives(seed: u64, number: usize) -> bool {
    let mixed = (seed ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40 & 1 == 1
}

/// Writes of a changed slot are cut at many places, with all earlier ones kept or half of them lost.
#[test]
fn volume_is_sound_after_any_power_cut_and_a_repair() {
    const CUTS: usize = 60;
    const JUDGED: usize = 40;
    let start = volume();
    let mut after = start.clone();
    rewrite(&mut after);
    let log = std::mem::take(&mut after.log);
    let (mut damaged, mut repaired) = (0, Vec::new());
    for cut in 0..CUTS {
        for seed in [None, Some(1), Some(2)] {
            let end = log.len() * (cut + 1) / CUTS;
            let mut volume = start.clone();
            for (n, (number, sector)) in log[..end].iter().enumerate() {
                // The last ones before the cut are in the disk's cache.
                if seed.is_none_or(|seed| survives(seed + cut as u64 * 8, n)) {
                    volume.set(*number, *sector);
                }
            }
            let context = format!("after {end} of {} writes, {seed:?}", log.len());
            let findings = volume.repair();
            damaged += usize::from(findings.has_damage());
            assert!(findings.damaged.is_empty() && findings.restored.is_empty(), "{context}: {findings}");
            assert_sound(&volume, &context);
            repaired.push((volume, context));
        }
    }
    assert!(damaged > CUTS, "only {damaged} of {} states were damaged", repaired.len());
    let step = repaired.len() / JUDGED;
    repaired.iter().step_by(step).for_each(|(volume, context)| volume.judge(context));
}

mod damage;
