use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::boot::uefi_loader;
use krazy_boot::disk::layout::{DiskLayout, DiskSignature, PartitionSizes, StateSectors, area_of_slot};
use krazy_boot::disk::selector::Selector;
use krazy_boot::image::ext4::{self, Ext4Options};
use krazy_boot::image::fat32::{self, BootFile, VolumeOptions};
use krazy_boot::image::squashfs::{self as writer, SquashfsOptions};
use krazy_boot::image::tree::{Content, Entry, Tree};
use krazy_boot::image::window::Window;
use krazy_boot::manifest::{DISK_FORMAT, FORMAT, Kernel, Program, Service, ServiceSettings};
use proptest::prelude::*;

use super::*;

fn layout() -> DiskLayout {
    let sizes = PartitionSizes { disk: Bytes::mib(101), boot: Bytes::mib(64), root: Bytes::mib(2) };
    DiskLayout::new(sizes).unwrap()
}

/// A kernel's setup header with a version text, and a little code.
fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; 4 * 512 + 1600];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0x1f1, &[3]);
    put(0x1f4, &100u32.to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x202, b"HdrS");
    put(0x206, &0x020fu16.to_le_bytes());
    put(0x20e, &0x300u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x20_0000u32.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x100_0000u64.to_le_bytes());
    put(0x260, &0x100_0000u32.to_le_bytes());
    put(0x500, b"6.12.57 (builder) #1 SMP\0");
    bytes
}

fn manifest() -> Manifest {
    let program = |name: &str| Program {
        package: name.into(),
        version: "1.2.3".into(),
        source: "path".into(),
        sha256: "00".repeat(32),
    };
    let service = |name: &str| Service {
        name: name.into(),
        program: program("weather-station"),
        settings: ServiceSettings::default(),
        checks: Default::default(),
    };
    Manifest {
        format: FORMAT,
        disk_format: DISK_FORMAT,
        name: "weather".into(),
        version: "0.4.0".into(),
        board: "x86_64".into(),
        build_id: "ab".repeat(32),
        hostname: "roof".into(),
        kernel: Kernel { release: "6.12.57".into(), origin: "debian".into(), sha256: "22".repeat(32) },
        init: program("krazy-init"),
        services: vec![service("rain"), service("wind")],
        network: Default::default(),
        hosts: Default::default(),
        instructions: Vec::new(),
        sysctl: Default::default(),
        boot_writable: false,
        modules: Vec::new(),
    }
}

/// A disk as `cargo krazy image` makes it: slot A filled, slot B empty.
fn disk() -> File {
    let layout = layout();
    let file = tempfile::tempfile().unwrap();
    file.set_len(layout.disk().bytes().0).unwrap();
    let signature = DiskSignature(0x1a2b_3c4d);
    file.write_all_at(&Mbr { signature, layout }.encode(&[0xeb, 0xfe]).unwrap(), 0).unwrap();
    for write in Selector::confirmed(Slot::A).writes(StateSectors::CURRENT) {
        file.write_all_at(&write.bytes, write.at.bytes().0).unwrap();
    }
    let line = CommandLine::for_slot(Slot::A, signature, ["quiet"]).unwrap();
    let files = [
        (boot_file::KERNEL, kernel()),
        (boot_file::INITRAMFS, vec![7; 3000]),
        (boot_file::CMDLINE, format!("{line}\n").into_bytes()),
    ];
    let mut files = files
        .map(|(name, content)| BootFile { name: Slot::A.boot_file(name), content: Content::Bytes(content) })
        .to_vec();
    let loader = Content::Bytes(uefi_loader::X86_64.file());
    files.push(BootFile { name: format!("{}/BOOTX64.EFI", uefi_loader::DIRECTORY), content: loader });
    let options = VolumeOptions { volume_id: 1, label: *b"BOOT       ", mtime: 1_000_000_000 };
    fat32::write(Window::of(&file, layout.boot), &options, &files).unwrap();
    let mut tree = Tree::new();
    tree.add(&format!("/{}", manifest::PATH), Entry::file(Content::Bytes(manifest().to_json())), "test")
        .unwrap();
    let options = SquashfsOptions { level: 3, mtime: 0, limit: Bytes::mib(2) };
    writer::write(&tree, &options, Window::of(&file, layout.root_a), None).unwrap();
    let options = Ext4Options { uuid: [1; 16], label: "data", mtime: 0 };
    ext4::write(Window::of(&file, layout.data), &options, &Tree::new()).unwrap();
    for write in slot_area::refresh(&mut &file, Slot::A).unwrap() {
        file.write_all_at(&write.bytes, write.at.bytes().0).unwrap();
    }
    file
}

fn report(file: &File) -> Report {
    examine(&mut &*file, Path::new("a.img"), layout().disk().bytes()).unwrap()
}

#[test]
fn a_new_image_is_told_completely() {
    let report = report(&disk());
    let text = report.to_string();
    for line in [
        "a.img: 101 MiB, disk signature 1a2b3c4d\n",
        "  1  boot       fat32            1 MiB     64 MiB    6.5 KiB\n",
        "  3  root B     empty           67 MiB      2 MiB          -\n",
        "\nUEFI: loader 1, first partition of type 0x0c, which some firmware does not start\nselector: slot A is confirmed\n",
        "\nslot A: weather 0.4.0 for x86_64, host name roof\n",
        "  kernel      6.12.57 (3.6 KiB, debian)\n",
        "  initramfs   2.9 KiB\n",
        "  cmdline     root=PARTUUID=1a2b3c4d-02 krazy.slot=a quiet\n",
        "  load table  loads these files\n",
        "  init        krazy-init 1.2.3 (path)\n",
        "  services    rain  weather-station 1.2.3 (path)\n              wind  weather-station",
        "\nslot B: empty\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("problem"), "{text}");
    let data = &report.partitions[3];
    assert_eq!(data.file_system, Some("ext4"));
    assert!(data.used.unwrap() > Bytes::mib(1) && data.used.unwrap() < data.bytes, "{:?}", data.used);
    let root = &report.partitions[1];
    assert!(root.used.unwrap() < Bytes::kib(8), "{:?}", root.used);
}

#[test]
fn the_json_names_slots_and_services() {
    let json = serde_json::to_value(report(&disk())).unwrap();
    assert_eq!(json["selector"]["confirmed"], "a");
    assert_eq!(json["slots"][0]["manifest"]["services"][1]["name"], "wind");
    assert_eq!(json["slots"][0]["kernel"]["release"], "6.12.57");
    assert_eq!(json["slots"][0]["load_table"], "current");
    assert_eq!(json["slots"][1]["empty"], true);
    assert_eq!(json["partitions"][0]["bytes"], 64 << 20);
    assert_eq!(json["uefi_loader"], 1);
}

#[test]
fn trials_and_damage_are_told() {
    let file = disk();
    let armed = Selector::confirmed(Slot::A).arm(Slot::B);
    for write in armed.writes(StateSectors::CURRENT) {
        file.write_all_at(&write.bytes, write.at.bytes().0).unwrap();
    }
    assert!(report(&file).to_string().contains("slot B is tried at the next start"));
    file.write_all_at(&[0; 512], StateSectors::CURRENT.spare.bytes().0).unwrap();
    let text = report(&file).to_string();
    assert!(text.contains("problem: one of its two copies is damaged"), "{text}");
    file.write_all_at(&[0; 512], StateSectors::CURRENT.selector.bytes().0).unwrap();
    assert!(report(&file).to_string().contains("selector: unreadable ("));

    // The bank after the table: the kernel's real-mode part as it would be loaded.
    file.write_all_at(b"x", (area_of_slot(Slot::A).start.bytes() + Bytes(4 * 512)).0).unwrap();
    assert_eq!(report(&file).slots[0].load_table, LoadTableState::Stale);
    file.write_all_at(&[0; 512], area_of_slot(Slot::A).start.bytes().0).unwrap();
    assert_eq!(report(&file).slots[0].load_table, LoadTableState::Missing);

    file.write_all_at(&[0xff; 64], layout().root_a.start.bytes().0 + 96).unwrap();
    let slot = &report(&file).slots[0];
    assert!(slot.manifest.is_none() && slot.kernel.is_some());
    assert!(slot.problems[0].starts_with("the SquashFS is damaged"), "{:?}", slot.problems);
}

#[test]
fn other_inputs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.img");
    let message = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = inspect(&path).unwrap_err();
        assert_eq!(error.exit(), Exit::Image);
        error.to_string().replace(&path.display().to_string(), "x.img")
    };
    assert_eq!(message(b"hello"), "`x.img` is not a cargo krazy disk: it has 5 B");
    let text = message(&[0; 4096]);
    assert!(text.starts_with("`x.img` is not a cargo krazy disk: "), "{text}");
    let mut start = vec![0; 1 << 20];
    disk().read_exact_at(&mut start, 0).unwrap();
    assert_eq!(message(&start), "`x.img` is cut off: it has 1 MiB, its partitions need 101 MiB");
    assert!(inspect(directory.path()).unwrap_err().to_string().ends_with("is a directory"));
    let error = inspect(Path::new("/nowhere.img")).unwrap_err().to_string();
    assert!(error.starts_with("failed to open `/nowhere.img`: "), "{error}");
}

/// A disk with some bytes changed.
struct Damaged<'a> {
    disk: Cursor<&'a [u8]>,
    changes: &'a [(u64, u8)],
}

impl Read for Damaged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let start = self.disk.position();
        let read = self.disk.read(buffer)?;
        for (at, value) in self.changes {
            if let Some(byte) = at.checked_sub(start).and_then(|at| buffer[..read].get_mut(at as usize)) {
                *byte = *value;
            }
        }
        Ok(read)
    }
}

impl Seek for Damaged<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.disk.seek(to)
    }
}

/// Where damage matters: sectors before partition 1, FAT and root directory, superblocks and tables.
fn place() -> impl Strategy<Value = u64> {
    let layout = layout();
    let near = |extent: Extent, len: u64| {
        let start = extent.start.bytes().0;
        start..start + len
    };
    prop_oneof![
        0..4096u64,
        0..1u64 << 20,
        near(layout.boot, 4096),
        near(layout.boot, 256 << 10),
        near(layout.root_a, 100),
        near(layout.root_a, 8192),
        near(layout.data, 2048),
    ]
}

#[test]
fn a_trial_that_a_launcher_starts_is_told() {
    let armed = Selector::confirmed(Slot::A).arm(Slot::B);
    let copies = SelectorCopies { primary: Ok(armed), spare: Ok(Selector { trial: None, ..armed }) };
    let mut report = selector(&copies);
    report.config_txt = Some(Slot::A);
    let plain = "selector: slot A is confirmed, slot B is tried at the next start; config.txt loads the kernel of slot A";
    assert_eq!(report.to_string(), plain);
    report.launcher = true;
    assert_eq!(report.to_string(), format!("{plain}, which starts that of slot B"));
}

proptest! {
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((place(), any::<u8>()), 1..40)) {
        static DISK: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let mut bytes = vec![0; layout().disk().bytes().0 as usize];
            disk().read_exact_at(&mut bytes, 0).unwrap();
            bytes
        });
        let mut disk = Damaged { disk: Cursor::new(&DISK), changes: &changes };
        if let Ok(report) = examine(&mut disk, Path::new("a.img"), Bytes(DISK.len() as u64)) {
            let _text = report.to_string();
        }
    }

    #[test]
    fn junk_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let len = Bytes(bytes.len() as u64);
        prop_assert!(examine(&mut Cursor::new(bytes), Path::new("a.img"), len).is_err());
    }
}
