//! Updates of a board whose firmware loads the files of the slot in `config.txt`, which a trial does not change.

use super::*;
use crate::boot::config_txt::{self, SLOT_FILE};
use crate::disk::ordered_write::SectorWrite;
use crate::disk::selector::SlotState;
use crate::disk::slot::boot_file;

const SETTINGS: &[u8] = b"kernel=vmlinuz\ngpu_mem=16\n";

/// Returns [`update`] with the slot's settings for the firmware.
fn update_with_settings(delta: bool) -> (Head, Vec<u8>) {
    let (mut head, mut streams) = update(delta);
    let stored = encode(SETTINGS, &[], 1, &mut streams).unwrap().stored;
    head.transport.parts.push(PartTransport { stored, base: None });
    let kind = PartKind::BootFile(SLOT_FILE.to_owned());
    head.manifest.parts.push(Part { kind, size: Bytes(SETTINGS.len() as u64), sha256: hash(SETTINGS) });
    head.signed.json = head.manifest.to_json().unwrap();
    (head, streams)
}

fn selector(machine: &Machine) -> Selector {
    *SelectorCopies::read(&mut machine.whole()).selector().as_ref().unwrap()
}

/// Arms a trial of slot B, as init does.
fn arm(machine: &mut Machine, launcher: bool) {
    let selector = selector(machine);
    let writes = config_txt::arm(
        &mut machine.fat(),
        &selector.arm(!selector.confirmed),
        StateSectors::CURRENT,
        launcher,
    )
    .unwrap();
    machine.write_sectors(&writes);
}

/// Confirms `slot`, as init does.
fn confirm(machine: &mut Machine, slot: Slot) {
    let selector = selector(machine);
    let writes = config_txt::confirm(&mut machine.fat(), &selector, StateSectors::CURRENT, slot).unwrap();
    machine.write_sectors(&writes);
}

/// The result of a start: the slot whose files the firmware has loaded, those files, and the root's slot and content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    loaded: Slot,
    files: Vec<Vec<u8>>,
    root: (Slot, Vec<u8>),
    slot_state: SlotState,
}

/// Simulates firmware and first stage, up to the mount of the root.
fn boot(machine: &mut Machine) -> Running {
    let choice = config_txt::read(&mut machine.fat()).unwrap();
    let mut loaded = choice.slot;
    let selector_then = selector(machine).adopt_confirmed(loaded);
    let (slot, writes) =
        config_txt::start_trial(&mut machine.fat(), &selector_then, StateSectors::CURRENT).unwrap();
    machine.write_sectors(&writes);
    match (choice.launcher, slot) {
        // A launcher without a trial restarts the machine.
        (true, None) => return boot(machine),
        (true, Some(slot)) => loaded = slot,
        (false, _) => {}
    }
    assert_eq!(
        config_txt::missing(&mut machine.fat(), loaded).unwrap(),
        None,
        "slot {loaded} does not start"
    );
    let names = [boot_file::KERNEL, boot_file::INITRAMFS, boot_file::CMDLINE, SLOT_FILE, "board.dtb"];
    let files = names.map(|name| machine.boot_file(&loaded.boot_file(name)).unwrap()).to_vec();
    let running = slot.unwrap_or(loaded);
    let len = if running == Slot::A { old_root().len() } else { new_root().len() };
    let root = machine.image().start(layout().root(running), len);
    let slot_state = selector(machine).adopt_confirmed(choice.slot).slot_state(running);
    Running { loaded, files, root: (running, root), slot_state }
}

#[test]
fn incomplete_slot_has_no_command_line() {
    let mut machine = Machine::with_firmware(&old_root());
    assert!(is_complete(&machine, Slot::A).unwrap() && !is_complete(&machine, Slot::B).unwrap());
    let (head, streams) = update_with_settings(true);
    let mut session = Session::begin(&mut machine, Slot::B, head).unwrap();
    session.feed(&mut machine, &streams).unwrap();
    assert!(!is_complete(&machine, Slot::B).unwrap());
    session.finish(&mut machine).unwrap();
    assert!(is_complete(&machine, Slot::B).unwrap());
    assert_eq!(machine.boot_file("b-config.txt").unwrap(), SETTINGS);
    let (own, launcher) = config_txt::command_lines(&mut machine.fat(), Slot::B).unwrap();
    assert_eq!(launcher, Some(own.launcher().unwrap()));
    assert_eq!(config_txt::command_lines(&mut machine.fat(), Slot::A).unwrap().1, None, "written without");
    machine.write_boot("b-launch.txt", true, b"krazy.launch").unwrap();
    assert_eq!(config_txt::command_lines(&mut machine.fat(), Slot::B).unwrap().1, None, "another line");
    assert_eq!(machine.image().bytes(area_of_slot(Slot::B)), vec![0; 960 * 512]);
}

#[test]
fn update_that_the_firmware_cannot_start_is_refused() {
    let mut machine = Machine::with_firmware(&old_root());
    let error = Session::begin(&mut machine, Slot::B, update(false).0).err().unwrap();
    let refused = (error.refusal(), error.to_string());
    assert_eq!(refused, (Some(Refusal::Bundle), "the update has no config.txt for the firmware".to_owned()));
    // config.txt names slot B, the selector does not.
    let write = config_txt::switch(&mut machine.fat(), Slot::B.into()).unwrap().unwrap();
    machine.write_sectors(&[write]);
    let error = Session::begin(&mut machine, Slot::B, update_with_settings(false).0).err().unwrap();
    assert_eq!(error.refusal(), Some(Refusal::Armed));
    machine.write_boot("config.txt", true, b"kernel=kernel8.img\n").unwrap();
    let error = Session::begin(&mut machine, Slot::B, update_with_settings(false).0).err().unwrap();
    let text = "config.txt on the boot partition is not as cargo krazy made it: its length has changed";
    assert_eq!((error.refusal(), error.to_string().as_str()), (None, text));
}

/// Update, arming, trial and confirmation, interrupted after every sector and every sync: with the slot's own kernel, and
/// with the running one.
#[test]
fn power_cut_at_any_write_leaves_a_complete_slot_to_boot() {
    for launcher in [true, false] {
        interrupt_everywhere(launcher);
    }
}

fn interrupt_everywhere(launcher: bool) {
    let start = Machine::with_firmware(&old_root()).image();
    let mut machine = Machine::on(start.clone());
    let (head, streams) = update_with_settings(true);
    install(&mut machine, head, &streams, 4096).unwrap();
    arm(&mut machine, launcher);
    let on_trial = boot(&mut machine);
    let before_confirm = machine.log().len();
    confirm(&mut machine, Slot::B);
    let (log, confirmed) = (machine.log(), boot(&mut machine.restarted()));
    let kernel = if launcher { Slot::B } else { Slot::A };
    assert_eq!((on_trial.slot_state, on_trial.loaded), (SlotState::OnTrial, kernel));
    assert_eq!(on_trial.root, (Slot::B, new_root()));
    assert_eq!((confirmed.slot_state, confirmed.loaded), (SlotState::Confirmed, Slot::B));
    assert_eq!((&confirmed.files[3][..], &confirmed.root), (SETTINGS, &on_trial.root));
    assert_eq!(log.len(), before_confirm + 6, "config.txt, the selector's spare copy, the selector");
    let old = boot(&mut Machine::on(start.clone()));
    for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(1), Unsynced::Torn(2)] {
        let (mut tried, mut kept, mut reverted) = (0, 0, 0);
        cut_everywhere(&start, &log, unsynced, |n, image| {
            let context = format!("after event {n} of {}, unsynced writes {unsynced:?}", log.len());
            let mut machine = Machine::on(image.clone());
            match boot(&mut machine) {
                running if running == on_trial => {
                    tried += 1;
                    // A trial without a confirmation ends in the old slot.
                    let back = boot(&mut machine.restarted());
                    assert_eq!(back, Running { slot_state: SlotState::Reverted, ..old.clone() }, "{context}");
                }
                running if running == confirmed => kept += 1,
                running => {
                    reverted += usize::from(running.slot_state == SlotState::Reverted);
                    let slot_state = running.slot_state;
                    assert_eq!(running, Running { slot_state, ..old.clone() }, "{context}");
                    assert!([SlotState::Confirmed, SlotState::Reverted].contains(&slot_state), "{context}");
                }
            }
        });
        assert!((1..=3).contains(&tried), "{tried} cuts left slot B armed, {unsynced:?}");
        assert!((5..=6).contains(&kept), "{kept} cuts left slot B confirmed, {unsynced:?}");
        assert!(reverted >= 1, "{unsynced:?}");
    }
}

/// One write of the selector completes a confirmation that was interrupted behind `config.txt`.
#[test]
fn selector_adopts_the_slot_of_config_txt() {
    let mut machine = Machine::with_firmware(&old_root());
    let (head, streams) = update_with_settings(false);
    install(&mut machine, head, &streams, 1 << 20).unwrap();
    arm(&mut machine, true);
    boot(&mut machine);
    let writes =
        config_txt::confirm(&mut machine.fat(), &selector(&machine), StateSectors::CURRENT, Slot::B).unwrap();
    machine.write_sectors(&writes[..1]);
    assert_eq!(boot(&mut machine).slot_state, SlotState::Confirmed);
    assert_eq!(selector(&machine).slot_state(Slot::B), SlotState::OnTrial, "without config.txt");
    let followed = selector(&machine).adopt_confirmed(Slot::B);
    machine.write_sectors(&followed.writes(StateSectors::CURRENT));
    assert_eq!(selector(&machine).slot_state(Slot::B), SlotState::Confirmed);
    let writes: Vec<SectorWrite> =
        config_txt::confirm(&mut machine.fat(), &selector(&machine), StateSectors::CURRENT, Slot::B).unwrap();
    assert_eq!(writes.len(), 2, "config.txt is as it should be");
}
