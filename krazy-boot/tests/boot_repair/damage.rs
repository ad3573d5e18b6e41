//! One defect at a time, power cuts of the repair itself, and random damage.

use super::*;

const BOTH: &[u32] = &[0, 1];
const END: u32 = 0x0fff_ffff;

/// Repairs a volume after `change`, and returns the words of what was found. `fsck.fat` judges the result.
fn found(change: impl FnOnce(&mut Volume)) -> String {
    let mut volume = volume();
    change(&mut volume);
    let findings = volume.repair();
    assert_sound(&volume, &findings.to_string());
    volume.judge(&findings.to_string());
    findings.to_string()
}

fn free_cluster(volume: &Volume) -> u32 {
    (2..).find(|cluster| volume.entry(*cluster) == 0).unwrap()
}

#[test]
fn chains_are_repaired() {
    let text = found(|volume| {
        let chain = volume.clusters(b"B-VMLI");
        volume.set_entry(BOTH, chain[5], 0);
    });
    assert!(text.starts_with("b-vmlinuz removed, 78 lost clusters freed"), "{text}");
    for value in [1, 0x0fff_fff0, 0x0fff_fff7, u32::MAX] {
        let text = found(|volume| {
            let chain = volume.clusters(b"B-VMLI");
            volume.set_entry(BOTH, chain[5], value & END);
        });
        assert!(text.starts_with("b-vmlinuz removed"), "{text}");
    }
    let text = found(|volume| {
        let chain = volume.clusters(b"B-VMLI");
        volume.set_entry(BOTH, chain[5], chain[2]);
    });
    assert!(text.starts_with("b-vmlinuz removed"), "a loop: {text}");
    let text = found(|volume| {
        let (chain, kept) = (volume.clusters(b"B-VMLI"), volume.clusters(b"A-VMLI"));
        volume.set_entry(BOTH, chain[5], kept[7]);
    });
    assert!(text.starts_with("b-vmlinuz removed"), "a cross-link: {text}");
    let text = found(|volume| {
        let (chain, free) = (volume.clusters(b"A-VMLI"), free_cluster(volume));
        volume.set_entry(BOTH, *chain.last().unwrap(), free);
        volume.set_entry(BOTH, free, END);
    });
    assert!(text.starts_with("1 lost clusters freed, 1 chains shortened"), "{text}");
    let text = found(|volume| {
        let free = free_cluster(volume);
        (free..free + 5000).for_each(|cluster| volume.set_entry(BOTH, cluster, cluster + 1));
    });
    assert_eq!(text, "5000 lost clusters freed");
    let mut shared = volume();
    let chain = shared.clusters(b"CONFIG");
    shared.set_entry(BOTH, chain[1], 0);
    let text = shared.repair().to_string();
    assert!(text.starts_with("config.txt cut where the chain of clusters ends"), "{text}");
    assert!(shared.content("config.txt") == data(1500, 1500)[..512]);
    shared.judge(&text);
}

#[test]
fn copies_of_the_fat_help_each_other() {
    let text = found(|volume| {
        let chain = volume.clusters(b"B-VMLI");
        volume.set_entry(&[1], chain[5], 0);
    });
    assert_eq!(text, "the copies of the FAT made equal");
    let text = found(|volume| {
        let chain = volume.clusters(b"A-VMLI");
        volume.set_entry(&[0], chain[5], 0);
    });
    assert!(text.starts_with("a-vmlinuz restored from the other copy of the FAT"), "{text}");
    let text = found(|volume| {
        let chain = volume.clusters(b"CONFIG");
        volume.set_entry(&[0], chain[1], 0);
    });
    assert!(text.starts_with("config.txt restored from the other copy of the FAT"), "{text}");
    let mut lost = volume();
    let (chain, size) = (lost.clusters(b"A-VMLI"), lost.find(b"A-VMLI"));
    lost.set_entry(BOTH, chain[5], 0);
    let findings = lost.repair();
    assert_eq!((&findings.damaged[..], &findings.removed[..]), (&["a-vmlinuz".to_owned()][..], &[][..]));
    assert_eq!(lost.word(size.0, size.1 + 28), 70_001, "the file was changed");
    assert!(lost.fat().check(Some(Slot::B)).unwrap().is_empty());
    // The boot loader's table may still name the sectors of the file: none is free.
    assert!(chain.iter().all(|cluster| lost.entry(*cluster) != 0));
    let mut empty = volume();
    let (chain, size) = (empty.clusters(b"A-VMLI"), empty.find(b"A-VMLI"));
    empty.change(size.0, size.1 + 28, &[0; 4]);
    assert_eq!(empty.repair().damaged, ["a-vmlinuz"]);
    assert!(chain.iter().all(|cluster| empty.entry(*cluster) != 0));
    // Without a slot to rewrite, nothing is removed.
    let mut kept = volume();
    let chain = kept.clusters(b"B-VMLI");
    kept.set_entry(BOTH, chain[5], 0);
    assert_eq!(kept.fat().check(None).unwrap().findings.damaged, ["b-vmlinuz"]);
}

#[test]
fn marks_and_directory_entries_are_corrected() {
    assert_eq!(found(|volume| volume.change(1, 488, &[9, 9, 0, 0])), "the number of free clusters corrected");
    assert_eq!(found(|volume| volume.change(0, 65, &[1])), "the mark of a missing unmount cleared");
    assert_eq!(found(|volume| volume.set_entry(BOTH, 1, 0x07ff_ffff)), "the copies of the FAT made equal");
    // A long name without its file, and an unused entry between used ones.
    for (offset, value) in [(0, 0xe5), (0, 0), (-32, 0)] {
        let text = found(|volume| {
            let (sector, at) = volume.find(b"B-INIT");
            let place = (sector * SECTOR as u32 + at as u32).wrapping_add_signed(offset);
            volume.change(place / SECTOR as u32, place as usize % SECTOR, &[value]);
        });
        assert!(text.contains("directory entries corrected"), "{text}");
    }
    for name in [&b"B?INIT"[..], b"\x01\x02", b" B", b"."] {
        found(|volume| {
            let (sector, at) = volume.find(b"B-INIT");
            volume.change(sector, at, name);
        });
    }
    // The length says more, or less, than the chain has.
    for size in [0_u32, 1, 512, 2999, 100_000, u32::MAX] {
        found(|volume| {
            let (sector, at) = volume.find(b"B-INIT");
            volume.change(sector, at + 28, &size.to_le_bytes());
        });
    }
    // A cluster of the directory that never reached the disk.
    for garbage in [0x5a, 0x0f, 0xff, 1] {
        found(|volume| {
            let free = free_cluster(volume);
            volume.set_entry(BOTH, free, END);
            volume.set(volume.root() + free - 2, [garbage; SECTOR]);
            // The root directory has one cluster.
            volume.set_entry(BOTH, 2, free);
        });
    }
}

/// Adds files without a long name, each with a cluster.
fn add(volume: &mut Volume, names: &[&[u8; 11]]) {
    let unused = |&at: &usize| volume.sector(volume.root() + 2)[at] == 0;
    let start = (0..SECTOR).step_by(32).find(unused).unwrap();
    let first = free_cluster(volume);
    for (n, name) in names.iter().enumerate() {
        let cluster = first + n as u32;
        volume.set_entry(BOTH, cluster, END);
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(*name);
        entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
        entry[28] = 9;
        volume.change(volume.root() + 2, start + n * 32, &entry);
    }
}

/// Names that are the same, or become it when they lose their bad bytes.
#[test]
fn colliding_names_are_told_apart() {
    let mut volume = volume();
    let bad: [&[u8; 11]; 6] =
        [b"X?         ", b"X*         ", b"X?         ", b" X         ", b"FSCK0001REN", b"FSCK0000REN"];
    let same: [&[u8; 11]; 4] = [b"CONFIG  TXT", b"CONFIG  TXT", b"B-SAME     ", b"B-SAME     "];
    add(&mut volume, &[&bad[..], &same].concat());
    let findings = volume.repair();
    assert_eq!((&findings.removed[..], findings.lost_clusters), (&["B-SAME".to_owned()][..], 1));
    assert_sound(&volume, "colliding names");
    volume.judge("colliding names");
    let names: Vec<_> = volume.fat().files().unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("FSCK")).count(), 8, "{names:?}");
    assert!(volume.content("config.txt") == data(1500, 1500));
}

/// Files of subdirectories keep their clusters. mtools makes the directory.
#[test]
fn subdirectories_are_followed() {
    let file = volume().store();
    let source = NamedTempFile::new().unwrap();
    std::fs::write(source.path(), data(3, 5000)).unwrap();
    let image = file.path().to_str().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).arg("-i").arg(image).args(arguments).status();
        assert!(status.expect("mtools is missing").success(), "{program}");
    };
    run("mmd", &["::overlays"]);
    run("mcopy", &[source.path().to_str().unwrap(), "::overlays/a rather long name.dtbo"]);
    let mut volume = Volume::load(file.as_file());
    assert_eq!(volume.repair(), Findings::default());
    let own = volume.first_cluster(b"OVERLAYS");
    volume.change(volume.root() + own - 2, 26, &[9, 0]);
    volume.change(0, 65, &[1]);
    let text = volume.repair().to_string();
    assert!(text.contains("directory entries corrected"), "{text}");
    assert_sound(&volume, &text);
    volume.judge(&text);
    volume.change(volume.root() + own - 2, 0, &[0x41; 64]);
    let text = volume.repair().to_string();
    assert!(text.starts_with("OVERLAYS removed, 11 lost clusters freed"), "{text}");
    volume.judge(&text);
}

/// Lost writes of the repair itself are repaired by the next one.
#[test]
fn repair_survives_power_cuts() {
    let mut start = volume();
    let (chain, kept) = (start.clusters(b"B-VMLI"), start.clusters(b"A-VMLI"));
    start.set_entry(BOTH, chain[3], kept[7]);
    start.set_entry(&[1], kept[9], 0);
    let free = free_cluster(&start);
    (free..free + 400).for_each(|cluster| start.set_entry(BOTH, cluster, cluster + 1));
    let restored = start.clusters(b"A-INIT");
    start.set_entry(&[0], restored[2], 0);
    start.change(0, 65, &[1]);
    let stages = start.fat().check(Some(Slot::B)).unwrap().stages().to_vec();
    assert_eq!(stages.len(), 5, "{stages:?}");
    for cut in 0..stages.len() {
        for seed in 0..12 {
            let mut volume = start.clone();
            stages[..cut].iter().flatten().for_each(|write| volume.perform(write));
            for write in &stages[cut] {
                for (at, sector) in (write.at.0..).zip(write.bytes.as_chunks::<SECTOR>().0) {
                    if survives(seed, at as usize) {
                        volume.set(at, *sector);
                    }
                }
            }
            let context = format!("stage {cut}, seed {seed}: {}", volume.repair());
            assert_sound(&volume, &context);
            if seed == 1 {
                volume.judge(&context);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Any damage is repaired by one repair, or reported.
    #[test]
    fn random_damage_is_repaired_at_once(
        changes in prop::collection::vec((0..3_u32, 0..700_usize, any::<[u8; 8]>()), 1..6),
    ) {
        let mut volume = volume();
        for (area, at, bytes) in changes {
            let start = match area {
                0 => volume.fat_start(),
                1 => volume.fat_start() + volume.fat_len(),
                _ => volume.root(),
            };
            // Aligned, so that it stays within its sector.
            let at = at / 8 * 8;
            volume.change(start + (at / SECTOR) as u32, at % SECTOR, &bytes);
        }
        if let Ok(repair) = volume.fat().check(Some(Slot::B)) {
            repair.stages().iter().flatten().for_each(|write| volume.perform(write));
            let again = volume.fat().check(Some(Slot::B)).unwrap();
            prop_assert!(again.is_empty(), "{} after {}", again.findings, repair.findings);
        }
    }
}
