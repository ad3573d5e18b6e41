use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::disk::ordered_write::write_in_order;

const SECTORS: StateSectors = StateSectors::CURRENT;

/// Returns a disk of 1 MiB with an LBA 0 that names `sectors`.
fn blank(sectors: StateSectors) -> Cursor<Vec<u8>> {
    let mut bytes = vec![0; 2048 * 512];
    bytes[439] = if sectors == StateSectors::FIRST { 0 } else { 2 };
    Cursor::new(bytes)
}

fn disk(selector: Selector) -> Cursor<Vec<u8>> {
    let mut disk = blank(SECTORS);
    write_in_order(&mut disk, &selector.writes(SECTORS), |_| Ok(())).unwrap();
    disk
}

#[test]
fn selector_is_where_sector_0_says() {
    for sectors in [StateSectors::FIRST, StateSectors::CURRENT] {
        let mut disk = blank(sectors);
        let selector = Selector::confirmed(Slot::B);
        write_in_order(&mut disk, &selector.writes(sectors), |_| Ok(())).unwrap();
        assert_eq!(SelectorCopies::read(&mut disk).selector().unwrap(), selector);
        let others = if sectors == SECTORS { StateSectors::FIRST } else { SECTORS };
        let mut disk = blank(others);
        write_in_order(&mut disk, &selector.writes(sectors), |_| Ok(())).unwrap();
        assert!(matches!(
            SelectorCopies::read(&mut disk).selector(),
            Err(ReadSelectorError::Invalid(SelectorError::Magic(_)))
        ));
    }
}

#[test]
fn encoded_selector_has_the_golden_bytes() {
    let sector = Selector { generation: 0x0102_0304, ..Selector::confirmed(Slot::A) }.arm(Slot::B).encode();
    // The CRC was computed by another program (zlib).
    let mut expected = [0; 512];
    expected[..16].copy_from_slice(b"KZSL\x01\0\0\0\x00\x01\x01\0\x05\x03\x02\x01");
    expected[508..].copy_from_slice(&[0x12, 0x5a, 0xd1, 0x4e]);
    assert!(sector == expected, "{sector:x?}");
}

#[test]
fn cleared_trial_byte_keeps_the_checksum_valid() {
    let armed = Selector::confirmed(Slot::A).arm(Slot::B);
    let mut sector = armed.encode();
    sector[TRIAL_OFFSET] = 0xff;
    let booted = Selector::decode(&sector, SECTORS.selector).unwrap();
    assert_eq!(booted, Selector { trial: None, ..armed });
    assert_eq!(booted.slot_state(Slot::B), SlotState::OnTrial);
    assert_eq!(booted.slot_state(Slot::A), SlotState::Reverted);
    assert_eq!(armed.slot_state(Slot::A), SlotState::Armed);
    assert_eq!(booted.confirm(Slot::B).slot_state(Slot::B), SlotState::Confirmed);
    assert_eq!(booted.confirm(Slot::B).slot_state(Slot::A), SlotState::Fallback);
    assert_eq!(booted.disarm().slot_state(Slot::A), SlotState::Confirmed);
}

#[test]
fn started_trial_is_cleared_on_disk_and_cannot_start_again() {
    let armed = Selector::confirmed(Slot::A).arm(Slot::B);
    let (slot, write) = armed.start_trial(SECTORS).unwrap();
    let mut sector = armed.encode();
    sector[TRIAL_OFFSET] = 0xff;
    assert_eq!((slot, write), (Slot::B, SectorWrite { at: SECTORS.selector, bytes: sector.to_vec() }));
    let started = Selector::decode(&sector, SECTORS.selector).unwrap();
    assert_eq!(started.start_trial(SECTORS), None);
    assert_eq!(started.adopt_confirmed(Slot::A).slot_state(Slot::B), SlotState::OnTrial);
    // A confirmation that was interrupted between config.txt and the selector.
    assert_eq!(started.adopt_confirmed(Slot::B), started.confirm(Slot::B));
}

#[test]
fn spare_copy_is_written_first_and_is_never_armed() {
    let [spare, primary] = Selector::confirmed(Slot::A).arm(Slot::B).writes(SECTORS);
    assert_eq!((spare.at, primary.at), (SECTORS.spare, SECTORS.selector));
    assert_eq!(spare.bytes[TRIAL_OFFSET], 0xff);
    assert_eq!(primary.bytes[TRIAL_OFFSET], 1);
}

#[test]
fn spare_copy_replaces_a_damaged_primary() {
    let selector = Selector::confirmed(Slot::B);
    let mut disk = disk(selector);
    let copies = SelectorCopies::read(&mut disk);
    assert!(!copies.needs_repair());
    disk.get_mut()[SECTORS.selector.bytes().0 as usize + CONFIRMED_OFFSET] = 0;
    let copies = SelectorCopies::read(&mut disk);
    assert_eq!(copies.selector().unwrap(), selector);
    assert!(copies.needs_repair());
    let message = copies.primary.unwrap_err().to_string();
    assert_eq!(message, "the boot selector in sector 2040 is damaged: wrong checksum");
}

#[test]
fn interrupted_change_leaves_a_complete_selector_in_force() {
    let old = Selector::confirmed(Slot::A);
    for new in [old.arm(Slot::B), old.confirm(Slot::B)] {
        for done in 0..=2 {
            // The write that power interrupted left garbage.
            let mut disk = disk(old);
            let writes = new.writes(SECTORS);
            write_in_order(&mut disk, &writes[..done], |_| Ok(())).unwrap();
            if let Some(torn) = writes.get(done) {
                let start = torn.at.bytes().0 as usize;
                disk.get_mut()[start..start + 512].fill(0x5a);
            }
            let copies = SelectorCopies::read(&mut disk);
            let in_force = copies.selector().unwrap();
            let without_trial = Selector { trial: None, ..new };
            let expected = [old, without_trial, new][done];
            assert_eq!(in_force, expected, "{done} of {new:?}");
            assert_eq!(copies.needs_repair(), done < 2);
        }
    }
}

#[test]
fn unreadable_sectors_give_distinct_errors() {
    let zeros = SelectorCopies::read(&mut blank(SECTORS));
    assert_eq!(zeros.selector().unwrap_err().to_string(), "sector 2040 holds no boot selector");
    for (len, sector) in [(512, 1), (511, 0)] {
        let short = SelectorCopies::read(&mut Cursor::new(vec![0; len]));
        assert!(
            matches!(short.primary, Err(ReadSelectorError::Read { sector: found, .. }) if found == sector)
        );
    }
    let mut sector = Selector::confirmed(Slot::A).encode();
    sector[TRIAL_OFFSET] = 7;
    let error = Selector::decode(&sector, SECTORS.spare).unwrap_err().to_string();
    assert_eq!(error, "the boot selector in sector 32 names slot 0x07");
    sector[4] = 9;
    let error = Selector::decode(&sector, SECTORS.spare).unwrap_err().to_string();
    assert_eq!(error, "the boot selector in sector 32 has version 9, this program reads 1");
}

proptest! {
    #[test]
    fn selectors_survive_a_round_trip_and_changes_are_detected(
        confirmed in 0..2usize, trial in 0..3usize, candidate in 0..3usize, generation: u32,
        at in 0..512usize, value: u8,
    ) {
        let slot = |index: usize| Slot::ALL.get(index).copied();
        let selector = Selector {
            confirmed: Slot::ALL[confirmed], trial: slot(trial), candidate: slot(candidate), generation,
        };
        let mut sector = selector.encode();
        prop_assert_eq!(Selector::decode(&sector, SECTORS.selector).unwrap(), selector);
        let changed = sector[at] != value;
        sector[at] = value;
        let decoded = Selector::decode(&sector, SECTORS.selector);
        prop_assert_eq!(decoded.is_err(), changed && (at != TRIAL_OFFSET || (2..255).contains(&value)));
    }
}
