//! `/data` is made on a partition that holds nothing.
//!
//! What is written is a [`TEMPLATE`], an empty ext4 of [`SIZE`] bytes with the disk's signature in its UUID; it then
//! [grows](super::grow) like a `/data` that came with an image. A writer of ext4 would make init half as large again.
//!
//! A partition is free when every sector of the part to be written is zero or what will stand there: a making that a
//! power cut ended goes on at the next boot, and everything else is somebody's and left alone. The superblock comes
//! last, when the rest is on the disk: no half of it can be mounted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use krazy_boot::disk::layout::{DiskSignature, MINIMUM_DATA};
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};

use super::block;

/// What is not zero in the file system that `krazy_boot::image::ext4` makes: pieces in order, each with its position
/// (`u32`) and its length (`u16`) before it. A test makes it again.
const TEMPLATE: &[u8] = include_bytes!("make/template.bin");

/// How large the file system in the template is.
const SIZE: Bytes = MINIMUM_DATA;

/// How much of the end of a partition is looked at, too: some keep their headers there.
const END: Bytes = Bytes::mib(1);

/// Where ext4 keeps copies of its superblock on larger partitions, in units of 128 MiB; looked at, too.
const COPIES: [u64; 9] = [1, 3, 5, 7, 9, 25, 27, 49, 81];
const COPY_UNIT: u64 = 128 << 20;

/// What is read and written at a time.
const PIECE: usize = 64 << 10;

/// The block with the superblock, which is written last.
const FIRST_BLOCK: usize = 4096;

/// In that block. Source: Linux `Documentation/filesystems/ext4/super.rst`.
const UUID: usize = 1024 + 0x68;
const CHECKSUM: usize = 1024 + 0x3fc;

/// Makes an ext4 file system on the partition `node` of the disk with `signature`, if nothing is on it; says whether
/// it did.
pub(crate) fn file_system(node: &Path, signature: DiskSignature) -> io::Result<bool> {
    let room = Bytes(block::partition_sectors(node)? * SECTOR_SIZE);
    let device = OpenOptions::new().read(true).write(true).open(node)?;
    make(&device, room, signature)
}

fn make(device: &File, room: Bytes, signature: DiskSignature) -> io::Result<bool> {
    if room < SIZE {
        return Err(io::Error::other(format!("its partition has {room}, {SIZE} are needed")));
    }
    if !is_free(device, room, signature)? {
        return Ok(false);
    }
    for at in (0..SIZE.0).step_by(PIECE) {
        let mut wanted = content(at, PIECE, signature);
        let mut found = vec![0; PIECE];
        device.read_exact_at(&mut found, at)?;
        if at == 0 {
            // Whatever part of it is there already: it is not complete.
            wanted[..FIRST_BLOCK].fill(0);
        }
        if found != wanted {
            device.write_all_at(&wanted, at)?;
        }
    }
    device.sync_data()?;
    device.write_all_at(&content(0, FIRST_BLOCK, signature), 0)?;
    device.sync_data()?;
    Ok(true)
}

/// Whether all that is looked at is zero or as it will be.
fn is_free(device: &File, room: Bytes, signature: DiskSignature) -> io::Result<bool> {
    let copies = COPIES.map(|number| (number * COPY_UNIT, FIRST_BLOCK as u64));
    let end = (room.0.saturating_sub(END.0), END.0);
    for (start, len) in [(0, SIZE.0), end].into_iter().chain(copies) {
        for at in (start..room.0.min(start + len)).step_by(PIECE) {
            let mut found = vec![0; (room.0 - at).min(PIECE as u64) as usize];
            device.read_exact_at(&mut found, at)?;
            let wanted = content(at, found.len(), signature);
            let mut sectors = found.chunks(SECTOR_SIZE as usize).zip(wanted.chunks(SECTOR_SIZE as usize));
            if sectors.any(|(found, wanted)| found != wanted && found.iter().any(|byte| *byte != 0)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// What is to stand at `at`.
fn content(at: u64, len: usize, signature: DiskSignature) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut rest = TEMPLATE;
    while let Some((&[a, b, c, d, e, f], after)) = rest.split_first_chunk() {
        let (piece, next) = after.split_at(usize::from(u16::from_le_bytes([e, f])).min(after.len()));
        let start = u64::from(u32::from_le_bytes([a, b, c, d]));
        // Pieces are cut at the blocks' ends, and all that is asked for begins with a block.
        if let Some(offset) = start.checked_sub(at)
            && let Some(place) = bytes.get_mut(offset as usize..offset as usize + piece.len())
        {
            place.copy_from_slice(piece);
        }
        rest = next;
    }
    if at == 0 && len >= FIRST_BLOCK {
        // Version 8. Source: RFC 9562, section 5.8.
        bytes[UUID..UUID + 12].copy_from_slice(b"krazy\0\x80\0\x80\0\0\0");
        bytes[UUID + 12..UUID + 16].copy_from_slice(&signature.0.to_be_bytes());
        let checksum = crc32c(&bytes[1024..CHECKSUM]);
        bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// CRC-32C as ext4 has it, without the final inversion. Source: Linux
/// `Documentation/filesystems/ext4/checksums.rst`.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
mod tests;
