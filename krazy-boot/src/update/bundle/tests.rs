use proptest::prelude::*;

use super::*;
use crate::digest::Hex;

fn part(kind: PartKind, size: u64) -> Part {
    Part { kind, size: Bytes(size), sha256: Hex([size as u8; 32]) }
}

fn manifest() -> BundleManifest {
    BundleManifest {
        format: FORMAT,
        appliance: "weather".into(),
        board: "x86_64".into(),
        build_id: "ab".into(),
        version: "1.2.3".into(),
        protocol: 1,
        cmdline: vec!["quiet".into()],
        instructions: Vec::new(),
        parts: vec![part(PartKind::Kernel, 1), part(PartKind::Initramfs, 2), part(PartKind::Root, 3)],
    }
}

fn transport(base: Option<Sha256Hash>) -> Transport {
    let plain = |stored| PartTransport { stored: Bytes(stored), base: None };
    Transport { parts: vec![plain(10), plain(20), PartTransport { stored: Bytes(30), base }] }
}

fn signed(manifest: &BundleManifest) -> Signed {
    Signed { json: manifest.to_json().unwrap(), signature: [0x5a; SIGNATURE_LEN] }
}

/// Accepts the signature of [`signed`] only.
fn verify(message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    message.starts_with(SIGNED_DOMAIN) && signature == &[0x5a; SIGNATURE_LEN]
}

fn read(bytes: &[u8]) -> Result<Head, BundleError> {
    Head::read(&mut &bytes[..], verify)
}

#[test]
fn encoded_head_has_the_golden_bytes() {
    let bytes = Head::to_bytes(&signed(&manifest()), &transport(None)).unwrap();
    let manifest = concat!(
        r#"{"format":1,"appliance":"weather","board":"x86_64","build_id":"ab","version":"1.2.3","protocol":1,"#,
        r#""cmdline":["quiet"],"parts":[{"kind":"kernel","size":1,"sha256":"0101010101010101010101010101010"#,
        r#"101010101010101010101010101010101"},{"kind":"initramfs","size":2,"sha256":"020202020202020202020202"#,
        r#"0202020202020202020202020202020202020202"},{"kind":"root","size":3,"sha256":"0303030303030303030303"#,
        r#"030303030303030303030303030303030303030303"}]}"#,
    );
    let transport = r#"{"parts":[{"stored":10},{"stored":20},{"stored":30}]}"#;
    let mut expected = b"KZUB\x01\0\0\0".to_vec();
    expected.extend(u32::try_from(manifest.len()).unwrap().to_le_bytes());
    expected.extend([0x5a; 64]);
    expected.extend(manifest.as_bytes());
    expected.extend([53, 0, 0, 0]);
    expected.extend(transport.as_bytes());
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected));
    assert_eq!(bytes, expected);
}

#[test]
fn reader_stops_at_the_first_stream() {
    let base = Some(Hex([7; 32]));
    let mut bytes = Head::to_bytes(&signed(&manifest()), &transport(base)).unwrap();
    bytes.extend(b"streams");
    let mut rest = &bytes[..];
    let head = Head::read(&mut rest, verify).unwrap();
    assert_eq!(rest, b"streams");
    assert_eq!((&head.manifest, &head.transport), (&manifest(), &transport(base)));
    assert_eq!(head.stored(), Bytes(60));
}

#[test]
fn foreign_and_newer_files_are_refused_by_name() {
    let good = Head::to_bytes(&signed(&manifest()), &transport(None)).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        read(&bytes).unwrap_err().to_string()
    };
    assert_eq!(refused(&|bytes| bytes[0] = b'k'), "this is not an update bundle");
    assert_eq!(refused(&|bytes| bytes[4] = 2), "the update bundle has format 2, this program reads 1");
    assert_eq!(refused(&|bytes| bytes[12] ^= 1), "the signature of the update bundle is not valid");
    assert_eq!(
        refused(&|bytes| bytes[10] = 2),
        "the manifest of the update bundle has 131510 bytes, at most 65536 are allowed"
    );
    for len in 0..good.len() {
        assert!(read(&good[..len]).is_err(), "{len} of {} bytes", good.len());
    }
}

#[test]
fn signature_is_verified_before_anything_is_parsed() {
    let signed = Signed { json: b"not JSON".to_vec(), signature: [0; SIGNATURE_LEN] };
    let bytes = Head::to_bytes(&signed, &transport(None)).unwrap();
    assert!(matches!(read(&bytes), Err(BundleError::Signature)));
}

#[test]
fn manifests_that_describe_no_slot_are_refused() {
    let refused = |change: &dyn Fn(&mut BundleManifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        let json = serde_json::to_vec(&manifest).unwrap();
        BundleManifest::from_json(&json).unwrap_err().to_string()
    };
    let wrong = |text: &str| format!("the update bundle is invalid: {text}");
    assert_eq!(refused(&|m| m.format = 2), "the update bundle has format 2, this program reads 1");
    assert_eq!(refused(&|m| m.parts.truncate(2)), wrong("it has no root"));
    assert_eq!(refused(&|m| m.parts[1].size = Bytes(0)), wrong("initramfs is empty"));
    assert_eq!(refused(&|m| m.parts.push(part(PartKind::Root, 1))), wrong("root occurs twice"));
    let file = |name: &str| part(PartKind::BootFile(name.into()), 1);
    assert_eq!(refused(&|m| m.parts.push(file("VMLINUZ"))), wrong("VMLINUZ occurs twice"));
    for name in ["", "../x", "a/b", "a b", "cmdline.txt", "Slot.json", "x.", "ä"] {
        assert_eq!(
            refused(&|m| m.parts.push(file(name))),
            wrong(&format!("{name:?} is not the name of a boot file"))
        );
    }
    let many = |m: &mut BundleManifest| m.parts.extend((0..256).map(|n| file(&format!("f{n}"))));
    assert_eq!(refused(&many), wrong("it has 259 parts, at most 256 are allowed"));
    let mut odd = transport(None);
    odd.parts.pop();
    let bytes = Head::to_bytes(&signed(&manifest()), &odd).unwrap();
    assert_eq!(read(&bytes).unwrap_err().to_string(), wrong("it has 3 parts and 2 streams"));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes: Vec<u8>, at in 0..600usize, json: Vec<u8>) {
        let _refused = Head::read(&mut &bytes[..], |_, _| true);
        let mut good = Head::to_bytes(&signed(&manifest()), &transport(None)).unwrap();
        let at = at.min(good.len());
        let end = (at + bytes.len()).min(good.len());
        good[at..end].copy_from_slice(&bytes[..end - at]);
        let _either = Head::read(&mut &good[..], |_, _| true);
        let signed = Signed { json, signature: [0; SIGNATURE_LEN] };
        let _refused = Head::read(&mut &Head::to_bytes(&signed, &transport(None)).unwrap()[..], |_, _| true);
    }
}
