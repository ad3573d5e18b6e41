use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::disk::ordered_write::write_in_order;

fn note(stage: Stage, text: &str) -> TrialNote {
    TrialNote { stage, text: text.to_owned(), ..TrialNote::armed(Slot::B, 7, &"ab".repeat(32)) }
}

#[test]
fn encoded_note_has_the_golden_bytes() {
    let sector = note(Stage::Finished, "tea").encode();
    assert_eq!(&sector[..16], b"KZTN\x01\0\x01\x04\x07\0\0\0\x40\0\x03\0");
    assert_eq!(&sector[16..80], "ab".repeat(32).as_bytes());
    assert_eq!(&sector[80..84], b"tea\0");
    assert_eq!(sector[508..], crc32fast::hash(&sector[..508]).to_le_bytes());
}

#[test]
fn writing_a_note_changes_its_sector_only() {
    let sector = StateSectors::CURRENT.note.0 as usize;
    let mut disk = Cursor::new(vec![0xee; 2048 * 512]);
    assert!(matches!(TrialNote::read(&mut disk), Err(TrialNoteError::Magic)));
    let note = note(Stage::Init, "");
    write_in_order(&mut disk, &[note.write(StateSectors::CURRENT)], |_| Ok(())).unwrap();
    assert_eq!(TrialNote::read(&mut disk).unwrap(), note);
    let bytes = disk.into_inner();
    assert!(bytes[..sector * 512].iter().chain(&bytes[(sector + 1) * 512..]).all(|byte| *byte == 0xee));
}

#[test]
fn torn_and_newer_notes_are_refused() {
    let sector = note(Stage::Armed, "").encode();
    let mut torn = sector;
    torn[300] ^= 1;
    assert!(matches!(TrialNote::decode(&torn), Err(TrialNoteError::Damaged)));
    let mut newer = sector;
    newer[4] = 2;
    assert!(matches!(TrialNote::decode(&newer), Err(TrialNoteError::Version(2))));
}

#[test]
fn each_stage_has_a_reason() {
    let stages = [Stage::Armed, Stage::FirstStage, Stage::RootMounted, Stage::Init, Stage::Finished];
    let reasons: Vec<String> = stages.map(|stage| note(stage, "").reason()).into();
    assert!(reasons[0].starts_with("the kernel did not reach its first stage"));
    assert!(reasons[1].ends_with("before the root was mounted"));
    assert!(reasons[2].ends_with("before init ran"));
    assert_eq!(reasons[3], reasons[4]);
    assert_eq!(note(Stage::Finished, "nobody confirmed in time").reason(), "nobody confirmed in time");
    assert_eq!(note(Stage::FirstStage, "no disk").reason(), "the first stage failed: no disk");
    assert_eq!(note(Stage::Init, "panic").reason(), "init failed: panic");
}

proptest! {
    #[test]
    fn note_survives_a_round_trip(slot in prop::bool::ANY, generation: u32, stage in 0u8..5, id in ".{0,80}", text in ".{0,500}") {
        let note = TrialNote {
            slot: if slot { Slot::A } else { Slot::B },
            generation,
            stage: Stage::from_byte(stage).unwrap(),
            build_id: cut(&id, MAX_BUILD_ID).to_owned(),
            text: text.clone(),
        };
        let read = TrialNote::decode(&note.encode()).unwrap();
        prop_assert!(text.starts_with(&read.text) && read.text.len() <= MAX_TEXT);
        prop_assert_eq!(read, TrialNote { text: cut(&text, MAX_TEXT).to_owned(), ..note });
    }

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 496), good: bool) {
        let mut sector = note(Stage::Init, "x").encode();
        sector[6..502].copy_from_slice(&bytes);
        if good {
            let crc = crc32fast::hash(&sector[..CRC_OFFSET]);
            sector[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        }
        let _ = TrialNote::decode(&sector);
    }
}
