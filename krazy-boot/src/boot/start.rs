//! The decisions of a boot loader: which slot starts, and which one if that cannot. The [boot sector](crate::boot::boot_sector)
//! makes the same ones in machine code, but for the checksum of a selector, for which it has no room.
//!
//! 1. The primary selector decides, or the spare one if that is invalid, or else slot A is taken, the only one that a new
//!    image has.
//! 2. An armed trial is cleared on the disk before anything is loaded, and read again. It starts only if the disk kept
//!    that.
//! 3. If a slot cannot be loaded, the other one is: the confirmed slot after a trial, and the fallback after a confirmed
//!    slot. Nothing of that is written, so the next start tries the confirmed slot first again.
//! 4. If neither can, files that differ from their record are started nevertheless, the confirmed slot's first: a slot that
//!    may start ranks above none.

use alloc::string::String;

use crate::disk::layout::{FirstSector, StateSectors};
use crate::disk::selector::{Selector, SelectorError, SelectorSector, TRIAL_OFFSET};
use crate::disk::size::{SECTOR_SIZE, Sectors};
use crate::disk::slot::Slot;

/// The machine that a loader runs on.
pub trait Machine {
    /// Reads a sector of the boot disk; `None` if the disk fails.
    fn read(&mut self, at: Sectors) -> Option<[u8; SECTOR_SIZE as usize]>;

    /// Writes a sector of the boot disk, and returns true if it is durable.
    fn write(&mut self, at: Sectors, sector: &[u8; SECTOR_SIZE as usize]) -> bool;

    /// Loads and starts the kernel of `slot`, and returns only if that fails. `failed` is the slot that should have started,
    /// if there is one.
    fn start(&mut self, slot: Slot, check: Check, failed: Option<&Failed>) -> Failed;
}

/// The use of a slot's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Files that differ from it are not started.
    Record,
    /// It is ignored.
    Nothing,
}

/// A slot that could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The slot.
    pub slot: Slot,
    /// The reason, without a final stop.
    pub reason: String,
    /// True if that is nothing but a difference from its record.
    pub differs: bool,
}

/// The end of a loader that could start neither slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Both slots in the order of the attempts.
    pub slots: [Failed; 2],
    /// True if the disk has sectors without a selector where it should be, and so is none of ours.
    pub is_foreign: bool,
}

/// Starts the slot that should run, or the other one. Returns only if neither can be started.
pub fn start(machine: &mut impl Machine) -> Failure {
    let first: Option<FirstSector> = machine.read(Sectors(0));
    let sectors = first.as_ref().map_or(StateSectors::CURRENT, StateSectors::of);
    let mut is_foreign = first.is_some();
    let mut selected = None;
    for at in [sectors.selector, sectors.spare] {
        let Some(sector) = machine.read(at) else {
            is_foreign = false;
            continue;
        };
        let decoded = decode(&sector, at);
        is_foreign &= matches!(decoded, Err(SelectorError::Magic(_)));
        if let Ok(selector) = decoded
            && selected.is_none()
        {
            selected = Some((at, sector, selector));
        }
    }
    let (slot, confirmed) = match selected {
        None => (Slot::A, Slot::A),
        Some((at, sector, selector)) => match selector.trial {
            Some(trial) if clear_trial(machine, at, sector) => (trial, selector.confirmed),
            _ => (selector.confirmed, selector.confirmed),
        },
    };
    let first = machine.start(slot, Check::Record, None);
    let second = machine.start(!slot, Check::Record, Some(&first));
    let slots = [first, second];
    for slot in [confirmed, !confirmed] {
        let other = slots.iter().find(|failed| failed.slot != slot);
        if slots.iter().any(|failed| failed.slot == slot && failed.differs) {
            machine.start(slot, Check::Nothing, other);
        }
    }
    Failure { slots, is_foreign }
}

/// A newer version has the same fields and checksum in the same place: the boot sector, which updates do not replace, reads
/// these only.
fn decode(sector: &SelectorSector, at: Sectors) -> Result<Selector, SelectorError> {
    match Selector::decode(sector, at) {
        Err(SelectorError::Version { .. }) => Selector::decode_any_version(sector, at),
        decoded => decoded,
    }
}

/// Clears the trial byte on the disk. Returns true if the disk kept that: one that ignores the write would start a broken
/// slot at every reset.
fn clear_trial(machine: &mut impl Machine, at: Sectors, mut sector: SelectorSector) -> bool {
    sector[TRIAL_OFFSET] = 0xff;
    machine.write(at, &sector) && machine.read(at).is_some_and(|kept| kept[TRIAL_OFFSET] == 0xff)
}

#[cfg(test)]
mod tests;
