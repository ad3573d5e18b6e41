//! The fuzz target `disk`: the formats in fixed sectors.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::SECTOR;
use crate::boot::bzimage::BzImage;
use crate::boot::load_table::LoadTable;
use crate::disk::identity::IdentityCopies;
use crate::disk::layout::{IDENTITY, IDENTITY_LEN, StateSectors};
use crate::disk::mbr::{self, Mbr};
use crate::disk::ordered_write::{SectorWrite, write_in_order};
use crate::disk::selector::{Selector, SelectorCopies};
use crate::disk::size::{Bytes, Sectors};
use crate::disk::slot::Slot;
use crate::disk::trial_note::TrialNote;

/// Position of the checksum in a selector and in a note.
const CRC_OFFSET: usize = SECTOR - 4;

/// Position of the trial in a selector. It is not part of the checksum.
const TRIAL_OFFSET: usize = 9;

/// A disk of zeros besides the written sectors. One of 1 MiB in memory would take most of the time.
#[derive(Default)]
struct Sparse {
    sectors: BTreeMap<u64, [u8; SECTOR]>,
    position: u64,
}

impl Sparse {
    /// Returns the sector of the position, the place in it, and the length of at most `len` bytes there.
    fn next(&mut self, len: usize) -> (u64, usize, usize) {
        let (sector, at) = (self.position / SECTOR as u64, self.position as usize % SECTOR);
        let len = len.min(SECTOR - at);
        self.position += len as u64;
        (sector, at, len)
    }
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (sector, at, len) = self.next(buffer.len());
        match self.sectors.get(&sector) {
            Some(bytes) => buffer[..len].copy_from_slice(&bytes[at..at + len]),
            None => buffer[..len].fill(0),
        }
        Ok(len)
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (sector, at, len) = self.next(bytes.len());
        self.sectors.entry(sector).or_insert([0; SECTOR])[at..at + len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(position) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.position = position;
        Ok(position)
    }
}

/// The first byte selects a format, and whether its checksum is made valid.
pub fn disk(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let sealed = choice & 0x80 != 0;
    match choice & 0x7f {
        0 => boot_state(rest, sealed),
        1 => identity(rest, sealed),
        2 => load_table(rest, sealed),
        3 => {
            let sector = sectors::<1>(rest)[0];
            if let Ok(mbr) = Mbr::decode(&sector)
                && let Ok(bytes) = mbr.encode(&[])
            {
                assert_eq!(Mbr::decode(&bytes).ok(), Some(mbr));
            }
        }
        _ => {
            let _ = BzImage::parse(rest, Bytes(rest.len() as u64))
                .map(|kernel| kernel.memory_end(Bytes(1 << 24)));
        }
    }
}

/// LBA 0, selector, spare selector and note, the latter in the sectors that LBA 0 names. They are moved to those of a new
/// disk.
fn boot_state(bytes: &[u8], sealed: bool) {
    let [first, mut selector, mut spare, mut note] = sectors(bytes);
    if sealed {
        for sector in [&mut selector, &mut spare] {
            let trial = std::mem::replace(&mut sector[TRIAL_OFFSET], 0xff);
            seal(sector);
            sector[TRIAL_OFFSET] = trial;
        }
        seal(&mut note);
    }
    let mut disk = Sparse::default();
    put(&mut disk, Sectors(0), &first);
    let state = mbr::state_sectors(&mut disk).expect("the disk has an LBA 0");
    for (at, sector) in [(state.selector, selector), (state.spare, spare), (state.note, note)] {
        put(&mut disk, at, &sector);
    }
    if let Ok(note) = TrialNote::read(&mut disk) {
        let _ = note.reason();
        write(&mut disk, &[note.write(state)]);
        assert_eq!(TrialNote::read(&mut disk).ok(), Some(note));
    }
    let Ok(selector) = SelectorCopies::read(&mut disk).selector() else { return };
    for slot in Slot::ALL {
        let _ = selector.slot_state(slot);
    }
    write(&mut disk, &selector.writes(state));
    assert_in_force(&mut disk, selector);
    write(&mut disk, &selector.writes(StateSectors::CURRENT));
    let moved = mbr::with_current_state_sectors(&first, &first[..mbr::MAX_CODE_LEN]).expect("the code fits");
    put(&mut disk, Sectors(0), &moved);
    assert_in_force(&mut disk, selector);
}

/// Panics if `selector` is not the one in both copies.
fn assert_in_force(disk: &mut Sparse, selector: Selector) {
    let copies = SelectorCopies::read(disk);
    assert_eq!(copies.selector().ok(), Some(selector));
    assert!(!copies.needs_repair());
}

/// Both copies: the length of the first one in two bytes, and their bytes.
fn identity(bytes: &[u8], sealed: bool) {
    let Some((len, rest)) = bytes.split_first_chunk() else { return };
    let (one, two) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*len))));
    let mut disk = Sparse::default();
    for (at, copy) in IDENTITY.into_iter().zip([one, two]) {
        let mut copy = copy[..copy.len().min(IDENTITY_LEN.bytes().0 as usize)].to_vec();
        // Length and checksum, which covers the header, too.
        if sealed && let Some(len) = copy.len().checked_sub(32) {
            copy[12..16].copy_from_slice(&(len as u32).to_le_bytes());
            copy[16..20].fill(0);
            let crc = crc32fast::hash(&copy);
            copy[16..20].copy_from_slice(&crc.to_le_bytes());
        }
        put(&mut disk, at, &copy);
    }
    let copies = IdentityCopies::read(&mut disk);
    let Ok(newest) = copies.newest() else { return };
    let writes = copies.writes(&newest.files).expect("files of a copy fit into one");
    write(&mut disk, &writes);
    let read = IdentityCopies::read(&mut disk);
    assert_eq!(read.newest().ok().map(|copy| &copy.files), Some(&newest.files));
}

fn load_table(bytes: &[u8], sealed: bool) {
    let mut bytes = bytes.to_vec();
    if sealed {
        bytes.resize(4 * SECTOR, 0);
        bytes[8..12].fill(0);
        let crc = crc32fast::hash(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    if let Ok(table) = LoadTable::decode(&bytes)
        && let Ok(bytes) = table.encode()
    {
        assert_eq!(LoadTable::decode(&bytes).ok(), Some(table));
    }
}

/// Returns the first `N` sectors of `bytes`, which zeros follow.
fn sectors<const N: usize>(bytes: &[u8]) -> [[u8; SECTOR]; N] {
    let mut sectors = [[0; SECTOR]; N];
    for (sector, bytes) in sectors.iter_mut().zip(bytes.chunks(SECTOR)) {
        sector[..bytes.len()].copy_from_slice(bytes);
    }
    sectors
}

/// Writes the CRC-32 of a selector or a note.
fn seal(sector: &mut [u8; SECTOR]) {
    let crc = crc32fast::hash(&sector[..CRC_OFFSET]);
    sector[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
}

fn put(disk: &mut Sparse, at: Sectors, bytes: &[u8]) {
    write(disk, &[SectorWrite::padded(at, bytes.to_vec())]);
}

fn write(disk: &mut Sparse, writes: &[SectorWrite]) {
    write_in_order(disk, writes, |_| Ok(())).expect("the sectors are on the disk");
}
