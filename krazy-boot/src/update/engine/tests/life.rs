//! A device's life on a disk that tears, loses and reorders: growth, updates, trials, confirmations, a withdrawn trial, the
//! move from the first disk format. After a cut at any moment some complete slot starts, in the right role.
//!
//! The states after each event of the log are
//!
//! - the writes since the last sync, of which any subset survives: all subsets of up to [`ALL_SUBSETS`] writes, else a
//!   sample, with the last one complete, missing, or
//! - torn: the page of 512 bytes, 4 KiB or 16 KiB that it belongs to is garbage, or cannot be read.
//!
//! The writes in front of partition 1 are all tried; of the others, content that nothing refers to yet, a sample.
//! `KRAZY_LONG=1` tries all of them, and 1,000 subsets each.
//!
//! A page with LBA 0 is assumed to be written as a whole: nothing else could boot. In every state the machine starts twice,
//! and init's repair of the selectors is interrupted at each of its writes, twice.

use std::collections::BTreeSet;

use super::*;
use crate::disk::layout::{DiskLayout, StateSectors};
use crate::disk::mbr;
use crate::disk::ordered_write::SectorWrite;
use crate::disk::selector::{CONFIRMED_OFFSET, MAGIC, SlotState, TRIAL_OFFSET};
use crate::disk::size::Sectors;
use crate::disk::trial_note::{Stage, TrialNote};

/// The number of unsynced writes up to which all subsets are tried.
const ALL_SUBSETS: usize = 8;

/// The number of random subsets beyond.
const SAMPLES: u64 = 4;

/// Of the writes to partitions, one of this many is tried.
const INTERVAL: usize = 97;

/// The pages that a disk may tear, in sectors.
const PAGES: [u32; 3] = [1, 8, 32];

/// The first bytes of a root that can be mounted.
const SUPERBLOCK: &[u8] = b"hsqs";

type Loaded = (Vec<u8>, Vec<u8>);

/// Returns what the boot sector loads from `slot`: its memory, and the root that its command line names.
fn loaded(image: &Image, slot: Slot) -> Option<Loaded> {
    let table = LoadTable::decode(&image.bytes(area_of_slot(slot))).ok()?;
    let memory: Vec<_> = table.loads.iter().map(|load| image.bytes(load.source)).collect();
    Some((memory.concat(), image.start(layout().root(slot), new_root().len())))
}

/// A start by the rules of the boot sector, up to the first stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    slot: Slot,
    state: SlotState,
}

/// Starts the machine: obeys the selector by magic and slot number only, as the boot sector does, clears a trial, and falls
/// back from a slot without a load table.
fn start(machine: &mut Machine) -> Option<Start> {
    let image = machine.image();
    let StateSectors { selector, spare, .. } = mbr::state_sectors(&mut machine.whole()).unwrap();
    let read = |lba: Sectors| (!machine.unreadable.contains(&lba.0)).then(|| image.sector(lba.0));
    let is_valid = |sector: &simulator::Sector| sector[..4] == MAGIC && sector[CONFIRMED_OFFSET] <= 1;
    let found =
        [selector, spare].into_iter().find_map(|lba| read(lba).filter(is_valid).map(|bytes| (lba, bytes)));
    let (confirmed, trial) =
        found.map_or((0, 0xff), |(_, bytes)| (bytes[CONFIRMED_OFFSET], bytes[TRIAL_OFFSET]));
    if let (Some((lba, mut bytes)), true) = (found, trial <= 1) {
        bytes[TRIAL_OFFSET] = 0xff;
        // Not synced: a BIOS has no function for that.
        machine.write_at(lba.bytes(), &bytes).unwrap();
    }
    let slot = Slot::ALL[usize::from(if trial <= 1 { trial } else { confirmed })];
    let slot = [slot, !slot].into_iter().find(|slot| loaded(&image, *slot).is_some())?;
    let copies = SelectorCopies::read(&mut machine.whole());
    let state = copies.selector().map_or(SlotState::Confirmed, |selector| selector.slot_state(slot));
    Some(Start { slot, state })
}

/// Starts the machine up to the root: the first stage of a confirmed slot whose root does not mount writes why, and makes
/// the other slot start, once.
fn start_to_root(machine: &mut Machine) -> Option<Start> {
    for _ in 0..3 {
        let started = start(machine)?;
        let Start { slot, state } = started;
        if machine.image().start(layout().root(slot), SUPERBLOCK.len()) == SUPERBLOCK {
            return Some(started);
        }
        if state == SlotState::Confirmed {
            let selector = selector_in_force(machine).fall_back();
            let note = TrialNote::armed(slot, selector.generation, "");
            let mut writes = vec![note.write(sectors(machine))];
            writes.extend(selector.writes(sectors(machine)));
            for write in writes {
                machine.write_sectors(std::slice::from_ref(&write));
                // The disk puts another sector in the place of one that cannot be read.
                machine.unreadable.remove(&write.at.0);
            }
        }
    }
    None
}

/// Writes of init, each durable before the next.
fn selector_in_force(machine: &Machine) -> Selector {
    *SelectorCopies::read(&mut machine.whole()).selector().as_ref().unwrap()
}

fn sectors(machine: &Machine) -> StateSectors {
    mbr::state_sectors(&mut machine.whole()).unwrap()
}

/// Installs the update in `slot` and arms it, as admind and init do.
fn update_and_arm(machine: &mut Machine, slot: Slot) {
    let (head, streams) = update(false);
    let mut session = Session::begin(machine, slot, head).unwrap();
    streams.chunks(4096).for_each(|piece| session.feed(machine, piece).unwrap());
    session.finish(machine).unwrap();
    let armed = selector_in_force(machine).arm(slot);
    let note = TrialNote::armed(slot, armed.generation, "ab");
    machine.write_sectors(&[note.write(sectors(machine))]);
    machine.write_sectors(&armed.writes(sectors(machine)));
}

/// Starts the trial: the note of its first stage makes the boot sector's clearing durable, too.
fn run_trial(machine: &mut Machine, slot: Slot) {
    assert_eq!(start(machine), Some(Start { slot, state: SlotState::OnTrial }));
    let mut note = TrialNote::armed(slot, selector_in_force(machine).generation, "ab");
    for stage in [Stage::FirstStage, Stage::RootMounted, Stage::Init] {
        note.stage = stage;
        machine.write_sectors(&[note.write(sectors(machine))]);
    }
}

fn grow(machine: &mut Machine) {
    let layout = DiskLayout { ..layout().grown_to(u64::from(layout().disk().0) * 2) };
    let grown = Mbr { signature: SIGNATURE, layout }.encode(crate::boot::boot_sector::CODE).unwrap();
    machine.write_sectors(&[SectorWrite { at: Sectors(0), bytes: grown.to_vec() }]);
}

/// Moves the boot state of a disk of the first format, as init's `relocation` does.
fn relocate(machine: &mut Machine) {
    machine.write_sectors(&selector_in_force(machine).writes(StateSectors::CURRENT));
    let moved = mbr::with_current_state_sectors(&machine.image().sector(0), crate::boot::boot_sector::CODE);
    machine.write_sectors(&[SectorWrite { at: Sectors(0), bytes: moved.unwrap().to_vec() }]);
}

/// Two updates, a trial that is confirmed and one that is withdrawn.
fn live(machine: &mut Machine) {
    update_and_arm(machine, Slot::B);
    run_trial(machine, Slot::B);
    let confirmed = selector_in_force(machine).confirm(Slot::B);
    machine.write_sectors(&confirmed.writes(sectors(machine)));
    update_and_arm(machine, Slot::A);
    run_trial(machine, Slot::A);
    assert_eq!(start(machine), Some(Start { slot: Slot::B, state: SlotState::Reverted }));
    let dropped = selector_in_force(machine).disarm();
    machine.write_sectors(&dropped.writes(sectors(machine)));
}

/// The disk after a power cut.
struct Cut {
    image: Image,
    /// Sectors that cannot be read.
    unreadable: BTreeSet<u32>,
}

impl Cut {
    fn of(image: Image) -> Self {
        Cut { image, unreadable: BTreeSet::new() }
    }
}

/// Calls `check` with each state of the disk after a cut behind event `n` of `log`, for all events.
fn cut_everywhere(start: &Image, log: &[Event], mut check: impl FnMut(&str, Cut)) {
    let is_long = std::env::var_os("KRAZY_LONG").is_some();
    let samples = if is_long { 1000 } else { SAMPLES };
    replay(start, log, |n, durable, pending| {
        let is_boot_state = matches!(&log[n], Event::Write(number, _) if *number < layout().boot.start.0);
        if !is_long && !is_boot_state && n % INTERVAL != 0 {
            return;
        }
        let Some((last, earlier)) = pending.split_last() else {
            check(&format!("synced at event {n}"), Cut::of(durable.clone()));
            return;
        };
        let subsets = match earlier.len() {
            few if few < ALL_SUBSETS => 1 << few,
            _ => samples,
        };
        for subset in 0..subsets {
            let mut image = durable.clone();
            for (m, (number, sector)) in earlier.iter().enumerate() {
                let survives = match earlier.len() {
                    few if few < ALL_SUBSETS => subset >> m & 1 == 1,
                    _ => Unsynced::Torn(subset).survives(n ^ m << 20),
                };
                if survives {
                    image.set(*number, *sector);
                }
            }
            let context = format!("event {n}, subset {subset} of {}", earlier.len());
            check(&format!("{context}, last lost"), Cut::of(image.clone()));
            let mut kept = image.clone();
            kept.set(last.0, last.1);
            check(&format!("{context}, last kept"), Cut::of(kept));
            // Of many subsets one is torn: the page has little to do with the writes before.
            if subset == 0 {
                torn(&image, last.0, |how, cut| check(&format!("{context}, {how}"), cut));
            }
        }
    });
}

/// Calls `check` with the states in which the page of sector `number` is damaged.
fn torn(image: &Image, number: u32, mut check: impl FnMut(&str, Cut)) {
    for page in PAGES {
        let start = number / page * page;
        // Boot code and partition table have no second copy.
        if start == 0 {
            continue;
        }
        let mut garbage = image.clone();
        (start..start + page).for_each(|sector| garbage.set(sector, [0x5a; 512]));
        check(&format!("garbage in {page} sectors"), Cut::of(garbage));
        let unreadable = (start..start + page).collect();
        check(&format!("{page} unreadable sectors"), Cut { image: image.clone(), unreadable });
    }
}

/// Checks that a machine with this disk starts from a complete slot, in the right role, also after a repair of the selectors
/// that is interrupted twice. Returns the first start.
fn judge(cut: &Cut, complete: &[(Slot, Loaded)], context: &str) -> Start {
    let machine = || {
        let mut machine = Machine::on(cut.image.clone());
        machine.unreadable.clone_from(&cut.unreadable);
        machine
    };
    let good = |machine: &mut Machine, context: &str| -> Start {
        let image = machine.image();
        let copies = SelectorCopies::read(&mut machine.whole());
        let confirmed = copies.selector().map(|selector| selector.confirmed);
        let Some(started) = start(machine) else { panic!("no slot starts: {context}") };
        let found = loaded(&image, started.slot).unwrap();
        let is_complete = complete.iter().any(|(slot, content)| *slot == started.slot && *content == found);
        assert!(is_complete, "slot {} is not complete: {context}", started.slot);
        if started.state == SlotState::Fallback {
            // The right reason: the confirmed slot cannot be loaded.
            assert!(loaded(&image, confirmed.unwrap()).is_none(), "needless fallback: {context}");
        }
        started
    };
    let mut first = machine();
    let started = good(&mut first, context);
    // The mark of a trial may be lost, in which case it starts again, and is as harmless as before.
    assert_eq!(good(&mut machine(), context), started, "{context}");
    let next = good(&mut first, &format!("second start, {context}"));
    if started.state == SlotState::OnTrial {
        assert!([SlotState::Reverted, SlotState::Fallback].contains(&next.state), "{next:?} {context}");
    }
    // Init's repair, interrupted twice: a damaged copy may be any of the two.
    let copies = SelectorCopies::read(&mut first.whole());
    if let (Ok(selector), true) = (copies.selector(), copies.needs_repair()) {
        for write in selector.writes(sectors(&first)) {
            for page in PAGES {
                let at = write.at.0 / page * page;
                if at == 0 {
                    continue;
                }
                let mut image = first.image();
                (at..at + page).for_each(|sector| image.set(sector, [0xa5; 512]));
                let context = format!("repair interrupted at sector {}, {context}", write.at.0);
                good(&mut Machine::on(image), &context);
            }
            first.write_sectors(std::slice::from_ref(&write));
            first.unreadable.remove(&write.at.0);
        }
        assert!(!SelectorCopies::read(&mut first.whole()).needs_repair(), "{context}");
        good(&mut first, &format!("after the repair, {context}"));
    }
    started
}

/// Returns the number of states, and of those that ended in each role.
fn survive(begin: &Machine, lived: &Machine) {
    let start = begin.image();
    let log = lived.log();
    // All contents that a slot had when its update was finished or had not begun.
    let mut complete: Vec<(Slot, Loaded)> = Vec::new();
    for image in [&start, &lived.image()] {
        let found = Slot::ALL.into_iter().filter_map(|slot| Some((slot, loaded(image, slot)?)));
        complete.extend(found);
    }
    let mut roles = std::collections::BTreeMap::<String, u32>::new();
    let mut states = 0;
    cut_everywhere(&start, &log, |context, cut| {
        states += 1;
        let Start { slot, state } = judge(&cut, &complete, context);
        *roles.entry(format!("{slot} {}", state.name())).or_default() += 1;
    });
    println!("{} events, {states} states, {states} bootable, 0 lost: {roles:?}", log.len());
    for role in ["A confirmed", "B on-trial", "B confirmed", "A on-trial", "B reverted"] {
        assert!(roles.contains_key(role), "no state is `{role}`: {roles:?}");
    }
}

#[test]
fn some_complete_slot_starts_after_any_cut_of_two_updates() {
    let mut machine = Machine::new(&old_root());
    let begin = machine.clone().restarted();
    grow(&mut machine);
    live(&mut machine);
    survive(&begin, &machine);
}

#[test]
fn some_complete_slot_starts_after_any_cut_of_a_move_from_the_first_format() {
    let mut machine = Machine::of_first_format(&old_root());
    let begin = machine.clone().restarted();
    relocate(&mut machine);
    live(&mut machine);
    survive(&begin, &machine);
}

#[test]
fn other_slot_starts_after_any_cut_while_the_confirmed_root_does_not_mount() {
    let mut machine = Machine::new(&old_root());
    update_and_arm(&mut machine, Slot::B);
    run_trial(&mut machine, Slot::B);
    let confirmed = selector_in_force(&machine).confirm(Slot::B);
    machine.write_sectors(&confirmed.writes(sectors(&machine)));
    let mut image = machine.image();
    image.set(layout().root_b.start.0, [0; 512]);

    let begin = Machine::on(image);
    let complete = loaded(&begin.image(), Slot::A);
    let mut lived = begin.clone();
    let fallback = Some(Start { slot: Slot::A, state: SlotState::Fallback });
    assert_eq!(start_to_root(&mut lived), fallback);
    // The next start tries the confirmed slot first again.
    assert_eq!(start_to_root(&mut lived), fallback);
    let confirmed = selector_in_force(&lived).confirm(Slot::A);
    lived.write_sectors(&confirmed.writes(sectors(&lived)));
    assert_eq!(start_to_root(&mut lived), Some(Start { slot: Slot::A, state: SlotState::Confirmed }));

    let mut states = 0;
    cut_everywhere(&begin.image(), &lived.log(), |context, cut| {
        let mut machine = Machine::on(cut.image);
        machine.unreadable = cut.unreadable;
        for time in ["first", "second"] {
            let started = start_to_root(&mut machine).unwrap_or_else(|| panic!("no {time} start: {context}"));
            assert_eq!(started.slot, Slot::A, "{time} start: {context}");
            assert_eq!(loaded(&machine.image(), Slot::A), complete, "{time} start: {context}");
        }
        states += 1;
    });
    println!("{states} states, {states} bootable, 0 lost");
    assert!(states > 50, "{states}");
}
