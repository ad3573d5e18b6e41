//! What a Raspberry Pi's firmware boots: [`krazy_boot::config_txt`].

use std::fs::File;
use std::io::Read;

use krazy_boot::boot_fat::BootFat;
use krazy_boot::config_txt;
use krazy_boot::mbr::Mbr;
use krazy_boot::selector::Selector;
use krazy_boot::size::SECTOR_SIZE;
use krazy_boot::slot::Slot;

use rustix::fs::Advice;

use super::{SlotError, chain, failed, write};
use crate::linux::block::Disk;

/// The slot it boots.
pub fn confirmed(disk: &Disk) -> Result<Slot, SlotError> {
    config_txt::read(&mut boot(disk)?).map_err(|error| damaged(&error))
}

/// What keeps it from booting `slot`, in words. What was changed on `/boot` must have been synced.
pub fn missing(disk: &Disk, slot: Slot) -> Result<Option<String>, SlotError> {
    let missing = config_txt::missing(&mut boot(disk)?, slot).map_err(|error| damaged(&error))?;
    Ok(missing.map(|file| format!("there is no {} on /boot", slot.boot_file(file))))
}

/// Makes it boot `slot` from now on.
pub fn confirm(disk: &Disk, selector: &Selector, slot: Slot) -> Result<(), SlotError> {
    let writes = config_txt::confirm(&mut boot(disk)?, selector, slot).map_err(|error| damaged(&error))?;
    write(disk, &writes)?;
    match confirmed(disk)? == slot {
        true => Ok(()),
        false => Err(SlotError::Damaged(format!("{} does not keep what is written", disk.node().display()))),
    }
}

/// The file system of `/boot`, as it is on the disk. `config.txt` never moves, mounted or not.
pub fn boot(disk: &Disk) -> Result<BootFat<File>, SlotError> {
    let mut whole = uncached(disk)?;
    let mut sector = [0; SECTOR_SIZE as usize];
    whole.read_exact(&mut sector).map_err(|error| failed(disk, error))?;
    let extent = Mbr::decode(&sector).map_err(|error| damaged(&error))?.layout.boot;
    BootFat::open(whole, extent.start.bytes(), extent).map_err(|error| damaged(&error))
}

/// The disk without what the page cache has of it: `/boot` is written past that, and what was written is to be read
/// back.
pub fn uncached(disk: &Disk) -> Result<File, SlotError> {
    let file = File::open(disk.node()).map_err(|error| failed(disk, error))?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed(disk, error.into()))?;
    Ok(file)
}

fn damaged(error: &dyn std::error::Error) -> SlotError {
    SlotError::Damaged(chain(error))
}
