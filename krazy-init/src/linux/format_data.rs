//! Formats a blank partition, or one whose loss was requested, as `/data`.
//!
//! It gets a [`TEMPLATE`], an empty ext4 file system of [`SIZE`] with the disk's signature in its UUID, which then
//! [grows](super::grow_data) like a `/data` that came with an image. A writer of ext4 would make init half as large again.
//!
//! A partition is blank if every sector of the part to be written is zero or already has its new content, so that
//! formatting continues after a power cut. Any other content belongs to someone and is touched on request only. The
//! superblock is written last, when the rest is durable: a file system that was written half cannot be mounted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use krazy_boot::disk::layout::{DiskSignature, MINIMUM_DATA};
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};

use super::block;

/// The nonzero bytes of the file system that `krazy_boot::image::ext4` writes: pieces in order, each preceded by its
/// offset (`u32`) and its length (`u16`). A test computes it again.
const TEMPLATE: &[u8] = include_bytes!("format_data/template.bin");

/// The size of the file system in the template.
const SIZE: Bytes = MINIMUM_DATA;

/// The part at the end of a partition that is checked, too, because some formats keep their headers there.
const END_LEN: Bytes = Bytes::mib(1);

/// Block groups with a copy of the superblock on larger ext4 partitions, in units of 128 MiB; checked, too.
const COPIES: [u64; 9] = [1, 3, 5, 7, 9, 25, 27, 49, 81];
const COPY_UNIT: u64 = 128 << 20;

/// The length of one read or write.
const CHUNK_LEN: usize = 64 << 10;

/// The length of the block with the superblock, which is written last.
const FIRST_BLOCK_LEN: usize = 4096;

/// Offsets in that block. Source: Linux `Documentation/filesystems/ext4/super.rst`.
const UUID: usize = 1024 + 0x68;
const CHECKSUM: usize = 1024 + 0x3fc;

/// Formats the partition `node` of the disk with `signature` if it is blank; returns true if it was.
pub(crate) fn format_if_blank(node: &Path, signature: DiskSignature) -> io::Result<bool> {
    let room = Bytes(block::partition_sectors(node)? * SECTOR_SIZE);
    let device = OpenOptions::new().read(true).write(true).open(node)?;
    format(&device, room, signature)
}

/// Formats the partition `node` of the disk with `signature`, whatever it holds.
pub(crate) fn format_anew(node: &Path, signature: DiskSignature) -> io::Result<()> {
    let room = Bytes(block::partition_sectors(node)? * SECTOR_SIZE);
    overwrite(&OpenOptions::new().read(true).write(true).open(node)?, room, signature)
}

fn format(device: &File, room: Bytes, signature: DiskSignature) -> io::Result<bool> {
    check_room(room)?;
    if !is_blank(device, room, signature)? {
        return Ok(false);
    }
    write(device, signature).map(|()| true)
}

/// Removes the old superblock first, so that no state in between can be mounted.
fn overwrite(device: &File, room: Bytes, signature: DiskSignature) -> io::Result<()> {
    check_room(room)?;
    device.write_all_at(&[0; FIRST_BLOCK_LEN], 0)?;
    device.sync_data()?;
    write(device, signature)
}

fn check_room(room: Bytes) -> io::Result<()> {
    match room < SIZE {
        true => Err(io::Error::other(format!("the partition has {room}, {SIZE} are needed"))),
        false => Ok(()),
    }
}

fn write(device: &File, signature: DiskSignature) -> io::Result<()> {
    for at in (0..SIZE.0).step_by(CHUNK_LEN) {
        let mut expected = content(at, CHUNK_LEN, signature);
        let mut found = vec![0; CHUNK_LEN];
        device.read_exact_at(&mut found, at)?;
        if at == 0 {
            // Whatever part of the superblock's block is there already, the file system is not complete.
            expected[..FIRST_BLOCK_LEN].fill(0);
        }
        if found != expected {
            device.write_all_at(&expected, at)?;
        }
    }
    device.sync_data()?;
    device.write_all_at(&content(0, FIRST_BLOCK_LEN, signature), 0)?;
    device.sync_data()
}

/// Returns true if every checked sector is zero or has its new content.
fn is_blank(device: &File, room: Bytes, signature: DiskSignature) -> io::Result<bool> {
    let copies = COPIES.map(|number| (number * COPY_UNIT, FIRST_BLOCK_LEN as u64));
    let end = (room.0.saturating_sub(END_LEN.0), END_LEN.0);
    for (start, len) in [(0, SIZE.0), end].into_iter().chain(copies) {
        for at in (start..room.0.min(start + len)).step_by(CHUNK_LEN) {
            let mut found = vec![0; (room.0 - at).min(CHUNK_LEN as u64) as usize];
            device.read_exact_at(&mut found, at)?;
            let expected = content(at, found.len(), signature);
            let mut sectors = found.chunks(SECTOR_SIZE as usize).zip(expected.chunks(SECTOR_SIZE as usize));
            if sectors.any(|(found, expected)| found != expected && found.iter().any(|byte| *byte != 0)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Returns the new content at `at`.
fn content(at: u64, len: usize, signature: DiskSignature) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut rest = TEMPLATE;
    while let Some((&[a, b, c, d, e, f], after)) = rest.split_first_chunk() {
        let (piece, next) = after.split_at(usize::from(u16::from_le_bytes([e, f])).min(after.len()));
        let start = u64::from(u32::from_le_bytes([a, b, c, d]));
        // Pieces end at block boundaries, and `at` is one, so that no piece is cut.
        if let Some(offset) = start.checked_sub(at)
            && let Some(target) = bytes.get_mut(offset as usize..offset as usize + piece.len())
        {
            target.copy_from_slice(piece);
        }
        rest = next;
    }
    if at == 0 && len >= FIRST_BLOCK_LEN {
        // Version 8. Source: RFC 9562, section 5.8.
        bytes[UUID..UUID + 12].copy_from_slice(b"krazy\0\x80\0\x80\0\0\0");
        bytes[UUID + 12..UUID + 16].copy_from_slice(&signature.0.to_be_bytes());
        let checksum = crc32c(&bytes[1024..CHECKSUM]);
        bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// Computes a CRC-32C without the final inversion, as in ext4. Source: Linux
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
