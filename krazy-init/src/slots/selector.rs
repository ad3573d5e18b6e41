//! The boot selector of a disk: [`krazy_boot::disk::selector`].

use std::fs::File;
use std::io::Read;

use krazy_boot::disk::layout::StateSectors;
use krazy_boot::disk::mbr;
use krazy_boot::disk::selector::{ReadSelectorError, Selector, SelectorCopies, SelectorError};
use krazy_boot::disk::size::SECTOR_SIZE;
use krazy_boot::error_chain::chain;

use super::SlotError;
use crate::linux::block::Disk;

/// Returns true if `disk` has a selector, even a damaged one.
pub(super) fn exists(disk: &Disk) -> Result<bool, SlotError> {
    Ok(!matches!(copies(disk)?.selector(), Err(ReadSelectorError::Invalid(SelectorError::Magic(_)))))
}

/// Returns true if `disk` has boot sector code, which obeys the selector.
pub(super) fn has_boot_sector(disk: &Disk) -> Result<bool, SlotError> {
    let mut sector = [0; SECTOR_SIZE as usize];
    open(disk)?.read_exact(&mut sector).map_err(|error| SlotError::io(disk, error))?;
    Ok(mbr::has_code(&sector))
}

/// Returns true if both copies were read and neither is a selector. One that a newer version wrote is not lost.
pub(super) fn is_lost(disk: &Disk) -> Result<bool, SlotError> {
    let SelectorCopies { primary, spare } = copies(disk)?;
    let is_lost = |copy: &Result<Selector, ReadSelectorError>| match copy {
        Err(ReadSelectorError::Invalid(error)) => !matches!(error, SelectorError::Version { .. }),
        Ok(_) | Err(ReadSelectorError::Read { .. }) => false,
    };
    Ok(is_lost(&primary) && is_lost(&spare))
}

/// Returns true if one copy is damaged or the copies differ.
pub(super) fn needs_repair(disk: &Disk) -> Result<bool, SlotError> {
    Ok(copies(disk)?.needs_repair())
}

/// Reads the selector of `disk`.
pub(super) fn read(disk: &Disk) -> Result<Selector, SlotError> {
    read_from(disk, open(disk)?)
}

/// Reads the selector of `disk` from its open `file`.
pub(super) fn read_from(disk: &Disk, mut file: File) -> Result<Selector, SlotError> {
    let damaged = |error: &ReadSelectorError| SlotError::Selector { disk: disk.node(), reason: chain(error) };
    SelectorCopies::read(&mut file).selector().map_err(damaged)
}

/// Returns the sectors of the boot state on `disk`.
pub(super) fn sectors(disk: &Disk) -> Result<StateSectors, SlotError> {
    mbr::state_sectors(&mut open(disk)?).map_err(|error| SlotError::io(disk, error))
}

fn copies(disk: &Disk) -> Result<SelectorCopies, SlotError> {
    Ok(SelectorCopies::read(&mut open(disk)?))
}

fn open(disk: &Disk) -> Result<File, SlotError> {
    File::open(disk.node()).map_err(|error| SlotError::io(disk, error))
}
