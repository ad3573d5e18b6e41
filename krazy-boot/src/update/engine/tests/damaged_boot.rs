//! Updates onto a `/boot` that power cuts have left damaged or full of clusters that belong to no file.

use super::*;
use crate::disk::size::Sectors;

/// The FAT of the simulated `/boot`: its copies, and the entries of a sector.
const COPIES: u32 = 2;
const ENTRIES: u32 = SECTOR_SIZE as u32 / 4;

struct Fat {
    start: u32,
    len: u32,
}

impl Fat {
    fn of(image: &Image) -> Self {
        let boot = layout().boot.start.0;
        let record = image.sector(boot);
        let reserved = u16::from_le_bytes([record[14], record[15]]);
        let len = u32::from_le_bytes([record[36], record[37], record[38], record[39]]);
        Fat { start: boot + u32::from(reserved), len }
    }

    /// Makes every free cluster one of a chain that no file begins.
    fn leak(&self, image: &mut Image) {
        for number in 0..self.len {
            let mut sector = image.sector(self.start + number);
            for (n, entry) in (0..).zip(sector.as_chunks_mut::<4>().0) {
                if *entry == [0; 4] {
                    *entry = (number * ENTRIES + n + 1).to_le_bytes();
                }
            }
            self.set(image, number, sector);
        }
    }

    /// Makes the cluster behind the first one of a file free.
    fn cut(&self, image: &mut Image, first: u32) {
        let mut sector = image.sector(self.start + (first + 1) / ENTRIES);
        sector.as_chunks_mut::<4>().0[((first + 1) % ENTRIES) as usize] = [0; 4];
        self.set(image, (first + 1) / ENTRIES, sector);
    }

    fn set(&self, image: &mut Image, number: u32, sector: simulator::Sector) {
        (0..COPIES).for_each(|copy| image.set(self.start + copy * self.len + number, sector));
    }

    /// Returns the first cluster of a file.
    fn first_cluster(&self, image: &Image, name: &str) -> u32 {
        let mut fat = Machine::on(image.clone()).fat();
        let file = fat.find(name).unwrap();
        let data = self.start + COPIES * self.len;
        // Clusters have one sector.
        (fat.extents(&file).unwrap()[0].start - Sectors(data)).0 + 2
    }
}

#[test]
fn full_boot_of_lost_clusters_takes_an_update() {
    let mut image = Machine::new(&old_root()).image();
    Fat::of(&image).leak(&mut image);
    // The number of free clusters that fatfs has stored is wrong now, so it must count.
    let info = layout().boot.start.0 + 1;
    let mut sector = image.sector(info);
    sector[488..492].copy_from_slice(&[0; 4]);
    image.set(info, sector);
    let mut machine = Machine::on(image);
    assert_eq!(machine.boot_free().unwrap(), Bytes(0));
    let (head, streams) = update(true);
    install(&mut machine, head, &streams, 4096).unwrap();
    assert!(is_complete(&machine, Slot::A).unwrap() && is_complete(&machine, Slot::B).unwrap());
    assert!(machine.boot_free().unwrap() > Bytes::mib(60));
}

/// The user's own files on `/boot` are not ours to remove.
#[test]
fn boot_full_of_files_refuses_an_update_after_any_cut() {
    let mut start = Machine::new(&old_root());
    let free = start.boot_free().unwrap().0 as usize;
    start.write_boot("films", true, &vec![1; free - 1024]).unwrap();
    let mut start = start.restarted();
    start.sync_boot().unwrap();
    let start = start.image();
    let old = booted(&start, Slot::A).unwrap();
    let refused = |image: &Image, context: &str| {
        let mut machine = Machine::on(image.clone());
        let (head, streams) = update(false);
        let error = install(&mut machine, head, &streams, 4096).unwrap_err();
        let EngineError::Refused { refusal, detail } = &error else { panic!("{error}: {context}") };
        assert_eq!(*refusal, Refusal::TooLarge, "{detail}: {context}");
        assert_eq!(booted(&machine.image(), Slot::A).as_ref(), Some(&old), "{context}");
        assert!(machine.boot_file("films").is_some_and(|file| file.len() == free - 1024), "{context}");
        machine
    };
    let log = refused(&start, "without a cut").log();
    for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(1)] {
        cut_everywhere(&start, &log, unsynced, |n, image| {
            drop(refused(image, &format!("after event {n}, unsynced writes {unsynced:?}")));
        });
    }
}

#[test]
fn damaged_files_of_the_slot_do_not_prevent_an_update() {
    let mut image = installed(false, 1 << 20).image();
    let fat = Fat::of(&image);
    for name in ["b-vmlinuz", "b-initramfs"] {
        let first = fat.first_cluster(&image, name);
        fat.cut(&mut image, first);
    }
    let before = booted(&image, Slot::A).unwrap();
    let mut machine = Machine::on(image);
    let (head, streams) = update(true);
    install(&mut machine, head, &streams, 4096).unwrap();
    assert!(is_complete(&machine, Slot::A).unwrap() && is_complete(&machine, Slot::B).unwrap());
    assert_eq!(booted(&machine.image(), Slot::A), Some(before));
    assert_eq!(machine.boot_file("b-vmlinuz").unwrap(), kernel(4, 3000));
    let repair = machine.fat().check(Some(Slot::B)).unwrap();
    assert!(repair.is_empty(), "{}", repair.findings);
}

/// An update that begins with a repair, interrupted after every sector and every sync.
#[test]
fn power_cut_in_a_repair_keeps_the_other_slot() {
    let mut start = installed(false, 1 << 20).image();
    let fat = Fat::of(&start);
    let first = fat.first_cluster(&start, "b-vmlinuz");
    fat.cut(&mut start, first);
    let old = booted(&start, Slot::A).unwrap();
    let mut machine = Machine::on(start.clone());
    machine.repair_boot(Slot::B).unwrap();
    let log = machine.log();
    assert!(!log.is_empty());
    for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(1)] {
        cut_everywhere(&start, &log, unsynced, |n, image| {
            let mut machine = Machine::on(image.clone());
            machine.repair_boot(Slot::B).unwrap();
            let context = format!("after event {n}, unsynced writes {unsynced:?}");
            assert!(machine.fat().check(Some(Slot::B)).unwrap().is_empty(), "{context}");
            assert!(is_complete(&machine, Slot::A).unwrap(), "{context}");
            assert_eq!(booted(&machine.image(), Slot::A).as_ref(), Some(&old), "{context}");
        });
    }
}
