//! The move of the boot state away from LBA 0, on a disk of the first format.
//!
//! There selectors and note share a page with the partition table and the boot sector's code, which a torn write of any of
//! them can damage. Builds that know only the first format would write sectors that nobody reads any more, so the state
//! moves when a trial is armed and both slots know the new sectors; afterwards builds that do not are refused.
//!
//! The copies come first. LBA 0 names the sectors, so its one write is the commit: a power cut before it leaves the old
//! sectors in force, with the same content.

use std::io::Read;

use krazy_boot::boot::boot_sector;
use krazy_boot::disk::layout::{FirstSector, StateSectors};
use krazy_boot::disk::mbr;
use krazy_boot::disk::ordered_write::SectorWrite;
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::size::{SECTOR_SIZE, Sectors};
use krazy_boot::manifest::Manifest;

use super::{IncompleteReason, SlotError, firmware, selector, write};
use crate::linux::block::Disk;

/// The [`Manifest::disk_format`] of builds that know the moved boot state, and of those that know an EFI system partition.
const MOVED_STATE: u32 = mbr::FORMAT as u32;
const EFI_SYSTEM_PARTITION: u32 = 3;

/// Checks that the build of `manifest` knows the format of `disk`: the sectors of the boot state, and the type of `/boot`.
pub(super) fn check(disk: &Disk, manifest: &Manifest) -> Result<Option<IncompleteReason>, SlotError> {
    let is_moved = selector::sectors(disk)? != StateSectors::FIRST;
    let needed = match mbr::has_efi_system_partition(&first_sector(disk)?) {
        true => EFI_SYSTEM_PARTITION,
        false if is_moved => MOVED_STATE,
        false => 0,
    };
    Ok((manifest.disk_format < needed).then_some(IncompleteReason::OldFormat))
}

/// Moves the boot state of `disk` to the present sectors, with `selector` in force, if it is not there and the build of
/// `manifest` in the inactive slot knows them. Returns true if it has moved.
pub(super) fn relocate(disk: &Disk, selector: &Selector, manifest: &Manifest) -> Result<bool, SlotError> {
    if selector::sectors(disk)? != StateSectors::FIRST || !knows_moved_state(manifest) {
        return Ok(false);
    }
    write(disk, &selector.writes(StateSectors::CURRENT))?;
    let moved = mbr::with_current_state_sectors(&first_sector(disk)?, boot_sector::CODE)
        .map_err(|error| SlotError::partition_table(disk, error))?;
    write(disk, &[SectorWrite { at: Sectors(0), bytes: moved.to_vec() }])?;
    if first_sector(disk)? != moved {
        return Err(SlotError::NotKept(disk.node()));
    }
    Ok(true)
}

fn knows_moved_state(manifest: &Manifest) -> bool {
    manifest.disk_format >= MOVED_STATE
}

fn first_sector(disk: &Disk) -> Result<FirstSector, SlotError> {
    let mut sector = [0; SECTOR_SIZE as usize];
    firmware::uncached(disk)?.read_exact(&mut sector).map_err(|error| SlotError::io(disk, error))?;
    Ok(sector)
}

#[cfg(test)]
mod tests;
