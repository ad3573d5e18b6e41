//! The boot loader's tables of a slot: [`krazy_boot::boot::slot_area`]. The BIOS loads sectors, not files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use krazy_boot::boot::load_table::{LoadTable, TABLE_LEN};
use krazy_boot::boot::slot_area::{self, BootFiles};
use krazy_boot::disk::boot_fat::BootFat;
use krazy_boot::disk::layout::area_of_slot;
use krazy_boot::disk::ordered_write::SectorWrite;
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use rustix::fs::Advice;

use super::{SlotError, boot_partition};
use crate::linux::block::Disk;
use crate::linux::boot_mount;

/// Returns true if `slot` has a valid load table.
pub(super) fn exists(disk: &Disk, slot: Slot) -> Result<bool, SlotError> {
    let mut table = [0; TABLE_LEN];
    File::open(disk.node())
        .and_then(|whole| whole.read_exact_at(&mut table, area_of_slot(slot).start.bytes().0))
        .map_err(|error| SlotError::io(disk, error))?;
    Ok(LoadTable::decode(&table).is_ok())
}

/// Returns the sectors to write so that the tables of `slot` agree with its files; none if they do already. Reads the
/// disk itself, so changes on `/boot` must have been synced.
pub(super) fn changes(disk: &Disk, slot: Slot) -> Result<Vec<SectorWrite>, SlotError> {
    let partition = disk.require_partition(boot_mount::PARTITION)?;
    let mut whole = File::open(disk.node()).map_err(|error| SlotError::io(disk, error))?;
    let extent = boot_partition(disk, &mut whole)?;
    // Through the partition's device and not the disk's, because their page caches differ and the mounted file system
    // writes to that of the partition.
    let in_partition = |source| SlotError::Io { path: partition.clone(), source };
    let reader = File::open(&partition).map_err(in_partition)?;
    // The file system writes file content past this cache, which may hold older sectors from the last call.
    rustix::fs::fadvise(&reader, 0, None, Advice::DontNeed).map_err(|error| in_partition(error.into()))?;
    let mut fat = BootFat::open(reader, Bytes(0), extent).map_err(|error| SlotError::fat(disk, error))?;
    let files = BootFiles::read(&mut fat, slot).map_err(|error| SlotError::load_tables(disk, error))?;
    slot_area::refresh_from(&mut whole, slot, &files).map_err(|error| SlotError::load_tables(disk, error))
}
