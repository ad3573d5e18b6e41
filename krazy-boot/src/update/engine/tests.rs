use proptest::prelude::*;

use super::simulator::{Event, Image, Machine, SIGNATURE, layout};
use super::*;
use crate::boot::bzimage::tests::kernel;
use crate::boot::load_table::LoadTable;
use crate::boot::slot_area::{self, BootFiles};
use crate::digest::{Hex, sha256 as hash};
use crate::disk::layout::{StateSectors, area_of_slot};
use crate::disk::slot::Slot;
use crate::update::bundle::{BundleManifest, FORMAT, Head, Part, PartKind, PartTransport, Signed, Transport};
use crate::update::delta::encode;

/// Returns a root image: a superblock with the length, then content that depends on `seed`.
fn root(len: usize, seed: u8) -> Vec<u8> {
    let mut image: Vec<u8> = (0..len).map(|n| (n as u8).wrapping_mul(31) ^ (n >> 7) as u8 ^ seed).collect();
    image[..4].copy_from_slice(b"hsqs");
    image[40..48].copy_from_slice(&(len as u64).to_le_bytes());
    image
}

fn old_root() -> Vec<u8> {
    root(20_000, 1)
}

fn new_root() -> Vec<u8> {
    let mut new = root(30_001, 1);
    new[9000..9100].fill(0xcc);
    new
}

/// Returns head and streams of an update; the streams copy from the running slot if `delta`.
fn update(delta: bool) -> (Head, Vec<u8>) {
    let dtb = PartKind::BootFile("board.dtb".into());
    let contents = [
        (PartKind::Root, new_root(), old_root()),
        (PartKind::Kernel, kernel(4, 3000), kernel(3, 1600)),
        (PartKind::Initramfs, vec![9; 1400], vec![7; 900]),
        (dtb, b"device tree".to_vec(), Vec::new()),
    ];
    let mut streams = Vec::new();
    let (mut parts, mut transports) = (Vec::new(), Vec::new());
    for (kind, new, old) in contents {
        let base = if delta { &old[..] } else { &[] };
        let stored = encode(&new, base, 1, &mut streams).unwrap().stored;
        let base = (delta && !old.is_empty()).then(|| hash(&old));
        transports.push(PartTransport { stored, base });
        parts.push(Part { kind, size: Bytes(new.len() as u64), sha256: hash(&new) });
    }
    let manifest = BundleManifest {
        format: FORMAT,
        appliance: "weather".into(),
        board: "x86_64".into(),
        build_id: "ab".into(),
        version: "1.0.0".into(),
        protocol: 1,
        cmdline: vec!["console=ttyS0".into()],
        instructions: Vec::new(),
        parts,
    };
    let signed = Signed { json: manifest.to_json().unwrap(), signature: [0; 64] };
    (Head { manifest, signed, transport: Transport { parts: transports } }, streams)
}

fn install(machine: &mut Machine, head: Head, streams: &[u8], piece: usize) -> Result<(), EngineError> {
    let mut session = Session::begin(machine, Slot::B, head)?;
    for piece in streams.chunks(piece) {
        session.feed(machine, piece)?;
    }
    session.finish(machine)
}

fn installed(delta: bool, piece: usize) -> Machine {
    let mut machine = Machine::new(&old_root());
    let (head, streams) = update(delta);
    install(&mut machine, head, &streams, piece).unwrap();
    machine.restarted()
}

#[test]
fn update_fills_the_inactive_slot() {
    for (delta, piece) in [(false, 1 << 20), (true, 1 << 20), (true, 7)] {
        let machine = installed(delta, piece);
        assert!(is_complete(&machine, Slot::A).unwrap() && is_complete(&machine, Slot::B).unwrap());
        assert_eq!(machine.boot_file("b-vmlinuz").unwrap(), kernel(4, 3000));
        assert_eq!(machine.boot_file("b-initramfs").unwrap(), [9; 1400]);
        assert_eq!(machine.boot_file("b-board.dtb").unwrap(), b"device tree");
        let line = machine.boot_file("b-cmdline.txt").unwrap();
        assert_eq!(line, b"root=PARTUUID=1a2b3c4d-03 krazy.slot=b console=ttyS0\n");
        let manifest = read_record(&machine, Slot::B).unwrap().unwrap();
        assert_eq!(manifest, update(false).0.manifest);
        assert_eq!(read_record(&machine, Slot::A).unwrap(), None);
        let measured = measure(&machine, Slot::B).unwrap();
        assert!(measured.len() == 3 && measured.iter().all(|part| manifest.parts.contains(part)));
        let root = machine.image().bytes(layout().root_b);
        assert_eq!(root[..new_root().len()], new_root());
    }
}

#[test]
fn second_update_replaces_all_files_of_the_first() {
    let mut machine = installed(false, 1 << 20);
    let (mut head, mut streams) = update(true);
    // Without the device tree.
    let dtb = head.transport.parts.pop().unwrap();
    streams.truncate(streams.len() - dtb.stored.0 as usize);
    head.manifest.parts.pop();
    head.signed.json = head.manifest.to_json().unwrap();
    install(&mut machine, head, &streams, 100).unwrap();
    let mut names = machine.boot_names();
    names.sort();
    let expected = [
        "a-cmdline.txt",
        "a-first.pad",
        "a-initramfs",
        "a-last.pad",
        "a-vmlinuz",
        "b-cmdline.txt",
        "b-first.pad",
        "b-initramfs",
        "b-last.pad",
        "b-slot.json",
        "b-slot.sig",
        "b-vmlinuz",
    ];
    assert_eq!(names, expected);
    assert!(is_complete(&machine, Slot::B).unwrap());
    let signed = read_signed(&machine, Slot::B).unwrap().unwrap();
    assert_eq!(Some(signed.verified(|_, _| true).unwrap()), read_record(&machine, Slot::B).unwrap());
    assert!(signed.verified(|_, _| false).is_err());
    assert_eq!(read_signed(&machine, Slot::A).unwrap(), None);
    remove_record(&mut machine, Slot::B).unwrap();
    assert_eq!(read_record(&machine, Slot::B).unwrap(), None);
    assert_eq!(read_signed(&machine, Slot::B).unwrap(), None);
}

#[test]
fn update_that_contradicts_its_manifest_never_becomes_bootable() {
    let refused = |change: &dyn Fn(&mut Machine, &mut Head, &mut Vec<u8>)| {
        let mut machine = Machine::new(&old_root());
        let (mut head, mut streams) = update(true);
        change(&mut machine, &mut head, &mut streams);
        let error = install(&mut machine, head, &streams, 1000).unwrap_err();
        assert!(!is_complete(&machine, Slot::B).unwrap(), "{error}");
        assert!(is_complete(&machine, Slot::A).unwrap(), "{error}");
        (error.refusal(), error.to_string())
    };
    let (reason, text) = refused(&|_, head, _| head.manifest.parts[0].sha256 = Hex([0; 32]));
    assert!(text.starts_with("the root has the hash ") && reason == Some(Refusal::Content), "{text}");
    let (reason, text) = refused(&|_, head, _| head.manifest.parts[0].size = Bytes(30_000));
    assert_eq!((reason, text.as_str()), (Some(Refusal::Content), "the root of the update cannot be applied"));
    let (reason, text) = refused(&|_, _, streams| streams.push(0));
    assert_eq!((reason, text.as_str()), (Some(Refusal::Content), "more was sent than the update announced"));
    let (reason, _) = refused(&|_, _, streams| streams.truncate(streams.len() - 1));
    assert_eq!(reason, Some(Refusal::NotVerified));
    let (reason, _) = refused(&|_, _, streams| streams[20] ^= 0x40);
    assert_eq!(reason, Some(Refusal::Content));
    // The base differs from the one that the host used.
    let (reason, _) = refused(&|machine, _, _| {
        machine.write_at(layout().root_a.start.bytes(), &root(20_000, 2)).unwrap();
    });
    assert_eq!(reason, Some(Refusal::Content));
    let (reason, text) = refused(&|_, head, _| head.manifest.cmdline.push("root=/dev/sda".into()));
    assert!(text.contains("must not set `root`") && reason == Some(Refusal::Bundle), "{text}");
    let (reason, text) = refused(&|_, head, _| head.manifest.parts[0].size = Bytes::mib(2));
    let expected = "the root has 2 MiB, a root partition of this device has 1 MiB";
    assert_eq!((reason, text.as_str()), (Some(Refusal::TooLarge), expected));
    let (reason, text) = refused(&|machine, _, _| machine.boot_free = Some(Bytes::kib(512)));
    assert!(text.starts_with("the boot files take 6") && reason == Some(Refusal::TooLarge), "{text}");
    let (reason, text) = refused(&|machine, _, _| machine.corrupt_sector = Some(layout().root_b.start.0 + 5));
    let expected = "the disk does not return the root that was written to it";
    assert_eq!((reason, text.as_str()), (Some(Refusal::ReadBack), expected));
    let (_, text) =
        refused(&|machine, _, _| machine.corrupt_sector = Some(area_of_slot(Slot::B).start.0 + 2));
    assert_eq!(text, "the disk does not return the load table of slot B");
}

#[test]
fn kernel_that_cannot_be_booted_is_refused() {
    let mut machine = Machine::new(&old_root());
    let (mut head, _) = update(false);
    let mut streams = Vec::new();
    for (n, content) in [new_root(), vec![1; 5000], vec![9; 1400], vec![2]].into_iter().enumerate() {
        head.transport.parts[n].stored = encode(&content, &[], 1, &mut streams).unwrap().stored;
        let part = &mut head.manifest.parts[n];
        (part.size, part.sha256) = (Bytes(content.len() as u64), hash(&content));
    }
    let error = install(&mut machine, head, &streams, 1000).unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Content));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the kernel of slot B cannot be booted");
    assert!(!is_complete(&machine, Slot::B).unwrap() && read_record(&machine, Slot::B).unwrap().is_none());
}

#[test]
fn slot_that_boots_next_is_never_changed() {
    let mut machine = installed(false, 1 << 20);
    for slot in [Slot::A, Slot::B] {
        machine.arm(Slot::B);
        let before = machine.log().len();
        let error = Session::begin(&mut machine, slot, update(false).0).err().unwrap();
        assert_eq!(error.refusal(), Some(Refusal::Armed));
        assert_eq!(machine.log().len(), before);
    }
}

/// Returns what a machine with this disk would load into memory and mount if it booted `slot`; `None` if it cannot.
fn booted(image: &Image, slot: Slot) -> Option<(Vec<u8>, Vec<u8>)> {
    let layout = layout();
    let table = LoadTable::decode(&image.bytes(area_of_slot(slot))).ok()?;
    let memory: Vec<_> = table.loads.iter().map(|load| image.bytes(load.source)).collect();
    let len = match slot {
        Slot::A => 20_000,
        Slot::B => 30_001,
    };
    Some((memory.concat(), image.start(layout.root(slot), len)))
}

/// Returns the slot that the boot sector would choose.
fn selected(image: &Image) -> Slot {
    let copies = SelectorCopies::read(&mut Machine::on(image.clone()).whole());
    let selector = copies.selector().unwrap();
    selector.trial.unwrap_or(selector.confirmed)
}

/// The writes since the last sync that survive a power cut.
#[derive(Clone, Copy, Debug)]
enum Unsynced {
    Lost,
    Kept,
    /// A random subset of the sectors, by this seed.
    Torn(u64),
}

impl Unsynced {
    fn survives(self, number: usize) -> bool {
        match self {
            Unsynced::Lost => false,
            Unsynced::Kept => true,
            Unsynced::Torn(seed) => {
                let mixed = (seed ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40 & 1 == 1
            }
        }
    }
}

/// Calls `check` at every event of `log` with its number, the disk after the last sync, and the writes since.
fn replay(start: &Image, log: &[Event], mut check: impl FnMut(usize, &Image, &[(u32, simulator::Sector)])) {
    let mut durable = start.clone();
    let mut pending = Vec::new();
    for (n, event) in log.iter().enumerate() {
        match event {
            Event::Write(number, sector) => pending.push((*number, **sector)),
            Event::Sync => pending.drain(..).for_each(|(number, sector)| durable.set(number, sector)),
        }
        check(n, &durable, &pending);
    }
}

/// Calls `check` with the disk after a power cut at every event of `log`.
fn cut_everywhere(start: &Image, log: &[Event], unsynced: Unsynced, mut check: impl FnMut(usize, &Image)) {
    replay(start, log, |n, durable, pending| {
        let mut after = durable.clone();
        for (m, (number, sector)) in pending.iter().enumerate() {
            if unsynced.survives(n ^ m << 20) {
                after.set(*number, *sector);
            }
        }
        check(n, &after);
    });
}

/// An update and its arming, interrupted after every sector and every sync.
#[test]
fn power_cut_at_any_write_boots_the_old_slot_or_the_complete_new_one() {
    let layout = layout();
    // An update over an earlier one, so that slot B has something to lose.
    for (start, delta) in [(Machine::new(&old_root()), false), (installed(false, 1 << 20), true)] {
        let start = start.image();
        let mut machine = Machine::on(start.clone());
        let (head, streams) = update(delta);
        install(&mut machine, head, &streams, 4096).unwrap();
        let installed = machine.log().len();
        machine.arm(Slot::B);
        let (log, end) = (machine.log(), machine.image());
        assert!(installed > 100 && log.len() == installed + 4, "{installed} of {} events", log.len());
        println!("{installed} sector writes and syncs");
        let written =
            |event: &Event| matches!(event, Event::Write(number, _) if *number >= layout.data.start.0);
        assert!(!log.iter().any(written), "/data was written");
        let (old, new) = (booted(&start, Slot::A).unwrap(), booted(&end, Slot::B).unwrap());
        assert_eq!(new.1, new_root());
        let seeds = (1..=3).map(Unsynced::Torn);
        for unsynced in [Unsynced::Lost, Unsynced::Kept].into_iter().chain(seeds) {
            let mut tried = 0;
            cut_everywhere(&start, &log, unsynced, |n, image| {
                let context = format!("after event {n} of {installed}, unsynced writes {unsynced:?}");
                assert_eq!(booted(image, Slot::A).as_ref(), Some(&old), "slot A {context}");
                match selected(image) {
                    Slot::A => {}
                    Slot::B => {
                        tried += 1;
                        assert_eq!(booted(image, Slot::B).as_ref(), Some(&new), "slot B {context}");
                    }
                }
                // A valid table belongs to a complete slot; before the update, to the old content.
                if let Some(found) = booted(image, Slot::B) {
                    let before = booted(&start, Slot::B);
                    assert!(found == new || before == Some(found), "half of slot B {context}");
                }
                let files = BootFiles::read(&mut Machine::on(image.clone()).fat(), Slot::A).unwrap();
                let writes =
                    slot_area::refresh_from(&mut Machine::on(image.clone()).whole(), Slot::A, &files);
                assert_eq!(writes.unwrap(), [], "slot A's files on /boot {context}");
            });
            assert!((1..=2).contains(&tried), "{tried} cuts left slot B armed");
        }
    }
}

/// After a power cut, the next update works with any content of the slot.
#[test]
fn update_after_a_power_cut_completes() {
    let start = Machine::new(&old_root()).image();
    let mut machine = Machine::on(start.clone());
    let (head, streams) = update(true);
    install(&mut machine, head.clone(), &streams, 4096).unwrap();
    let log = machine.log();
    for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(3)] {
        cut_everywhere(&start, &log, unsynced, |n, image| {
            if n % 17 != 0 {
                return;
            }
            let mut machine = Machine::on(image.clone());
            install(&mut machine, head.clone(), &streams, 1 << 20)
                .unwrap_or_else(|error| panic!("after event {n}, {unsynced:?}: {error}"));
            assert!(is_complete(&machine, Slot::B).unwrap(), "after event {n}, {unsynced:?}");
        });
    }
}

#[test]
fn new_image_has_an_empty_second_slot() {
    let machine = Machine::new(&old_root());
    assert!(!is_complete(&machine, Slot::B).unwrap());
    assert_eq!(read_record(&machine, Slot::B).unwrap(), None);
    let measured = measure(&machine, Slot::A).unwrap();
    assert_eq!(measured[2], Part { kind: PartKind::Root, size: Bytes(20_000), sha256: hash(&old_root()) });
    assert_eq!(SIGNATURE.partuuid(3), "1a2b3c4d-03");
}

mod flips;
mod life;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn foreign_streams_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0..3000usize) {
        let mut machine = Machine::new(&old_root());
        let (head, mut streams) = update(true);
        let at = at.min(streams.len());
        let end = (at + bytes.len()).min(streams.len());
        streams[at..end].copy_from_slice(&bytes[..end - at]);
        let outcome = install(&mut machine, head, &streams, 333);
        prop_assert_eq!(outcome.is_ok(), is_complete(&machine, Slot::B).unwrap());
    }
}

mod damaged_boot;
mod firmware;
