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
    let files =
        [file("a-vmlinuz", 3_000_001), file("a-initramfs", 0), file("A long name.bin", 2048), file("x", 1)];
    let loader = file("EFI/BOOT/BOOTX64.EFI", 100_000);
    let image = volume(Bytes::mib(256), &[&files[..], std::slice::from_ref(&loader)].concat()).unwrap();
    let partition = Extent { start: Sectors(0), len: Sectors(256 << 11) };
    let mut volume = BootFat::open(&image, Bytes(0), partition).unwrap();
    let names: Vec<_> = volume.files().unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names, files.each_ref().map(|file| file.name.as_str()));
    for BootFile { name, content } in files.iter().chain([&loader]) {
        let Content::Bytes(bytes) = content else { panic!("in memory") };
        let found = volume.find_path(name).unwrap();
        assert_eq!(volume.extents(&found).unwrap().len(), usize::from(!bytes.is_empty()));
        assert!(volume.read(&found, Bytes::mib(4)).unwrap() == *bytes, "{name}");
    }
    assert!(volume.find_path("EFI/BOOT").is_err() && volume.find_path("EFI/x/BOOTX64.EFI").is_err());
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
        "`b-vmlinuz` does not fit on /boot: with it the files need 70 MiB, there is room for 63 MiB"
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
    for name in ["x:y", "", "x.", "/x", "EFI//x", "EFI./x", "EFI/", "a\\b"] {
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
