use std::io::{Cursor, Write};
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// A FAT32 file system of 512-byte clusters made by fatfs, at 5 sectors into a file.
/// `b.txt` is written between two parts of `a-vmlinuz`, so that the latter is in two pieces.
const OFFSET: Bytes = Bytes(5 * 512);
const PARTITION: Extent = Extent { start: Sectors(2048), len: Sectors(64 * 2048) };

fn content(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 512 * 31 + n * seed) as u8).collect()
}

fn image() -> Vec<u8> {
    let mut volume = Cursor::new(vec![0; PARTITION.len.bytes().0 as usize]);
    let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
    fatfs::format_volume(&mut volume, options.volume_label(*b"KRAZY      ")).unwrap();
    write_files(fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new()).unwrap());
    let mut file = vec![0xee; OFFSET.0 as usize];
    file.extend(volume.into_inner());
    file
}

fn write_files(fs: fatfs::FileSystem<&mut Cursor<Vec<u8>>>) {
    let root = fs.root_dir();
    root.create_dir("directory").unwrap();
    let mut kernel = root.create_file("a-vmlinuz").unwrap();
    kernel.write_all(&content(3000, 3)).unwrap();
    kernel.flush().unwrap();
    root.create_file("b.txt").unwrap().write_all(b"short\n").unwrap();
    kernel.write_all(&content(2000, 5)).unwrap();
    root.create_file("empty").unwrap();
}

fn open(image: &[u8]) -> BootFat<Cursor<&[u8]>> {
    BootFat::open(Cursor::new(image), OFFSET, PARTITION).unwrap()
}

#[test]
fn files_are_found_with_their_content_and_sectors() {
    let image = image();
    let mut fat = open(&image);
    let names: Vec<_> = fat.files().unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["a-vmlinuz", "b.txt", "empty"]);
    let kernel = fat.find("A-VMLINUZ").unwrap();
    assert_eq!(fat.find(&kernel.short_name).unwrap(), kernel);
    assert_eq!(kernel.size, Bytes(5000));
    let expected = [content(3000, 3), content(2000, 5)].concat();
    assert_eq!(fat.read(&kernel, Bytes(5000)).unwrap(), expected);
    assert_eq!(fat.read_start(&kernel, Bytes(600)).unwrap(), expected[..600]);

    let extents = fat.extents(&kernel).unwrap();
    assert_eq!(extents.len(), 2, "{extents:?}");
    let mut raw: Vec<u8> = Vec::new();
    for extent in &extents {
        let start = OFFSET.0 + (extent.start - PARTITION.start).bytes().0;
        raw.extend(&image[start as usize..(start + extent.len.bytes().0) as usize]);
    }
    assert_eq!(raw.len(), 5120, "only as many sectors as the length needs");
    assert_eq!(raw[..5000], expected[..]);
    let empty = fat.find("empty").unwrap();
    assert_eq!(fat.extents(&empty).unwrap(), []);
    assert_eq!(fat.read(&empty, Bytes(0)).unwrap(), b"");
}

/// mkfs.fat and mcopy make the file system.
#[test]
fn file_systems_of_mkfs_fat_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("fat");
    let kernel = dir.path().join("kernel");
    std::fs::write(&kernel, content(100_000, 7)).unwrap();
    std::fs::File::create(&volume).unwrap().set_len(PARTITION.len.bytes().0).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(&dir).output();
        let output = output.unwrap_or_else(|error| panic!("{program} judges the FAT reader: {error}"));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("mkfs.fat", &["-F", "32", "-s", "1", "fat"]);
    let long = "a rather long name, longer than one entry holds.initramfs";
    run("mcopy", &["-i", "fat", "kernel", &format!("::{long}")]);
    run("mcopy", &["-i", "fat", "kernel", "::KERNEL.IMG"]);
    let file = std::fs::File::open(&volume).unwrap();
    let mut fat = BootFat::open(file, Bytes(0), PARTITION).unwrap();
    for name in [long, "kernel.img"] {
        let found = fat.find(name).unwrap();
        assert!(fat.read(&found, Bytes::mib(1)).unwrap() == content(100_000, 7), "{name}");
        assert_eq!(fat.extents(&found).unwrap().len(), 1);
    }
}

#[test]
fn errors_name_the_file_and_the_defect() {
    let image = image();
    let mut fat = open(&image);
    let missing = fat.find("a-initramfs").unwrap_err();
    assert_eq!(missing.to_string(), "there is no `a-initramfs` on the boot partition");
    let kernel = fat.find("a-vmlinuz").unwrap();
    let long = fat.read(&kernel, Bytes(4096)).unwrap_err();
    assert_eq!(long.to_string(), "`a-vmlinuz` on the boot partition has 4.9 KiB, at most 4 KiB are expected");
    let grown = FatFile { size: Bytes(9000), ..kernel };
    let chain = fat.extents(&grown).unwrap_err();
    assert_eq!(
        chain.to_string(),
        "the file system of the boot partition is damaged: the chain of `a-vmlinuz` is broken"
    );
    let error = BootFat::open(Cursor::new(&image), Bytes(0), PARTITION).unwrap_err();
    assert_eq!(error.to_string(), "the boot partition is not a FAT32 file system: no boot signature");
    let small = Extent { len: Sectors(100), ..PARTITION };
    let error = BootFat::open(Cursor::new(&image), OFFSET, small).unwrap_err();
    assert!(error.to_string().ends_with("its areas do not fit in the partition"), "{error}");
    let error = BootFat::open(Cursor::new(&image[..600]), Bytes(512), PARTITION).unwrap_err();
    assert_eq!(error.to_string(), "failed to read sector 0 of the boot partition");
}

/// Of a partition whose first sector is zeroed, garbage or that of another file system, or whose copy is: the other record is
/// used, and fsck.fat finds nothing after the repair.
#[test]
fn boot_record_and_its_copy_restore_each_other() {
    let mut sound = image()[OFFSET.0 as usize..].to_vec();
    let open = |image: &[u8]| BootFat::open(Cursor::new(image.to_vec()), Bytes(0), PARTITION);
    // fatfs writes directories that do not pass the check.
    let repair = open(&sound).unwrap().check(None).unwrap();
    assert!(!repair.findings.boot_record, "{}", repair.findings);
    repair.write(&mut Cursor::new(&mut sound), |_| Ok(())).unwrap();
    assert!(open(&sound).unwrap().check(None).unwrap().is_empty());
    for (sector, fill) in [(0, 0), (0, 0x5a), (6, 0), (6, 0x5a)] {
        let mut image = sound.clone();
        image[sector * SECTOR..][..SECTOR].fill(fill);
        let mut fat = open(&image).unwrap();
        let kernel = fat.find("a-vmlinuz").unwrap();
        assert_eq!(fat.read(&kernel, Bytes(5000)).unwrap().len(), 5000);
        let repair = fat.check(None).unwrap();
        assert_eq!(repair.findings.to_string(), "the boot record and its copy made equal");
        assert!(repair.findings.has_damage());
        repair.write(&mut Cursor::new(&mut image), |_| Ok(())).unwrap();
        assert!(image == sound, "sector {sector} filled with {fill:#x}");
    }
    let mut image = sound.clone();
    for sector in [0, 6] {
        image[sector * SECTOR..][..SECTOR].fill(0);
    }
    let error = open(&image).unwrap_err();
    assert_eq!(error.to_string(), "the boot partition is not a FAT32 file system: no boot signature");
    // The kernel marks the first record of a mounted file system; both are clean afterwards.
    let mut image = sound.clone();
    image[65] |= 1;
    let repair = open(&image).unwrap().check(None).unwrap();
    assert!(!repair.findings.has_damage() && repair.findings.dirty, "{}", repair.findings);
    repair.write(&mut Cursor::new(&mut image), |_| Ok(())).unwrap();
    assert!(image == sound);
}

fn read_everything(image: &[u8]) -> Result<(), FatError> {
    let mut fat = BootFat::open(Cursor::new(image), OFFSET, PARTITION)?;
    for file in fat.files()? {
        for extent in fat.extents(&file)? {
            assert!(extent.start >= PARTITION.start && extent.end() <= PARTITION.end());
        }
        let _ = fat.read(&file, Bytes::mib(80));
    }
    Ok(())
}

#[test]
fn damaged_file_systems_never_panic() {
    // A file system of which the changed parts count: boot record, FAT, root directory.
    let image = image();
    let fat = open(&image);
    let offset = OFFSET.0 as usize;
    let at_fat = offset + fat.areas.fat_start as usize * SECTOR;
    let at_root = offset + fat.areas.data_start as usize * SECTOR;
    let bytes = prop::collection::vec(any::<u8>(), 1..64);
    let change = (0..3usize, 0..900usize, bytes);
    let image = std::cell::RefCell::new(image);
    proptest!(|(changes in prop::collection::vec(change, 1..4))| {
        let mut image = image.borrow_mut();
        let mut undo = Vec::new();
        for (area, at, bytes) in changes {
            // The boot record is one sector.
            let start = match area { 0 => offset + at % (512 - 64), 1 => at_fat + at, _ => at_root + at };
            let range = start..start + bytes.len();
            undo.push((range.clone(), image[range.clone()].to_vec()));
            image[range].copy_from_slice(&bytes);
        }
        let _ = read_everything(&image);
        for (range, bytes) in undo.into_iter().rev() {
            image[range].copy_from_slice(&bytes);
        }
    });
    proptest!(|(record in prop::collection::vec(any::<u8>(), 0..2000))| {
        let _ = BootFat::open(Cursor::new(record), Bytes(0), PARTITION);
    });
}
