use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use krazy_boot::disk::layout::{DiskLayout, DiskSignature, PartitionSizes};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::slot::Slot;

use super::*;
use crate::slots::tests::{TRIAL, boot_trial, card, disk};
use crate::slots::{SlotState, Slots, TrialKernel, relocation};

/// A disk of the first format, with code and selector as they were then.
fn disk_of_first_format(selector: Selector) -> (tempfile::TempDir, Disk, PathBuf) {
    let (dir, disk, path) = disk(selector);
    let layout = DiskLayout::new(PartitionSizes::default()).unwrap();
    let mut sector = Mbr { signature: DiskSignature(1), layout }.encode(&[0xfa; 429]).unwrap();
    sector[439] = 0;
    write(&disk, &[SectorWrite { at: Sectors(0), bytes: sector.to_vec() }]).unwrap();
    write(&disk, &selector.writes(StateSectors::FIRST)).unwrap();
    (dir, disk, path)
}

fn build_for(disk_format: u32) -> Manifest {
    Manifest { disk_format, ..crate::supervisor::plan::empty_manifest() }
}

#[test]
fn boot_state_moves_once_both_slots_know_its_new_sectors() {
    let selector = Selector { candidate: Some(Slot::B), ..Selector::confirmed(Slot::A) };
    let (_dir, disk, path) = disk_of_first_format(selector);
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    let before = fs::read(&path).unwrap();
    assert_eq!(selector::read(&disk).unwrap(), selector);
    assert!(!slots.relocate_state(&build_for(1)).unwrap());
    assert!(fs::read(&path).unwrap() == before && relocation::check(&disk, &build_for(1)).unwrap().is_none());

    assert!(slots.relocate_state(&build_for(2)).unwrap());
    let after = fs::read(&path).unwrap();
    assert_eq!(selector::sectors(&disk).unwrap(), StateSectors::CURRENT);
    assert_eq!((selector::read(&disk).unwrap(), selector::needs_repair(&disk).unwrap()), (selector, false));
    assert!(after[..boot_sector::CODE.len()] == *boot_sector::CODE);
    assert!(after[440..512] == before[440..512], "signature and partition table");
    assert!(!slots.relocate_state(&build_for(2)).unwrap() && fs::read(&path).unwrap() == after);

    let generation = slots.arm("cafe", TrialKernel::Own).unwrap();
    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    assert_eq!(tried.boot_status().unwrap().slot_state, SlotState::OnTrial);
    assert!(slots.note(Slot::B, generation).is_some());
    // A build that would write the old sectors can no longer be armed.
    let refused = relocation::check(&disk, &build_for(1)).unwrap().unwrap().to_string();
    assert!(refused.starts_with("its build is older than the format of this disk"), "{refused}");
    assert!(relocation::check(&disk, &build_for(2)).unwrap().is_none());
}

#[test]
fn builds_that_do_not_know_an_efi_system_partition_are_refused_on_a_disk_with_one() {
    let selector = Selector::confirmed(Slot::A);
    let (_first, first, _) = disk_of_first_format(selector);
    let (_current, current, _) = disk(selector);
    let plain = first_sector(&first).unwrap();
    write(&current, &[SectorWrite { at: Sectors(0), bytes: with_format(plain, mbr::FORMAT).to_vec() }])
        .unwrap();
    for (disk, lowest) in [(&first, 1), (&current, 2)] {
        let allows = |format| relocation::check(disk, &build_for(format)).unwrap().is_none();
        assert_eq!([1, 2, 3].map(allows), [1, 2, 3].map(|format| format >= lowest));
        let efi = mbr::with_efi_system_partition(&first_sector(disk).unwrap());
        write(disk, &[SectorWrite { at: Sectors(0), bytes: efi.to_vec() }]).unwrap();
        assert_eq!([1, 2, 3].map(allows), [false, false, true]);
    }
    assert!(Slots::of(&first, Slot::A).unwrap().unwrap().relocate_state(&build_for(3)).unwrap());
    assert!(mbr::has_efi_system_partition(&first_sector(&first).unwrap()));
}

fn with_format(mut sector: FirstSector, format: u8) -> FirstSector {
    sector[439] = format;
    sector
}

#[test]
fn interrupted_move_leaves_one_of_the_two_places_in_force() {
    let selector = Selector::confirmed(Slot::B);
    let (_dir, disk, path) = disk_of_first_format(selector);
    // Power was cut before LBA 0 was written.
    write(&disk, &Selector::confirmed(Slot::A).arm(Slot::B).writes(StateSectors::CURRENT)).unwrap();
    assert_eq!(selector::read(&disk).unwrap(), selector);
    let slots = Slots::of(&disk, Slot::B).unwrap().unwrap();
    assert!(slots.relocate_state(&build_for(2)).unwrap());
    assert_eq!(selector::read(&disk).unwrap(), selector);
    // What is left in the old place counts no more.
    let mut bytes = fs::read(&path).unwrap();
    bytes[512..3 * 512].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    assert_eq!(selector::read(&disk).unwrap(), selector);
}

#[test]
fn raspberry_pi_moves_its_boot_state_without_code() {
    let (dir, disk) = card("");
    let path = dir.path().join("card");
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(&[0], 439).unwrap();
    write(&disk, &Selector::confirmed(Slot::A).writes(StateSectors::FIRST)).unwrap();
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    assert!(slots.relocate_state(&build_for(2)).unwrap());
    assert!(!selector::has_boot_sector(&disk).unwrap());
    slots.arm("cafe", TrialKernel::Own).unwrap();
    assert_eq!((slots.start_trial().unwrap(), slots.start_trial().unwrap()), (Some(TRIAL), None));
}
