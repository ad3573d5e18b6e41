use std::io::{Cursor, Write};

use super::*;
use crate::boot::bzimage::tests::kernel;
use crate::disk::layout::{DiskLayout, DiskSignature, PartitionSizes};
use crate::disk::ordered_write::write_in_order;

fn extent(start: u32, len: u32) -> Extent {
    Extent { start: Sectors(start), len: Sectors(len) }
}

/// A kernel of 3 setup sectors and 1600 bytes, in pieces of 2, 3 and 3 sectors; an initramfs of 1000 bytes.
fn files() -> BootFiles {
    let kernel_start = kernel(3, 1600);
    BootFiles {
        kernel_size: Bytes(kernel_start.len() as u64),
        kernel_start,
        kernel: vec![extent(5000, 2), extent(6000, 3), extent(7000, 3)],
        initramfs_size: Bytes(1000),
        initramfs: vec![extent(8000, 8)],
        command_line: CommandLine::parse("root=x quiet").unwrap(),
    }
}

#[test]
fn files_are_loaded_to_the_addresses_of_the_boot_protocol() {
    let area = SlotArea::new(Slot::B, Bank::First, &files()).unwrap();
    assert_eq!(area.table.stack, FarPointer { segment: 0x1000, offset: 0xe000 });
    assert_eq!(area.table.start, FarPointer { segment: 0x1020, offset: 0 });
    let loads: Vec<_> =
        area.table.loads.iter().map(|l| (l.destination, l.source.start.0, l.source.len.0)).collect();
    let expected = [
        (0x1_0000, 1028, 3),
        (0x1_e000, 1031, 1),
        // 1600 bytes are 4 sectors, the first of them in the middle of the second piece.
        (0x10_0000, 6001, 2),
        (0x10_0400, 7000, 2),
        // Above pref_address + init_size = 0x4a01000.
        (0x4b0_0000, 8000, 2),
    ];
    assert_eq!(loads, expected);

    let low = &area.bank.bytes;
    assert_eq!(low.len(), 4 * 512);
    assert_eq!(low[1536..1549], *b"root=x quiet\0");
    let long = |at: usize| u32::from_le_bytes([low[at], low[at + 1], low[at + 2], low[at + 3]]);
    assert_eq!((long(0x218), long(0x21c), long(0x228)), (0x4b0_0000, 1000, 0x1_e000));
}

#[test]
fn boot_files_that_do_not_fit_are_named() {
    let refused = |change: &dyn Fn(&mut BootFiles)| {
        let mut files = files();
        change(&mut files);
        let error = SlotArea::new(Slot::A, Bank::First, &files).and_then(|area| area.writes()).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    assert_eq!(
        refused(&|f| f.kernel_start = vec![0; 40_000]),
        "the kernel of slot A cannot be booted: this is not an x86 Linux kernel: the setup header is missing"
    );
    assert_eq!(
        refused(&|f| {
            f.kernel_start = kernel(70, 1600);
            f.kernel_size = Bytes(f.kernel_start.len() as u64);
        }),
        "the real-mode part of slot A's kernel has 35 KiB, there is room for 32 KiB"
    );
    assert_eq!(
        refused(&|f| f.kernel_start[0x238..0x23c].copy_from_slice(&10u32.to_le_bytes())),
        "the command line of slot A has 12 bytes, this kernel takes 10"
    );
    assert_eq!(
        refused(&|f| f.initramfs_size = Bytes::gib(2)),
        "the initramfs of slot A (2 GiB, loaded at 0x4b00000) is empty or ends above 0x7fffffff, \
         the highest address its kernel reaches"
    );
    assert!(refused(&|f| f.initramfs_size = Bytes(0)).contains("is empty"));
    assert!(refused(&|f| f.kernel_start[0x258..0x260].fill(0xff)).contains("0xffffffffffffffff"));
    assert_eq!(
        refused(&|f| {
            f.initramfs_size = Bytes(300 * 512);
            f.initramfs = (0..300).map(|n| extent(9000 + 2 * n, 1)).collect();
        }),
        "slot A cannot be booted: the boot files are in 304 pieces, a load table holds 168; \
         write them again to defragment"
    );
    assert_eq!(
        refused(&|f| f.kernel.truncate(1)),
        "slot A cannot be booted: a boot file has 2 sectors on disk, 7 are needed"
    );
}

/// A disk with slot A's files on `/boot`, everything before partition 1 but the MBR still empty.
fn disk() -> Cursor<Vec<u8>> {
    let sizes = PartitionSizes { boot: Bytes::mib(64), root: Bytes::mib(1), ..PartitionSizes::default() };
    let layout = DiskLayout::new(sizes).unwrap();
    let mbr = Mbr { signature: DiskSignature(1), layout }.encode(&[]).unwrap();
    let mut boot = Cursor::new(vec![0; layout.boot.len.bytes().0 as usize]);
    fatfs::format_volume(&mut boot, fatfs::FormatVolumeOptions::new().bytes_per_cluster(512)).unwrap();
    let mut disk = mbr.to_vec();
    disk.resize(layout.boot.start.bytes().0 as usize, 0);
    disk.extend(boot.into_inner());
    let mut disk = Cursor::new(disk);
    for (name, content) in
        [("a-vmlinuz", kernel(3, 1600)), ("a-initramfs", vec![7; 900]), ("a-cmdline.txt", b"one\n".to_vec())]
    {
        write_boot(&mut disk, name, &content);
    }
    disk
}

fn write_boot(disk: &mut Cursor<Vec<u8>>, name: &str, content: &[u8]) {
    let mut boot = Cursor::new(disk.get_mut().split_off(1 << 20));
    {
        let fs = fatfs::FileSystem::new(&mut boot, fatfs::FsOptions::new()).unwrap();
        let root = fs.root_dir();
        let mut file = root.create_file(name).unwrap();
        file.truncate().unwrap();
        file.write_all(content).unwrap();
    }
    disk.get_mut().extend(boot.into_inner());
}

fn table_of(disk: &Cursor<Vec<u8>>) -> LoadTable {
    LoadTable::decode(&disk.get_ref()[64 * 512..]).unwrap()
}

/// The command line that the table on the disk would load.
fn loaded_command_line(disk: &Cursor<Vec<u8>>) -> String {
    let start = table_of(disk).loads[1].source.start.bytes().0 as usize;
    let text = &disk.get_ref()[start..start + 512];
    String::from_utf8(text.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
}

#[test]
fn refreshed_area_is_current_until_boot_changes() {
    let mut disk = disk();
    let writes = refresh(&mut disk, Slot::A).unwrap();
    write_in_order(&mut disk, &writes, |_| Ok(())).unwrap();
    assert_eq!(Bank::of(&table_of(&disk), Slot::A), Some(Bank::First));
    assert_eq!(refresh(&mut disk, Slot::A).unwrap(), []);

    write_boot(&mut disk, "a-cmdline.txt", b"another line\n");
    let writes = refresh(&mut disk, Slot::A).unwrap();
    write_in_order(&mut disk, &writes, |_| Ok(())).unwrap();
    assert_eq!(loaded_command_line(&disk), "another line");
    assert_eq!(Bank::of(&table_of(&disk), Slot::A), Some(Bank::Second));
    assert_eq!(refresh(&mut disk, Slot::A).unwrap(), []);
}

#[test]
fn power_cut_during_a_refresh_keeps_the_old_or_the_new_command_line() {
    let mut before = disk();
    let writes = refresh(&mut before, Slot::A).unwrap();
    write_in_order(&mut before, &writes, |_| Ok(())).unwrap();
    write_boot(&mut before, "a-cmdline.txt", b"two");
    let writes = refresh(&mut before, Slot::A).unwrap();
    let sectors: Vec<SectorWrite> = writes
        .iter()
        .flat_map(|write| {
            write
                .bytes
                .chunks(512)
                .zip(write.at.0..)
                .map(|(bytes, at)| SectorWrite { at: Sectors(at), bytes: bytes.to_vec() })
        })
        .collect();
    for done in 0..=sectors.len() {
        let mut disk = before.clone();
        write_in_order(&mut disk, &sectors[..done], |_| Ok(())).unwrap();
        let expected = if done == sectors.len() { "two" } else { "one" };
        assert_eq!(loaded_command_line(&disk), expected, "after {done} of {} sectors", sectors.len());
    }
}

#[test]
fn missing_boot_files_are_named() {
    let mut disk = disk();
    let error = refresh(&mut disk, Slot::B).unwrap_err();
    assert_eq!(error.to_string(), "there is no `b-vmlinuz` on the boot partition");
    write_boot(&mut disk, "a-cmdline.txt", "naïve".as_bytes());
    let error = refresh(&mut disk, Slot::A).unwrap_err();
    assert_eq!(error.to_string(), "the command line of slot A cannot be used");
    let error = refresh(&mut Cursor::new(vec![0; 512]), Slot::A).unwrap_err();
    assert_eq!(error.to_string(), "sector 0 holds no partition table");
    let error = refresh(&mut Cursor::new(vec![]), Slot::A).unwrap_err();
    assert_eq!(error.to_string(), "failed to read the disk at sector 0");
}
