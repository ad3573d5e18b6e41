//! The standing on disks with the boot selector: [`krazy_boot::selector`].

use std::fs::File;

use krazy_boot::selector::{Selector, SelectorCopies, SelectorError};
use krazy_boot::slot::Slot;

use super::{Situation, SlotError, chain, failed, write};
use crate::linux::block::Disk;

/// Whether `disk` has a selector, if only a damaged one.
pub fn is_there(disk: &Disk) -> Result<bool, SlotError> {
    Ok(!matches!(copies(disk)?.selector(), Err(SelectorError::Magic(_))))
}

pub fn situation(disk: &Disk, running: Slot) -> Result<Situation, SlotError> {
    let selector = read(disk)?;
    Ok(Situation {
        standing: selector.standing(running),
        confirmed: selector.confirmed,
        generation: selector.generation,
    })
}

pub fn repair(disk: &Disk) -> Result<bool, SlotError> {
    if !copies(disk)?.needs_repair() {
        return Ok(false);
    }
    write(disk, &read(disk)?.writes()).map(|()| true)
}

/// `before` is told the generation and done first.
pub fn arm(
    disk: &Disk,
    slot: Slot,
    before: impl FnOnce(u32) -> Result<(), SlotError>,
) -> Result<u32, SlotError> {
    let armed = read(disk)?.arm(slot);
    before(armed.generation)?;
    write(disk, &armed.writes())?;
    Ok(armed.generation)
}

pub fn confirm(disk: &Disk, slot: Slot) -> Result<(), SlotError> {
    write(disk, &read(disk)?.confirm(slot).writes())
}

pub fn disarm(disk: &Disk) -> Result<(), SlotError> {
    write(disk, &read(disk)?.disarm().writes())
}

fn read(disk: &Disk) -> Result<Selector, SlotError> {
    let damaged =
        |error: &SelectorError| SlotError::Damaged(format!("{}: {}", disk.node().display(), chain(error)));
    copies(disk)?.selector().map_err(damaged)
}

fn copies(disk: &Disk) -> Result<SelectorCopies, SlotError> {
    let mut file = File::open(disk.node()).map_err(|error| failed(disk, error))?;
    Ok(SelectorCopies::read(&mut file))
}
