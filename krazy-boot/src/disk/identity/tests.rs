use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::disk::ordered_write::write_in_order;

fn file(path: &str, bytes: &[u8]) -> IdentityFile {
    IdentityFile { path: path.to_owned(), bytes: bytes.to_vec() }
}

fn disk() -> Cursor<Vec<u8>> {
    Cursor::new(vec![0; 2048 * 512])
}

/// Writes the first `count` of the writes that store `files`.
fn store(disk: &mut Cursor<Vec<u8>>, files: &[IdentityFile], count: usize) {
    let writes = IdentityCopies::read(disk).writes(files).unwrap();
    let writes = &writes[..count.min(writes.len())];
    write_in_order(disk, writes, |_| Ok(())).unwrap();
}

#[test]
fn encoded_copy_has_the_golden_bytes() {
    let identity = Identity { generation: 0x0102_0304, files: vec![file("a/b", b"xy")] };
    let bytes = identity.encode().unwrap();
    // The CRC was computed by another program (zlib).
    let mut expected = b"KZID\x01\0\x01\0\x04\x03\x02\x01\x0b\0\0\0".to_vec();
    expected.extend(0x1322_df2a_u32.to_le_bytes());
    expected.resize(32, 0);
    expected.extend(b"\x03\0\x02\0\0\0a/bxy");
    assert!(bytes == expected, "{bytes:x?}");
}

#[test]
fn blank_disk_has_no_copy_and_stored_files_are_read_back() {
    let mut disk = disk();
    let empty = IdentityCopies::read(&mut disk);
    assert_eq!(empty.newest().unwrap_err().to_string(), "sector 40 holds no copy of the credentials");
    let files = [file("krazy/tokens.json", b"{}"), file("krazy/tls/key.pem", &[7; 3000])];
    store(&mut disk, &files, 2);
    let copies = IdentityCopies::read(&mut disk);
    assert_eq!(copies.newest().unwrap(), &Identity { generation: 1, files: files.to_vec() });
    assert_eq!(copies.writes(&files).unwrap(), []);
}

#[test]
fn interrupted_change_leaves_a_complete_copy() {
    let (old, new) = ([file("a", b"old")], [file("a", b"new"), file("b", b"")]);
    // The state before the change: equal copies, or one of them damaged.
    for damaged in [None, Some(0), Some(1)] {
        for done in 0..=2 {
            let mut disk = disk();
            store(&mut disk, &old, 2);
            if let Some(copy) = damaged {
                disk.get_mut()[IDENTITY[copy].bytes().0 as usize + 40] ^= 1;
            }
            let writes = IdentityCopies::read(&mut disk).writes(&new).unwrap();
            write_in_order(&mut disk, &writes[..done], |_| Ok(())).unwrap();
            if let Some(torn) = writes.get(done) {
                let start = torn.at.bytes().0 as usize;
                disk.get_mut()[start..start + 512].fill(0x5a);
            }
            let copies = IdentityCopies::read(&mut disk);
            let expected: &[IdentityFile] = if done == 0 { &old } else { &new };
            assert_eq!(copies.newest().unwrap().files, expected, "{damaged:?}, {done} writes");
            // The next start completes the change.
            store(&mut disk, &new, 2);
            let copies = IdentityCopies::read(&mut disk);
            assert!(copies.0.iter().all(|copy| copy.as_ref().is_ok_and(|copy| copy.files == new)));
        }
    }
}

#[test]
fn credentials_that_do_not_fit_are_refused_with_their_length() {
    let copies = IdentityCopies::read(&mut disk());
    let error = copies.writes(&[file("a", &[0; CAPACITY])]).unwrap_err().to_string();
    assert_eq!(error, "the credentials have 12263 bytes, their copy outside /data holds 12256");
    assert_eq!(copies.writes(&[file("a", &[0; CAPACITY - 7])]).unwrap().len(), 2);
}

#[test]
fn copy_of_a_newer_version_stays() {
    let mut disk = disk();
    store(&mut disk, &[file("a", b"")], 2);
    disk.get_mut()[IDENTITY[0].bytes().0 as usize + 4] = 2;
    let writes = IdentityCopies::read(&mut disk).writes(&[file("b", b"")]).unwrap();
    assert_eq!(writes.iter().map(|write| write.at).collect::<Vec<_>>(), [IDENTITY[1]]);
}

#[test]
fn generations_wrap_around() {
    assert!(is_newer(2, 1) && is_newer(0, u32::MAX) && !is_newer(1, 2) && !is_newer(5, 5));
}

proptest! {
    #[test]
    fn copies_survive_a_round_trip_and_changes_are_detected(
        files in prop::collection::vec(("[a-z/]{0,20}", prop::collection::vec(any::<u8>(), 0..200)), 0..6),
        generation: u32, at: prop::sample::Index, bits in 1..=255u8,
    ) {
        let files = files.iter().map(|(path, bytes)| file(path, bytes)).collect();
        let identity = Identity { generation, files };
        let mut bytes = identity.encode().unwrap();
        prop_assert_eq!(&Identity::decode(&bytes, Sectors(8)).unwrap(), &identity);
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        prop_assert!(Identity::decode(&bytes, Sectors(8)).is_err());
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), count: u16, len in 0..300u32) {
        let mut bytes = bytes;
        let _any = Identity::decode(&bytes, Sectors(8));
        if bytes.len() >= FILES_OFFSET {
            bytes[..6].copy_from_slice(b"KZID\x01\0");
            bytes[6..8].copy_from_slice(&count.to_le_bytes());
            bytes[12..16].copy_from_slice(&len.to_le_bytes());
            bytes[16..20].fill(0);
            let end = bytes.len().min(FILES_OFFSET + len as usize);
            let crc = crc32fast::hash(&bytes[..end]);
            bytes[16..20].copy_from_slice(&crc.to_le_bytes());
            let _any = Identity::decode(&bytes, Sectors(8));
        }
    }
}
