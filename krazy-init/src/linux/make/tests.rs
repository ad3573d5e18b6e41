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

/// The file system with the UUID of `SIGNATURE`, as the writer makes it.
fn made_by_writer() -> Vec<u8> {
    let file = blank();
    let mut uuid = *b"krazy\0\x80\0\x80\0\0\0____";
    uuid[12..].copy_from_slice(&SIGNATURE.0.to_be_bytes());
    let options = Ext4Options { uuid, label: "data", mtime: MADE };
    ext4::write(Window::new(&file, Bytes(0), SIZE), &options, &Tree::new()).unwrap();
    bytes_of(&file)
}

/// What is not zero; a gap of eight bytes begins another piece, as a block does.
fn template(bytes: &[u8]) -> Vec<u8> {
    let mut template = Vec::new();
    for (number, block) in bytes.chunks(FIRST_BLOCK).enumerate() {
        let mut at = 0;
        while let Some(start) = block[at..].iter().position(|byte| *byte != 0).map(|offset| at + offset) {
            let gap = block[start..].windows(8).position(|gap| gap.iter().all(|byte| *byte == 0));
            at = gap.map_or(block.len(), |offset| start + offset);
            template.extend(((number * FIRST_BLOCK + start) as u32).to_le_bytes());
            template.extend(((at - start) as u16).to_le_bytes());
            template.extend(&block[start..at]);
        }
    }
    template
}

#[test]
fn the_template_is_what_the_writer_makes() {
    let wanted = made_by_writer();
    let file = blank();
    assert!(make(&file, ROOM, SIGNATURE).unwrap());
    if bytes_of(&file) != wanted {
        let place = std::env::temp_dir().join("template.bin");
        std::fs::write(&place, template(&wanted)).unwrap();
        panic!("the writer makes another file system; its template is now {}", place.display());
    }
}

#[test]
fn a_blank_partition_gets_a_file_system_once() {
    let file = blank();
    assert!(make(&file, ROOM, SIGNATURE).unwrap());
    let made = bytes_of(&file);
    assert_eq!(made[1024 + 0x38..1024 + 0x3a], [0x53, 0xef]);
    assert!(make(&file, ROOM, SIGNATURE).unwrap(), "nothing was lost by then");
    assert!(bytes_of(&file) == made);
    assert!(!make(&file, ROOM, DiskSignature(1)).unwrap(), "that of another disk is somebody's");
}

#[test]
fn a_file_system_in_use_without_its_superblock_is_left_alone() {
    let file = blank();
    make(&file, ROOM, SIGNATURE).unwrap();
    // Free blocks of the first group, as they are when something was written.
    file.write_all_at(&[1], FIRST_BLOCK as u64 + 0xc).unwrap();
    file.write_all_at(&[0; FIRST_BLOCK], 0).unwrap();
    let before = bytes_of(&file);
    assert!(!make(&file, ROOM, SIGNATURE).unwrap());
    assert!(bytes_of(&file) == before);
}

#[test]
fn one_byte_of_somebody_is_enough() {
    let room = Bytes::mib(140);
    for at in [0, 5000, SIZE.0 - 1, COPY_UNIT + 1024, room.0 - END.0, room.0 - 1] {
        let file = blank();
        file.set_len(room.0).unwrap();
        file.write_all_at(b"x", at).unwrap();
        assert!(!make(&file, room, SIGNATURE).unwrap(), "{at}");
    }
}

#[test]
fn too_little_room_is_said() {
    let error = make(&blank(), Bytes::mib(8), SIGNATURE).unwrap_err().to_string();
    assert_eq!(error, "its partition has 8 MiB, 32 MiB are needed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Whatever sectors of it reached the disk.
    #[test]
    fn a_making_that_was_cut_off_is_finished(seed: u64) {
        let whole = blank();
        make(&whole, ROOM, SIGNATURE).unwrap();
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
        prop_assert!(make(&cut, ROOM, SIGNATURE).unwrap());
        prop_assert!(bytes_of(&cut) == made);
    }
}
