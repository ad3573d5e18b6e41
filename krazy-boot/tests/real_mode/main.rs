//! The boot sector in real mode, under SeaBIOS in QEMU: the slot that boots, and the loaded files.

#![allow(clippy::unwrap_used, reason = "clippy takes only the test functions themselves for tests")]

mod disk;
mod machine;
mod payload;

use std::time::{Duration, Instant};

use disk::{Disk, content};
use krazy_boot::boot::load_table::{FIRST_SECTOR_ENTRIES, LoadTable};
use krazy_boot::disk::layout::{Extent, StateSectors, area_of_slot};
use krazy_boot::disk::selector::{Selector, SlotState};
use krazy_boot::disk::size::Sectors;
use krazy_boot::disk::slot::Slot;
use machine::{Attached, Machine, boot};

#[test]
fn confirmed_slot_boots_with_its_files_and_command_line() {
    let disk = Disk::new();
    let output = boot(&disk, Attached::Ide);
    assert_eq!(output.trim_start_matches('A').trim_end(), disk.line("slot A"), "{output:?}");
    assert!(output.starts_with('A'), "the slot's letter is printed first: {output:?}");
    disk.select(Selector::confirmed(Slot::B));
    assert!(boot(&disk, Attached::Ide).contains(&disk.line("slot B")));
}

#[test]
fn trial_boots_once_and_a_reset_boots_the_confirmed_slot() {
    let disk = Disk::with(&content(4096, 1), &content(4096, 2), ["slot A", "reset from slot B"]);
    let armed = Selector::confirmed(Slot::A).arm(Slot::B);
    disk.select(armed);
    let output = boot(&disk, Attached::Ide);
    let (trial, after) = (disk.line("reset from slot B"), disk.line("slot A"));
    let (first, second) = (output.find(&trial), output.find(&after));
    assert!(first.is_some() && first < second, "{output:?}");
    assert_eq!(output.matches("payload").count(), 2, "{output:?}");
    let copies = disk.selectors();
    let selector = copies.selector().unwrap();
    assert_eq!(selector, Selector { trial: None, ..armed });
    assert_eq!(selector.slot_state(Slot::A), SlotState::Reverted);
    assert!(!copies.needs_repair(), "clearing the trial keeps the checksum valid");
}

#[test]
fn trial_that_cannot_be_cleared_on_disk_does_not_boot() {
    let disk = Disk::new();
    disk.select(Selector::confirmed(Slot::A).arm(Slot::B));
    assert!(boot(&disk, Attached::VirtioReadOnly).contains(&disk.line("slot A")));
    assert_eq!(disk.selectors().selector().unwrap().trial, Some(Slot::B));
    assert!(boot(&disk, Attached::Virtio).contains(&disk.line("slot B")));
}

#[test]
fn trial_that_cannot_be_loaded_falls_back_to_the_confirmed_slot() {
    let disk = Disk::new();
    disk.select(Selector::confirmed(Slot::A).arm(Slot::B));
    disk.overwrite(area_of_slot(Slot::B).start, &[0; 512]);
    let output = boot(&disk, Attached::Ide);
    assert!(output.starts_with("Bkrazy: TA"), "{output:?}");
    assert!(output.contains(&disk.line("slot A")), "{output:?}");
    assert_eq!(disk.selectors().selector().unwrap().trial, None);
}

#[test]
fn spare_selector_and_then_slot_a_replace_a_lost_selector() {
    let disk = Disk::new();
    disk.select(Selector::confirmed(Slot::B));
    disk.overwrite(StateSectors::CURRENT.selector, &[0x5a; 512]);
    assert!(boot(&disk, Attached::Ide).contains(&disk.line("slot B")));
    // A magic number with invalid content.
    let mut invalid = [0xee; 512];
    invalid[..4].copy_from_slice(b"KZSL");
    disk.overwrite(StateSectors::CURRENT.selector, &invalid);
    assert!(boot(&disk, Attached::Ide).contains(&disk.line("slot B")));
    disk.overwrite(StateSectors::CURRENT.spare, &[0; 512]);
    assert!(boot(&disk, Attached::Ide).contains(&disk.line("slot A")));
    // A slot A that was only assumed need not exist.
    disk.overwrite(area_of_slot(Slot::A).start, &[0; 512]);
    assert!(boot(&disk, Attached::Ide).contains(&disk.line("slot B")));
}

#[test]
fn confirmed_slot_without_a_table_gives_way_until_it_is_repaired() {
    let disk = Disk::new();
    let confirmed = Selector::confirmed(Slot::B);
    disk.select(confirmed);
    let table = table_sector(&disk, Slot::B);
    disk.overwrite(area_of_slot(Slot::B).start, &[0; 512]);
    for _ in 0..2 {
        let output = boot(&disk, Attached::Ide);
        assert!(output.starts_with("Bkrazy: TA"), "{output:?}");
        assert!(output.contains(&disk.line("slot A")), "{output:?}");
        assert_eq!(disk.selectors().selector().unwrap(), confirmed, "nothing is written");
    }
    disk.overwrite(area_of_slot(Slot::B).start, &table);
    assert!(boot(&disk, Attached::Ide).contains(&disk.line("slot B")));
}

#[test]
fn machine_without_a_complete_slot_is_reset_and_tries_again() {
    let disk = Disk::new();
    let table = table_sector(&disk, Slot::A);
    for slot in Slot::ALL {
        disk.overwrite(area_of_slot(slot).start, &[0; 512]);
    }
    let mut machine = Machine::start(&disk, Attached::Ide);
    machine.expect("Akrazy: TBkrazy: T");
    let first = Instant::now();
    let seen = machine.expect("Akrazy: TBkrazy: TAkrazy: TBkrazy: T");
    assert!(!seen.contains("payload"), "{seen:?}");
    let waited = first.elapsed();
    assert!(waited >= Duration::from_secs(4), "the message can be read before the reset: {waited:?}");
    // The next attempt finds the repaired table.
    disk.overwrite(area_of_slot(Slot::A).start, &table);
    machine.expect(&disk.line("slot A"));
}

/// Returns the first sector of a slot's table.
fn table_sector(disk: &Disk, slot: Slot) -> Vec<u8> {
    read_table(disk, slot)[..512].to_vec()
}

#[test]
fn sectors_beyond_the_end_of_the_disk_print_r() {
    let disk = Disk::new();
    let mut table = LoadTable::decode(&read_table(&disk, Slot::A)).unwrap();
    table.loads.last_mut().unwrap().source = Extent { start: Sectors(160 * 2048 - 1), len: Sectors(2) };
    disk.overwrite(area_of_slot(Slot::A).start, &table.encode().unwrap());
    let output = boot(&disk, Attached::Ide);
    assert!(output.starts_with("Akrazy: RB"), "{output:?}");
    assert!(output.contains(&disk.line("slot B")), "{output:?}");
}

fn read_table(disk: &Disk, slot: Slot) -> Vec<u8> {
    let all = std::fs::read(disk.path()).unwrap();
    all[area_of_slot(slot).start.bytes().0 as usize..][..2048].to_vec()
}

#[test]
fn read_that_fails_once_is_tried_again() {
    let disk = Disk::new();
    let table = LoadTable::decode(&read_table(&disk, Slot::A)).unwrap();
    let sector = table.loads[3].source.start.0;
    let output = boot(&disk, Attached::FailingRead { sector, once: true });
    assert!(output.contains(&disk.line("slot A")) && !output.contains("krazy"), "{output:?}");
    let output = boot(&disk, Attached::FailingRead { sector, once: false });
    assert!(output.starts_with("Akrazy: RB"), "{output:?}");
    assert!(output.contains(&disk.line("slot B")), "{output:?}");
}

/// A nearly full table of fragments of 24 sectors, some of them above 16 MiB.
#[test]
fn files_in_many_fragments_are_loaded_correctly() {
    let disk = Disk::with(&content(80 * 12288 - 1536, 3), &content(79 * 12288 + 4, 4), ["slot A", "slot B"]);
    let table = LoadTable::decode(&read_table(&disk, Slot::A)).unwrap();
    assert!(table.loads.len() > FIRST_SECTOR_ENTRIES && table.loads.len() > 150, "{}", table.loads.len());
    assert!(table.loads.iter().any(|load| load.destination > 16 << 20));
    assert!(boot(&disk, Attached::Ide).contains(&disk.line("slot A")));
}

#[test]
fn every_kind_of_disk_loads_long_extents() {
    // Equal lengths but for a tail, so that the command line and the shorter file end early and the rest of
    // the initramfs is one piece of more than 64 KiB and not a whole number of 32 KiB.
    let disk = Disk::with(&content(24 * 512, 5), &content(3 * 1024 * 1024 + 700, 6), ["slot A", "slot B"]);
    let table = LoadTable::decode(&read_table(&disk, Slot::A)).unwrap();
    assert!(table.loads.iter().any(|load| load.source.len.0 > 128 && load.source.len.0 % 64 != 0));
    for attached in
        [Attached::Ide, Attached::Virtio, Attached::Ahci, Attached::Nvme, Attached::Usb, Attached::Scsi]
    {
        let start = Instant::now();
        let output = boot(&disk, attached);
        assert!(output.contains(&disk.line("slot A")), "{attached:?}: {output:?}");
        println!("{attached:?}: {:.2?}", start.elapsed());
    }
}
