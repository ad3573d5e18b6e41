use super::*;

fn block(seed: u8) -> Vec<u8> {
    (0..1000_u32).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

fn filled(directory: &Path, seeds: impl IntoIterator<Item = u8>) {
    let cache = BlockCache::open(directory, Bytes::mib(1)).unwrap();
    for seed in seeds {
        cache.put(BlockKey::of(&block(seed), 3), &[seed; 400], 1000);
    }
    cache.finalize().unwrap();
}

fn packs(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn find(directory: &Path, seed: u8) -> Option<Vec<u8>> {
    BlockCache::open(directory, Bytes::mib(1)).unwrap().get(&BlockKey::of(&block(seed), 3), 1000)
}

#[test]
fn blocks_are_found_by_content_and_level() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), [1, 2]);
    filled(directory.path(), [3]);
    assert_eq!(packs(directory.path()).len(), 2);
    for seed in [1, 2, 3] {
        assert_eq!(find(directory.path(), seed), Some(vec![seed; 400]));
    }
    let cache = BlockCache::open(directory.path(), Bytes::mib(1)).unwrap();
    assert_eq!(cache.get(&BlockKey::of(&block(4), 3), 1000), None);
    assert_eq!(cache.get(&BlockKey::of(&block(1), 4), 1000), None);
}

#[test]
fn incompressible_block_takes_no_space() {
    let directory = tempfile::tempdir().unwrap();
    let cache = BlockCache::open(directory.path(), Bytes::mib(1)).unwrap();
    let key = BlockKey::of(&block(1), 3);
    cache.put(key, &[7; 1001], 1000);
    cache.finalize().unwrap();
    assert!(packs(directory.path())[0].metadata().unwrap().len() < 100);
    let cache = BlockCache::open(directory.path(), Bytes::mib(1)).unwrap();
    assert_eq!(cache.get(&key, 1000).unwrap().len(), 1001);
}

#[test]
fn damage_at_any_byte_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), [1]);
    let [pack] = &packs(directory.path())[..] else { panic!("one pack") };
    let sound = fs::read(pack).unwrap();
    for position in 0..sound.len() {
        let mut damaged = sound.clone();
        damaged[position] ^= 0x10;
        fs::write(pack, &damaged).unwrap();
        assert_eq!(find(directory.path(), 1), None, "byte {position}");
    }
    for len in 0..sound.len() {
        fs::write(pack, &sound[..len]).unwrap();
        assert_eq!(find(directory.path(), 1), None, "cut to {len}");
    }
    fs::write(pack, &sound).unwrap();
    assert_eq!(find(directory.path(), 1), Some(vec![1; 400]));
}

#[test]
fn truncation_while_open_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), [1]);
    let cache = BlockCache::open(directory.path(), Bytes::mib(1)).unwrap();
    File::options().write(true).open(&packs(directory.path())[0]).unwrap().set_len(20).unwrap();
    assert_eq!(cache.get(&BlockKey::of(&block(1), 3), 1000), None);
}

#[test]
fn least_recently_used_pack_is_evicted_first() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), [1]);
    filled(directory.path(), [2]);
    for (age, path) in packs(directory.path()).iter().enumerate() {
        let time = SystemTime::now() - Duration::from_secs(3600 * (age as u64 + 1));
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    let used = [1, 2].map(|seed| {
        let cache = BlockCache::open(directory.path(), Bytes(600)).unwrap();
        cache.get(&BlockKey::of(&block(seed), 3), 1000).map(|_| cache)
    });
    let [first, _] = used;
    first.unwrap().finalize().unwrap();
    assert!(find(directory.path(), 1).is_some());
    assert!(find(directory.path(), 2).is_none());
}

proptest::proptest! {
    #[test]
    fn foreign_files_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let directory = tempfile::tempdir().unwrap();
        let mut pack = MAGIC.to_vec();
        pack.extend_from_slice(&bytes);
        pack.extend_from_slice(&END);
        fs::write(directory.path().join("x.pack"), pack).unwrap();
        proptest::prop_assert!(find(directory.path(), 1).is_none());
    }
}
