use std::io::Write;
use std::path::Path;

use krazy_boot::digest::Sha256Hash;
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{BundleManifest, FORMAT, Head, PROTOCOL, PartKind, Signed};

use super::store::Store;
use super::transfer::Packer;
use super::*;
use crate::provision::{Secrets, provision};

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn bundle(store: &Store, secrets: &Secrets, root: &[u8]) -> Bundle {
    let add =
        |kind, bytes: &[u8]| store.add(kind, |out| out.write_all(bytes).map_err(Failure::other)).unwrap();
    let parts = vec![
        add(PartKind::Kernel, &noise(1, 50_000)),
        add(PartKind::Initramfs, &noise(2, 9_000)),
        add(PartKind::Root, root),
    ];
    let manifest = BundleManifest {
        format: FORMAT,
        appliance: "weather".into(),
        board: "x86_64".into(),
        build_id: "ab".repeat(32),
        version: "1.2.3".into(),
        protocol: PROTOCOL,
        cmdline: vec!["quiet".into()],
        instructions: Vec::new(),
        parts: parts.iter().map(|content| content.part.clone()).collect(),
    };
    sign(manifest, parts, secrets).unwrap()
}

struct Place {
    directory: tempfile::TempDir,
    store: Store,
    secrets: Secrets,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path(), Bytes::mib(64)).unwrap();
        let secrets = provision("weather", &directory.path().join("state")).unwrap();
        Place { directory, store, secrets }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

fn error(path: &Path, store: &Store) -> String {
    open(path, store).unwrap_err().to_string()
}

#[test]
fn a_file_holds_what_was_signed_and_the_same_inputs_give_the_same_bytes() {
    let place = Place::new();
    let made = bundle(&place.store, &place.secrets, &noise(3, 200_000));
    let [one, two] = ["one.krazy", "two.krazy"].map(|name| place.path(name));
    let len = save(&made, &place.store, &one).unwrap();
    save(&bundle(&place.store, &place.secrets, &noise(3, 200_000)), &place.store, &two).unwrap();
    let bytes = std::fs::read(&one).unwrap();
    assert_eq!(bytes.len() as u64, len.0);
    assert_eq!(bytes, std::fs::read(&two).unwrap());

    let key = place.secrets.update_key().public().unwrap().0;
    let head = Head::read(&mut bytes.as_slice(), |message, signature| {
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key);
        key.verify(message, signature).is_ok()
    });
    assert_eq!(head.unwrap().manifest, made.manifest);
    let opened = open(&one, &place.store).unwrap();
    assert_eq!((opened.manifest, opened.signed), (made.manifest, made.signed));
}

#[test]
fn files_that_are_not_what_was_signed_are_refused() {
    let place = Place::new();
    let path = place.path("x.krazy");
    let made = bundle(&place.store, &place.secrets, &noise(3, 200_000));
    save(&made, &place.store, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    write(&bytes[..bytes.len() - 1]);
    assert!(error(&path, &place.store).contains("the root ends early"));
    write(&[bytes.as_slice(), b"x"].concat());
    assert!(error(&path, &place.store).contains("something follows its end"));
    let mut flipped = bytes.clone();
    let middle = bytes.len() - 100_000;
    flipped[middle] ^= 1;
    write(&flipped);
    assert!(error(&path, &place.store).contains("cannot be pushed: "));
    write(b"PK\x03\x04 and so on, long enough to hold a head of a bundle, if it were one; but it is none at all");
    assert!(error(&path, &place.store).contains("this is not an update bundle"));
    assert!(error(&place.path("missing"), &place.store).contains("No such file"));
}

#[test]
fn what_a_device_runs_is_not_sent_again() {
    let place = Place::new();
    let mut root = noise(3, 300_000);
    let old = bundle(&place.store, &place.secrets, &root);
    root.splice(150_000..150_010, *b"one line more");
    let new = bundle(&place.store, &place.secrets, &root);
    let packer = Packer::new(&new, place.store.clone());
    let whole = packer.pack(&[]).unwrap();
    assert!(whole.total() > Bytes(350_000) && whole.copied == Bytes(0), "{whole:?}");
    let delta = packer.pack(&old.manifest.parts).unwrap();
    assert!(delta.total() < Bytes(400), "{delta:?}");
    let head = Head::read(&mut delta.head(&new.signed).unwrap().as_slice(), |_, _| true).unwrap();
    let bases: Vec<_> = head.transport.parts.iter().map(|part| part.base).collect();
    let expected: Vec<Option<Sha256Hash>> = old.manifest.parts.iter().map(|part| Some(part.sha256)).collect();
    assert_eq!(bases, expected);
    // A device that runs what nobody here knows gets the whole.
    let unknown: Vec<_> = old
        .manifest
        .parts
        .iter()
        .map(|part| krazy_boot::update::bundle::Part {
            sha256: krazy_boot::digest::Hex([9; 32]),
            ..part.clone()
        })
        .collect();
    assert_eq!(packer.pack(&unknown).unwrap().total(), whole.total());
    let head = packer.pack(&unknown).unwrap().head(&new.signed).unwrap();
    let head = Head::read(&mut head.as_slice(), |_, _| true).unwrap();
    assert!(head.transport.parts.iter().all(|part| part.base.is_none()));
    let message = Signed::message(&head.signed.json);
    assert!(message.starts_with(b"cargo krazy update bundle 1\0"));
}
