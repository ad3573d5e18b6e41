//! The boot loader's tables of a slot: [`krazy_boot::boot::slot_area`]. The BIOS loads sectors, not files.

use std::fs::File;
use std::io::Read;

use krazy_boot::boot::slot_area::{self, BootFiles};
use krazy_boot::disk::boot_fat::BootFat;
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::ordered_write::SectorWrite;
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use rustix::fs::Advice;

use super::{SlotError, chain, failed};
use crate::linux::block::Disk;
use crate::linux::boot_mount;

/// The sectors to write so that the tables of `slot` follow its files; none if they do. Reads the disk itself, so
/// what was changed on `/boot` must have been synced.
pub fn changes(disk: &Disk, slot: Slot) -> Result<Vec<SectorWrite>, SlotError> {
    let damaged = |error: &dyn std::error::Error| SlotError::Damaged(chain(error));
    let partition = disk
        .partition(boot_mount::PARTITION)
        .ok_or_else(|| SlotError::Damaged("there is no boot partition".to_owned()))?;
    let mut whole = File::open(disk.node()).map_err(|error| failed(disk, error))?;
    let mut sector = [0u8; 512];
    whole.read_exact(&mut sector).map_err(|error| failed(disk, error))?;
    let extent = Mbr::decode(&sector).map_err(|error| damaged(&error))?.layout.boot;
    // Of the partition and not of the whole disk, because that is where the mounted file system's changes show.
    let in_partition = |error| SlotError::Io(partition.display().to_string(), error);
    let reader = File::open(&partition).map_err(in_partition)?;
    // Files are written past this cache; what it still holds of the last look may be old.
    rustix::fs::fadvise(&reader, 0, None, Advice::DontNeed).map_err(|error| in_partition(error.into()))?;
    let mut fat = BootFat::open(reader, Bytes(0), extent).map_err(|error| damaged(&error))?;
    let files = BootFiles::read(&mut fat, slot).map_err(|error| damaged(&error))?;
    slot_area::refresh_from(&mut whole, slot, &files).map_err(|error| damaged(&error))
}
