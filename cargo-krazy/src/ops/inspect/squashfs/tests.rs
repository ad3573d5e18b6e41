//! What backhand wrote is read; what is wrong is said; damage never panics.

use std::io::Cursor;

use krazy_boot::disk::size::Bytes;
use krazy_boot::image::squashfs::{SquashfsOptions, write};
use krazy_boot::image::tree::{Content, Entry, Tree};
use proptest::prelude::*;

use super::*;

/// A root with a small file, a file of several blocks, and many others.
fn root() -> Vec<u8> {
    let mut tree = Tree::new();
    let mut add = |path: &str, content: Vec<u8>| {
        tree.add(&format!("/{path}"), Entry::file(Content::Bytes(content)), "test").unwrap();
    };
    add("etc/krazy/manifest.json", b"{}\n".to_vec());
    add("etc/large", large());
    for number in 0..600 {
        add(&format!("bin/program-{number}"), b"x".to_vec());
    }
    let options = SquashfsOptions { level: 3, mtime: 0, limit: Bytes::mib(8) };
    let mut bytes = Cursor::new(Vec::new());
    write(&tree, &options, &mut bytes, None).unwrap();
    bytes.into_inner()
}

/// Two blocks that do not compress, two that do, the rest of one.
fn large() -> Vec<u8> {
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    noise.take(300_000).chain(std::iter::repeat_n(b'a', 300_000)).collect()
}

fn open(bytes: &[u8]) -> Result<Squashfs<Cursor<&[u8]>>> {
    Squashfs::open(Cursor::new(bytes), 0, bytes.len() as u64)
}

#[test]
fn reads_what_backhand_wrote() {
    let root = root();
    let mut disk = vec![0xee; 1000];
    disk.extend(&root);
    let mut squashfs = Squashfs::open(Cursor::new(&disk), 1000, root.len() as u64).unwrap();
    assert_eq!(squashfs.read("etc/krazy/manifest.json", 100).unwrap(), b"{}\n");
    assert!(squashfs.read("etc/large", 1 << 20).unwrap() == large());
    for name in ["bin/program-0", "bin/program-599"] {
        assert_eq!(squashfs.read(name, 1).unwrap(), b"x");
    }
}

#[test]
fn says_what_is_missing_or_wrong() {
    let root = root();
    let mut squashfs = open(&root).unwrap();
    let mut message = |path: &str| squashfs.read(path, 100).unwrap_err().to_string();
    assert_eq!(message("etc/other"), "the SquashFS holds no `etc/other`");
    assert_eq!(message("etc"), "the SquashFS holds no `etc`");
    assert_eq!(message("etc/large/x"), "the SquashFS holds no `etc/large/x`");
    assert_eq!(message("etc/large"), "the SquashFS is damaged: a file is longer than it may be");
    assert_eq!(open(&[0; 100]).unwrap_err().to_string(), "there is no SquashFS");
    let error = Squashfs::open(Cursor::new(&root), 0, 100).unwrap_err();
    assert_eq!(error.to_string(), "the SquashFS is damaged: it is longer than its partition");
}

proptest! {
    #[test]
    fn damage_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        static ROOT: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(root);
        let mut bytes = ROOT.clone();
        // Half of the damage goes where the pointers are.
        for (number, (at, value)) in changes.into_iter().enumerate() {
            let len = if number % 2 == 0 { bytes.len() } else { 96 };
            let at = at.index(len);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            let len = cut.index(bytes.len());
            bytes.truncate(len);
        }
        if let Ok(mut squashfs) = open(&bytes) {
            for path in ["etc/krazy/manifest.json", "etc/large", "bin/program-599"] {
                let _any = squashfs.read(path, 1 << 20);
            }
        }
    }
}
