use krazy_boot::image::ext4::{self, Ext4Options};
use krazy_boot::image::tree::Tree;
use krazy_boot::image::window::Window;
use proptest::prelude::*;

use super::*;

const SIGNATURE: DiskSignature = DiskSignature(0x1a2b_3c4d);
const ROOM: Bytes = Bytes::mib(34);

/// 2026-01-01.
const MADE: u64 = 1_767_225_600;

fn blank() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(ROOM.0).unwrap();
    file
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; ROOM.0 as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Returns the file system with the UUID of `SIGNATURE`, as the writer makes it.
fn made_by_writer() -> Vec<u8> {
    let file = blank();
    let mut uuid = *b"krazy\0\x80\0\x80\0\0\0____";
    uuid[12..].copy_from_slice(&SIGNATURE.0.to_be_bytes());
    let options = Ext4Options { uuid, label: "data", mtime: MADE };
    ext4::write(Window::new(&file, Bytes(0), SIZE), &options, &Tree::new()).unwrap();
    bytes_of(&file)
}

/// Returns the nonzero bytes in pieces. A gap of eight bytes or a block's end ends a piece.
fn template(bytes: &[u8]) -> Vec<u8> {
    let mut template = Vec::new();
    for (number, block) in bytes.chunks(FIRST_BLOCK_LEN).enumerate() {
        let mut at = 0;
        while let Some(start) = block[at..].iter().position(|byte| *byte != 0).map(|offset| at + offset) {
            let gap = block[start..].windows(8).position(|gap| gap.iter().all(|byte| *byte == 0));
            at = gap.map_or(block.len(), |offset| start + offset);
            template.extend(((number * FIRST_BLOCK_LEN + start) as u32).to_le_bytes());
            template.extend(((at - start) as u16).to_le_bytes());
            template.extend(&block[start..at]);
        }
    }
    template
}

#[test]
fn template_equals_the_file_system_of_the_writer() {
    let expected = made_by_writer();
    let file = blank();
    assert!(format(&file, ROOM, SIGNATURE).unwrap());
    if bytes_of(&file) != expected {
        let path = std::env::temp_dir().join("template.bin");
        std::fs::write(&path, template(&expected)).unwrap();
        panic!("the writer makes another file system; its template is now {}", path.display());
    }
}

#[test]
fn blank_partition_is_formatted_once() {
    let file = blank();
    assert!(format(&file, ROOM, SIGNATURE).unwrap());
    let made = bytes_of(&file);
    assert_eq!(made[1024 + 0x38..1024 + 0x3a], [0x53, 0xef]);
    assert!(format(&file, ROOM, SIGNATURE).unwrap(), "a file system without content is formatted again");
    assert!(bytes_of(&file) == made);
    assert!(!format(&file, ROOM, DiskSignature(1)).unwrap(), "the file system of another disk is foreign");
}

#[test]
fn used_file_system_without_its_superblock_is_not_touched() {
    let file = blank();
    format(&file, ROOM, SIGNATURE).unwrap();
    // Free blocks of the first group, as they are when something was written.
    file.write_all_at(&[1], FIRST_BLOCK_LEN as u64 + 0xc).unwrap();
    file.write_all_at(&[0; FIRST_BLOCK_LEN], 0).unwrap();
    let before = bytes_of(&file);
    assert!(!format(&file, ROOM, SIGNATURE).unwrap());
    assert!(bytes_of(&file) == before);
}

#[test]
fn one_foreign_byte_prevents_formatting() {
    let room = Bytes::mib(140);
    for at in [0, 5000, SIZE.0 - 1, COPY_UNIT + 1024, room.0 - END_LEN.0, room.0 - 1] {
        let file = blank();
        file.set_len(room.0).unwrap();
        file.write_all_at(b"x", at).unwrap();
        assert!(!format(&file, room, SIGNATURE).unwrap(), "{at}");
    }
}

#[test]
fn requested_formatting_replaces_any_content() {
    let file = blank();
    assert!(format(&file, ROOM, SIGNATURE).unwrap());
    let made = bytes_of(&file);
    for at in (0..SIZE.0).step_by(CHUNK_LEN / 2) {
        file.write_all_at(b"old", at).unwrap();
    }
    assert!(!format(&file, ROOM, SIGNATURE).unwrap());
    overwrite(&file, ROOM, SIGNATURE).unwrap();
    assert!(bytes_of(&file) == made);
    assert!(overwrite(&file, Bytes::mib(8), SIGNATURE).is_err());
}

#[test]
fn partition_that_is_too_small_is_an_error() {
    let error = format(&blank(), Bytes::mib(8), SIGNATURE).unwrap_err().to_string();
    assert_eq!(error, "the partition has 8 MiB, 32 MiB are needed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Any subset of the sectors may have reached the disk.
    #[test]
    fn interrupted_formatting_is_finished(seed: u64) {
        let whole = blank();
        format(&whole, ROOM, SIGNATURE).unwrap();
        let made = bytes_of(&whole);
        let cut = blank();
        let mut state = seed | 1;
        for (number, sector) in made.chunks(SECTOR_SIZE as usize).enumerate() {
            // xorshift; source: Marsaglia, "Xorshift RNGs", 2003.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state & 1 == 0 && sector.iter().any(|byte| *byte != 0) {
                cut.write_all_at(sector, number as u64 * SECTOR_SIZE).unwrap();
            }
        }
        prop_assert!(format(&cut, ROOM, SIGNATURE).unwrap());
        prop_assert!(bytes_of(&cut) == made);
    }
}
