use std::fs;
use std::path::PathBuf;

use krazy_boot::selector::{self, Selector};

use super::*;

/// A disk of a few sectors with this selector, found as `/dev/NAME` like a real one.
fn disk(selector: Selector) -> (tempfile::TempDir, Disk, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, vec![0; 64 * 512]).unwrap();
    let disk = Disk { name: format!("..{}", path.display()) };
    write(&disk, &selector.writes()).unwrap();
    (dir, disk, path)
}

/// What the boot sector does before it loads the trial.
fn boot_trial(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    bytes[512 + 9] = 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_trial_that_fails_can_be_explained() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    assert_eq!(slots.situation().unwrap().standing, Standing::Confirmed);
    let generation = slots.arm("cafe").unwrap();
    assert_eq!(slots.situation().unwrap().standing, Standing::Armed);
    assert_eq!(slots.note(Slot::B, generation), Some(TrialNote::armed(Slot::B, generation, "cafe")));

    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    assert_eq!(tried.situation().unwrap().standing, Standing::OnTrial);
    tried.tell(Stage::Init, None).unwrap();
    tried.tell(Stage::Ended, Some("nobody came")).unwrap();

    let situation = slots.situation().unwrap();
    assert_eq!((situation.standing, situation.generation), (Standing::Reverted, generation));
    let note = slots.note(Slot::B, generation).unwrap();
    assert_eq!((note.reason().as_str(), note.build_id.as_str()), ("nobody came", "cafe"));
    slots.disarm().unwrap();
    let situation = slots.situation().unwrap();
    assert_eq!(situation.standing, Standing::Confirmed);
    assert_eq!(slots.note(Slot::B, situation.generation), None, "a note is about one trial");
}

#[test]
fn a_trial_that_is_confirmed_stays() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    Slots::of(&disk, Slot::A).unwrap().unwrap().arm("cafe").unwrap();
    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    tried.confirm().unwrap();
    let situation = tried.situation().unwrap();
    assert_eq!((situation.standing, situation.confirmed), (Standing::Confirmed, Slot::B));
}

#[test]
fn a_lost_note_costs_the_explanation_only() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A).arm(Slot::B));
    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    tried.tell(Stage::RootMounted, None).unwrap();
    let generation = tried.situation().unwrap().generation;
    let note = tried.note(Slot::B, generation).unwrap();
    assert_eq!((note.stage, note.build_id.as_str()), (Stage::RootMounted, ""));
}

#[test]
fn copies_that_differ_are_made_equal() {
    let (_dir, disk, _path) = disk(Selector::confirmed(Slot::A));
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    assert!(!slots.repair().unwrap());
    // Power was cut after the spare copy.
    let confirmed = Selector::confirmed(Slot::B).writes();
    write(&disk, &confirmed[..1]).unwrap();
    assert!(slots.repair().unwrap() && !slots.repair().unwrap());
    assert_eq!(slots.situation().unwrap().confirmed, Slot::A);
}

#[test]
fn a_disk_of_others_has_no_slots() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    let mut bytes = fs::read(&path).unwrap();
    for sector in [selector::PRIMARY, selector::SPARE] {
        bytes[sector.bytes().0 as usize] = 0;
    }
    fs::write(&path, bytes).unwrap();
    assert!(Slots::of(&disk, Slot::A).unwrap().is_none());
}
