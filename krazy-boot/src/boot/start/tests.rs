//! The decisions on simulated disks.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::disk::layout::{DiskLayout, DiskSignature, PartitionSizes};
use crate::disk::mbr::Mbr;

/// A disk, and what a loader does.
#[derive(Default)]
struct Simulated {
    sectors: HashMap<u32, [u8; 512]>,
    unreadable: Vec<u32>,
    /// A disk that accepts writes and forgets them.
    forgets: bool,
    /// A disk that refuses writes.
    read_only: bool,
    /// The slots that cannot be loaded.
    broken: Vec<Slot>,
    /// The slots whose files differ from their record.
    changed: Vec<Slot>,
    /// The attempts, with the trial byte of the primary selector at that time.
    attempts: Vec<(Slot, u8, Option<Failed>)>,
    /// The slot that started. A kernel does not return, so attempts behind it do not count.
    started: Option<Slot>,
}

impl Machine for Simulated {
    fn read(&mut self, at: Sectors) -> Option<[u8; 512]> {
        let sector = self.sectors.get(&at.0).copied().unwrap_or([0; 512]);
        (!self.unreadable.contains(&at.0)).then_some(sector)
    }

    fn write(&mut self, at: Sectors, sector: &[u8; 512]) -> bool {
        if !self.read_only && !self.forgets {
            self.sectors.insert(at.0, *sector);
        }
        !self.read_only
    }

    fn start(&mut self, slot: Slot, check: Check, failed: Option<&Failed>) -> Failed {
        let mut differs = false;
        if self.started.is_none() {
            let trial = self.sectors.get(&2040).map_or(0xff, |sector| sector[TRIAL_OFFSET]);
            self.attempts.push((slot, trial, failed.cloned()));
            differs = check == Check::Record && self.changed.contains(&slot);
            self.started = (!differs && !self.broken.contains(&slot)).then_some(slot);
        }
        Failed { slot, reason: "broken".to_owned(), differs }
    }
}

impl Simulated {
    fn of(selector: Selector) -> Self {
        let layout = DiskLayout::new(PartitionSizes::default()).unwrap();
        let mut disk = Simulated::default();
        disk.sectors.insert(0, Mbr { signature: DiskSignature(0x1a2b_3c4d), layout }.encode(&[]).unwrap());
        for write in selector.writes(StateSectors::CURRENT) {
            disk.sectors.insert(write.at.0, write.bytes.try_into().unwrap());
        }
        disk
    }

    fn run(&mut self) -> Option<Slot> {
        start(self);
        self.started
    }
}

fn armed() -> Selector {
    Selector::confirmed(Slot::A).arm(Slot::B)
}

#[test]
fn trial_starts_once_and_is_cleared_before() {
    let mut disk = Simulated::of(armed());
    assert_eq!(disk.run(), Some(Slot::B));
    assert_eq!(disk.attempts, [(Slot::B, 0xff, None)]);
    disk.started = None;
    assert_eq!(disk.run(), Some(Slot::A), "only once");
}

#[test]
fn trial_does_not_start_on_a_disk_that_does_not_keep_its_end() {
    for (forgets, read_only) in [(true, false), (false, true)] {
        let mut disk = Simulated { forgets, read_only, ..Simulated::of(armed()) };
        assert_eq!(disk.run(), Some(Slot::A), "forgets {forgets}, read-only {read_only}");
    }
}

#[test]
fn other_slot_starts_if_one_is_broken_and_nothing_is_written() {
    let failed = |slot| Some(Failed { slot, reason: "broken".to_owned(), differs: false });
    let mut trial = Simulated { broken: vec![Slot::B], ..Simulated::of(armed()) };
    assert_eq!(trial.run(), Some(Slot::A));
    assert_eq!(trial.attempts, [(Slot::B, 0xff, None), (Slot::A, 0xff, failed(Slot::B))]);

    let mut confirmed = Simulated { broken: vec![Slot::A], ..Simulated::of(Selector::confirmed(Slot::A)) };
    let before = confirmed.sectors.clone();
    assert_eq!(confirmed.run(), Some(Slot::B));
    assert_eq!(confirmed.attempts[1].2, failed(Slot::A));
    assert_eq!(confirmed.sectors, before);

    let mut nothing = Simulated { broken: Slot::ALL.to_vec(), ..Simulated::of(armed()) };
    let slots = start(&mut nothing).slots.map(|failed| failed.slot);
    assert_eq!((slots, nothing.started), ([Slot::B, Slot::A], None));
}

#[test]
fn damaged_selectors_give_way_to_the_spare_one_and_then_to_slot_a() {
    let confirmed = Selector::confirmed(Slot::B);
    let mut torn = Simulated::of(confirmed);
    torn.sectors.get_mut(&2040).unwrap()[20] ^= 1;
    assert_eq!(torn.run(), Some(Slot::B));
    let mut unreadable = Simulated { unreadable: vec![2040], ..Simulated::of(confirmed) };
    assert_eq!(unreadable.run(), Some(Slot::B));
    let mut both = Simulated { unreadable: vec![2040, 32], ..Simulated::of(confirmed) };
    assert_eq!(both.run(), Some(Slot::A));
    let mut newer = Simulated::of(confirmed);
    for at in [2040, 32] {
        let sector = newer.sectors.get_mut(&at).unwrap();
        sector[4] = 2;
        let crc = crc32fast::hash(&sector[..508]);
        sector[508..].copy_from_slice(&crc.to_le_bytes());
    }
    assert_eq!(newer.run(), Some(Slot::B), "a newer version has the same fields");
    newer.sectors.get_mut(&2040).unwrap()[8] = 0;
    newer.started = None;
    assert_eq!(newer.run(), Some(Slot::B), "and the same checksum");
}

#[test]
fn changed_files_start_if_nothing_else_does() {
    let mut both = Simulated { changed: Slot::ALL.to_vec(), ..Simulated::of(armed()) };
    assert_eq!(both.run(), Some(Slot::A), "the confirmed slot");
    let mut one = Simulated { changed: vec![Slot::A], ..Simulated::of(armed().disarm()) };
    assert_eq!(one.run(), Some(Slot::B));
    let mut broken =
        Simulated { changed: Slot::ALL.to_vec(), broken: vec![Slot::A], ..Simulated::of(armed().disarm()) };
    assert_eq!(broken.run(), Some(Slot::B));
}

#[test]
fn only_readable_disks_without_a_selector_are_foreign() {
    let is_foreign = |mut disk: Simulated| start(&mut disk).is_foreign;
    assert!(is_foreign(Simulated::default()));
    // Without LBA 0 they are expected where the first format has them.
    for unreadable in [0, 1, 2] {
        assert!(!is_foreign(Simulated { unreadable: vec![unreadable], ..Simulated::default() }));
    }
    assert!(!is_foreign(Simulated::of(armed())));
    let mut torn = Simulated::of(armed());
    torn.sectors.remove(&2040);
    assert!(!is_foreign(torn));
}

proptest! {
    /// Whatever the sectors hold, both slots are tried, and each once.
    #[test]
    fn any_disk_leads_to_one_attempt_for_each_slot(
        first in prop::array::uniform32(any::<u8>()), trial: u8, confirmed: u8, magic: bool, unreadable: [bool; 3],
    ) {
        let mut disk = Simulated::of(armed());
        let selector = disk.sectors.get_mut(&2040).unwrap();
        selector[100..132].copy_from_slice(&first);
        (selector[8], selector[9]) = (confirmed, trial);
        if !magic {
            selector[0] = 0;
        }
        disk.unreadable = [0, 32, 2040].into_iter().zip(unreadable).filter_map(|(at, is)| is.then_some(at)).collect();
        disk.broken = Slot::ALL.to_vec();
        start(&mut disk);
        prop_assert_eq!(disk.attempts.len(), 2);
        prop_assert_ne!(disk.attempts[0].0, disk.attempts[1].0);
    }
}
