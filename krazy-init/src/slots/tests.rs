use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::boot::config_txt;
use krazy_boot::disk::layout::{DiskLayout, DiskSignature, PartitionSizes, StateSectors};
use krazy_boot::disk::mbr::{self, Mbr};
use krazy_boot::disk::size::Bytes;
use krazy_boot::image::fat32::{self, BootFile, VolumeOptions};
use krazy_boot::image::tree::Content;
use krazy_boot::image::window::Window;

use super::*;

/// Slot B when the first stage starts its trial.
pub(super) const TRIAL: StartedSlot = StartedSlot { slot: Slot::B, on_trial: true };

/// A disk of 1 MiB with this selector, found as `/dev/NAME` like a real one.
pub(super) fn disk(selector: Selector) -> (tempfile::TempDir, Disk, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let mut bytes = vec![0; 2048 * 512];
    // Code of a boot sector, and the format.
    (bytes[0], bytes[439]) = (0xfa, mbr::FORMAT);
    fs::write(&path, bytes).unwrap();
    let disk = Disk { name: format!("..{}", path.display()) };
    write(&disk, &selector.writes(StateSectors::CURRENT)).unwrap();
    (dir, disk, path)
}

/// Clears the trial's flag, as the boot sector does before it loads the trial.
pub(super) fn boot_trial(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    bytes[StateSectors::CURRENT.selector.bytes().0 as usize + 9] = 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn failed_trial_is_explained_by_its_note() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Confirmed);
    let generation = slots.arm("cafe", TrialKernel::Own).unwrap();
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Armed);
    assert_eq!(slots.note(Slot::B, generation), Some(TrialNote::armed(Slot::B, generation, "cafe")));

    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    assert_eq!(tried.boot_status().unwrap().slot_state, SlotState::OnTrial);
    tried.record_stage(Stage::Init, None).unwrap();
    tried.record_stage(Stage::Finished, Some("nobody came")).unwrap();

    let status = slots.boot_status().unwrap();
    assert_eq!((status.slot_state, status.generation), (SlotState::Reverted, generation));
    let note = slots.note(Slot::B, generation).unwrap();
    assert_eq!((note.reason().as_str(), note.build_id.as_str()), ("nobody came", "cafe"));
    slots.disarm().unwrap();
    let status = slots.boot_status().unwrap();
    assert_eq!(status.slot_state, SlotState::Confirmed);
    assert_eq!(slots.note(Slot::B, status.generation), None, "a note is about one trial");
}

#[test]
fn panic_is_recorded_until_the_trial_is_over() {
    let _keeper = crash::lock_recorder();
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    let generation = slots.arm("cafe", TrialKernel::Own).unwrap();
    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    let reason = || slots.note(Slot::B, generation).unwrap().reason();
    tried.record_panics(Stage::RootMounted);
    crash::record("panicked at mounts.rs:1:2:\nno tea");
    assert_eq!(reason(), "the first stage failed: panicked at mounts.rs:1:2: no tea");
    tried.record_panics(Stage::Init);
    crash::record("panicked at plan.rs:3:4:\nno tea");
    assert_eq!(reason(), "init failed: panicked at plan.rs:3:4: no tea");
    crash::set_recorder(None);
    crash::record("panicked too late");
    assert_eq!(reason(), "init failed: panicked at plan.rs:3:4: no tea");
}

#[test]
fn confirmed_trial_stays() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    Slots::of(&disk, Slot::A).unwrap().unwrap().arm("cafe", TrialKernel::Own).unwrap();
    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    tried.confirm().unwrap();
    let status = tried.boot_status().unwrap();
    assert_eq!((status.slot_state, status.confirmed), (SlotState::Confirmed, Slot::B));
}

#[test]
fn lost_note_is_replaced_without_the_build_id() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A).arm(Slot::B));
    boot_trial(&path);
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    tried.record_stage(Stage::RootMounted, None).unwrap();
    let generation = tried.boot_status().unwrap().generation;
    let note = tried.note(Slot::B, generation).unwrap();
    assert_eq!((note.stage, note.build_id.as_str()), (Stage::RootMounted, ""));
}

#[test]
fn differing_selector_copies_are_repaired() {
    let (_dir, disk, _path) = disk(Selector::confirmed(Slot::A));
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    assert_eq!(slots.repair().unwrap(), Repair::None);
    // Power was cut after the spare copy.
    let confirmed = Selector::confirmed(Slot::B).writes(StateSectors::CURRENT);
    write(&disk, &confirmed[..1]).unwrap();
    assert_eq!([slots.repair().unwrap(), slots.repair().unwrap()], [Repair::Completed, Repair::None]);
    assert_eq!(slots.boot_status().unwrap().confirmed, Slot::A);
}

#[test]
fn disk_without_a_selector_has_no_slots() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    let mut bytes = fs::read(&path).unwrap();
    for sector in [StateSectors::CURRENT.selector, StateSectors::CURRENT.spare] {
        bytes[sector.bytes().0 as usize] = 0;
    }
    fs::write(&path, bytes).unwrap();
    assert!(Slots::of(&disk, Slot::A).unwrap().is_none());
}

#[test]
fn lost_selector_is_replaced_by_one_that_confirms_the_running_slot() {
    let (_dir, disk, path) = disk(Selector::confirmed(Slot::A));
    let slots = Slots::of(&disk, Slot::B).unwrap().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for sector in [StateSectors::CURRENT.selector, StateSectors::CURRENT.spare] {
        bytes[sector.bytes().0 as usize + 20] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    assert_eq!(slots.repair().unwrap(), Repair::Replaced(Slot::B));
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Confirmed);
    assert_eq!(slots.repair().unwrap(), Repair::None);
}

#[test]
fn lost_selector_of_a_raspberry_pi_is_replaced_by_the_choice_of_config_txt() {
    let (dir, disk) = card("");
    let card = fs::OpenOptions::new().write(true).open(dir.path().join("card")).unwrap();
    let overwrite = |byte| {
        for sector in [StateSectors::CURRENT.selector, StateSectors::CURRENT.spare] {
            card.write_all_at(&[byte; 512], sector.bytes().0).unwrap();
        }
    };
    overwrite(0x5a);
    let slots = Slots::of(&disk, Slot::B).unwrap().unwrap();
    assert_eq!(slots.repair().unwrap(), Repair::Replaced(Slot::A));
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Fallback);
    // A foreign disk has neither.
    overwrite(0);
    card.write_all_at(&[0; 4096], 2048 * 512).unwrap();
    assert!(Slots::of(&disk, Slot::B).unwrap().is_none());
}

/// A Raspberry Pi's disk: the files of slot A and, except for `missing`, of slot B.
pub(super) fn card(missing: &str) -> (tempfile::TempDir, Disk) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("card");
    let sizes = PartitionSizes { boot: Bytes::mib(64), root: Bytes::mib(1), disk: Bytes::mib(128) };
    let layout = DiskLayout::new(sizes).unwrap();
    let file = fs::File::create_new(&path).unwrap();
    file.set_len(layout.disk().bytes().0).unwrap();
    let mbr = Mbr { signature: DiskSignature(1), layout }.encode(&[]).unwrap();
    file.write_all_at(&mbr, 0).unwrap();
    let content = |bytes: &[u8]| Content::Bytes(bytes.to_vec());
    let mut files =
        vec![BootFile { name: "config.txt".into(), content: content(&config_txt::encode(Slot::A.into())) }];
    for slot in Slot::ALL {
        let line = CommandLine::for_slot(slot, DiskSignature(1), ["quiet"]).unwrap();
        let launcher = line.launcher().unwrap();
        let texts = [("cmdline.txt", line.as_str()), ("launch.txt", launcher.as_str())];
        let others = [("vmlinuz", "kernel"), ("initramfs", "stage"), ("config.txt", "x")];
        for (name, text) in texts.into_iter().chain(others) {
            let name = slot.boot_file(name);
            if name != missing {
                files.push(BootFile { name, content: content(text.as_bytes()) });
            }
        }
    }
    let volume = VolumeOptions { volume_id: 1, label: *b"BOOT       ", mtime: 0 };
    fat32::write(Window::of(&file, layout.boot), &volume, &files).unwrap();
    let disk = Disk { name: format!("..{}", path.display()) };
    write(&disk, &Selector::confirmed(Slot::A).writes(StateSectors::CURRENT)).unwrap();
    (dir, disk)
}

#[test]
fn firmware_boots_the_confirmed_slot_and_the_first_stage_starts_trials() {
    let (_dir, disk) = card("");
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    assert!(slots.boot_method == BootMethod::Firmware && slots.has_firmware());
    assert_eq!(slots.start_trial().unwrap(), None);
    slots.arm("cafe", TrialKernel::Running).unwrap();
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Armed);
    assert_eq!((slots.start_trial().unwrap(), slots.start_trial().unwrap()), (Some(TRIAL), None));
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Reverted);

    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    assert_eq!(tried.boot_status().unwrap().slot_state, SlotState::OnTrial);
    assert_eq!(firmware::choice(&disk).unwrap(), Slot::A.into());
    tried.confirm().unwrap();
    assert_eq!(firmware::confirmed(&disk).unwrap(), Slot::B);
    assert_eq!(tried.repair().unwrap(), Repair::None);
    assert_eq!(tried.boot_status().unwrap().slot_state, SlotState::Confirmed);
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Fallback);
    assert_eq!(tried.table_changes(Slot::B).unwrap(), []);
}

#[test]
fn launcher_starts_one_trial() {
    let (_dir, disk) = card("");
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    let launcher = || firmware::choice(&disk).unwrap().launcher;
    slots.arm("cafe", TrialKernel::Own).unwrap();
    assert!(launcher() && slots.repair().unwrap() == Repair::None);
    slots.disarm().unwrap();
    assert!(!launcher());
    slots.arm("cafe", TrialKernel::Own).unwrap();
    assert_eq!((slots.start_trial().unwrap(), launcher()), (Some(TRIAL), false));
    assert_eq!(slots.boot_status().unwrap().slot_state, SlotState::Reverted);

    // Power was cut before the selector, and behind it.
    for writes in [1, 3] {
        let selector = Selector::confirmed(Slot::A);
        write(&disk, &selector.writes(StateSectors::CURRENT)).unwrap();
        let armed = config_txt::arm(
            &mut firmware::boot(&disk).unwrap(),
            &selector.arm(Slot::B),
            StateSectors::CURRENT,
            true,
        )
        .unwrap();
        write(&disk, &armed[..writes]).unwrap();
        assert!(launcher());
        if writes == 3 {
            let started = config_txt::start_trial(
                &mut firmware::boot(&disk).unwrap(),
                &selector.arm(Slot::B),
                StateSectors::CURRENT,
            );
            write(&disk, &started.unwrap().1[..1]).unwrap();
        }
        assert_eq!((slots.start_trial().unwrap(), launcher()), (None, false));
    }
    // Init repairs a launcher that could not undo itself.
    let selector = slots.selector().unwrap().arm(Slot::B);
    let armed =
        config_txt::arm(&mut firmware::boot(&disk).unwrap(), &selector, StateSectors::CURRENT, true).unwrap();
    write(&disk, &armed[..1]).unwrap();
    assert!(slots.repair().unwrap() == Repair::Completed && !launcher());
}

#[test]
fn next_kernel_keeps_the_parameters_that_the_firmware_added() {
    let (_dir, disk) = card("");
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    let own = CommandLine::for_slot(Slot::A, DiskSignature(1), ["quiet"]).unwrap();
    let line = CommandLine::parse(&format!("board=4b {} mac=1", own.launcher().unwrap())).unwrap();
    let next = slots.next_kernel(&line).unwrap();
    assert_eq!((&next.kernel[..], &next.initramfs[..]), (&b"kernel"[..], &b"stage"[..]));
    let expected = "board=4b krazy.launched root=PARTUUID=00000001-03 krazy.slot=b quiet mac=1";
    assert_eq!(next.command_line.as_str(), expected);
}

#[test]
fn launching_needs_a_launcher_command_line() {
    let can_launch = |disk: &Disk| firmware::can_launch(disk, Slot::A).unwrap();
    assert!(can_launch(&card("").1) && !can_launch(&card("a-launch.txt").1));
    assert!(can_launch(&card("b-launch.txt").1));
    // Not on the processor of a test.
    let (_dir, disk) = card("");
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    assert_eq!(slots.trial_kernel().unwrap() == TrialKernel::Own, cfg!(target_arch = "aarch64"));
}

#[test]
fn selector_follows_config_txt() {
    let (_dir, disk) = card("");
    let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
    let generation = slots.arm("cafe", TrialKernel::Own).unwrap();
    slots.start_trial().unwrap();
    // Power was cut behind config.txt.
    let selector = selector::read(&disk).unwrap();
    let writes =
        config_txt::confirm(&mut firmware::boot(&disk).unwrap(), &selector, StateSectors::CURRENT, Slot::B)
            .unwrap();
    write(&disk, &writes[..1]).unwrap();
    let tried = Slots::of(&disk, Slot::B).unwrap().unwrap();
    let status = tried.boot_status().unwrap();
    assert_eq!((status.slot_state, status.generation), (SlotState::Confirmed, generation + 1));
    assert_eq!([tried.repair().unwrap(), tried.repair().unwrap()], [Repair::Completed, Repair::None]);
    assert_eq!(selector::read(&disk).unwrap().slot_state(Slot::B), SlotState::Confirmed);
}

#[test]
fn slot_without_a_boot_file_is_incomplete() {
    for missing in ["b-cmdline.txt", "b-config.txt", "b-vmlinuz"] {
        let (_dir, disk) = card(missing);
        assert!(firmware::missing(&disk, Slot::A).unwrap().is_none());
        let slots = Slots::of(&disk, Slot::A).unwrap().unwrap();
        let error = slots.check_inactive().unwrap_err().to_string();
        assert_eq!(error, format!("slot B cannot be started: there is no {missing} on /boot"));
    }
}
