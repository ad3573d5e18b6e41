//! The boot selector of a disk: [`krazy_boot::disk::selector`].

use std::fs::File;
use std::io::Read;

use krazy_boot::disk::mbr;
use krazy_boot::disk::selector::{Selector, SelectorCopies, SelectorError};
use krazy_boot::disk::size::SECTOR_SIZE;

use super::{SlotError, chain, failed};
use crate::linux::block::Disk;

/// Whether `disk` has a selector, if only a damaged one.
pub fn is_there(disk: &Disk) -> Result<bool, SlotError> {
    Ok(!matches!(copies(disk)?.selector(), Err(SelectorError::Magic(_))))
}

/// Whether `disk` has code that obeys it.
pub fn is_for_boot_sector(disk: &Disk) -> Result<bool, SlotError> {
    let mut sector = [0; SECTOR_SIZE as usize];
    open(disk)?.read_exact(&mut sector).map_err(|error| failed(disk, error))?;
    Ok(mbr::has_code(&sector))
}

pub fn needs_repair(disk: &Disk) -> Result<bool, SlotError> {
    Ok(copies(disk)?.needs_repair())
}

pub fn read(disk: &Disk) -> Result<Selector, SlotError> {
    read_from(disk, open(disk)?)
}

/// The selector of `disk`, which is opened as `file`.
pub fn read_from(disk: &Disk, mut file: File) -> Result<Selector, SlotError> {
    let damaged =
        |error: &SelectorError| SlotError::Damaged(format!("{}: {}", disk.node().display(), chain(error)));
    SelectorCopies::read(&mut file).selector().map_err(damaged)
}

fn copies(disk: &Disk) -> Result<SelectorCopies, SlotError> {
    Ok(SelectorCopies::read(&mut open(disk)?))
}

fn open(disk: &Disk) -> Result<File, SlotError> {
    File::open(disk.node()).map_err(|error| failed(disk, error))
}
