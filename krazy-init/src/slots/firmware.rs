//! The slot that a Raspberry Pi's firmware boots: [`krazy_boot::boot::config_txt`].

use std::fs::File;

use krazy_boot::boot::cmdline::{CommandLine, KEXEC_PARAMETER};
use krazy_boot::boot::config_txt::{self, Choice};
use krazy_boot::disk::boot_fat::BootFat;
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::{Slot, boot_file};
use rustix::fs::Advice;

use super::{IncompleteReason, SlotError, boot_partition, selector, write};
use crate::linux::block::Disk;
use crate::linux::kexec::NextKernel;

/// The largest kernel or initramfs that is read.
const MAX_FILE: Bytes = Bytes::mib(256);

/// Returns the slot that the firmware boots.
pub(super) fn confirmed(disk: &Disk) -> Result<Slot, SlotError> {
    choice(disk).map(|choice| choice.slot)
}

/// Returns what the firmware boots.
pub(super) fn choice(disk: &Disk) -> Result<Choice, SlotError> {
    config_txt::read(&mut boot(disk)?).map_err(|error| SlotError::config_txt(disk, error))
}

/// Returns the reason why the firmware could not boot `slot`, if any. Changes on `/boot` must have been synced.
pub(super) fn missing(disk: &Disk, slot: Slot) -> Result<Option<IncompleteReason>, SlotError> {
    let missing =
        config_txt::missing(&mut boot(disk)?, slot).map_err(|error| SlotError::config_txt(disk, error))?;
    Ok(missing.map(|file| IncompleteReason::NoFile(slot.boot_file(file))))
}

/// Makes the firmware boot `slot` from now on.
pub(super) fn confirm(disk: &Disk, selector: &Selector, slot: Slot) -> Result<(), SlotError> {
    let writes = config_txt::confirm(&mut boot(disk)?, selector, selector::sectors(disk)?, slot)
        .map_err(|error| SlotError::config_txt(disk, error))?;
    write(disk, &writes)?;
    // Read back: a confirmation that a worn-out card has lost would be reported as done.
    ensure_kept(disk, choice(disk)? == slot.into())
}

/// Makes the firmware boot the confirmed slot to start the other one; as a launcher if that is tried with its own
/// kernel.
pub(super) fn arm(disk: &Disk, armed: &Selector, launcher: bool) -> Result<(), SlotError> {
    let writes = config_txt::arm(&mut boot(disk)?, armed, selector::sectors(disk)?, launcher)
        .map_err(|error| SlotError::config_txt(disk, error))?;
    write(disk, &writes)
}

/// Drops a trial.
pub(super) fn disarm(disk: &Disk, selector: &Selector) -> Result<(), SlotError> {
    let writes = config_txt::disarm(&mut boot(disk)?, selector, selector::sectors(disk)?)
        .map_err(|error| SlotError::config_txt(disk, error))?;
    write(disk, &writes)
}

/// Records on the disk that the armed trial is over, and returns the slot to try.
pub(super) fn start_trial(disk: &Disk, selector: &Selector) -> Result<Option<Slot>, SlotError> {
    let (slot, writes) = config_txt::start_trial(&mut boot(disk)?, selector, selector::sectors(disk)?)
        .map_err(|error| SlotError::config_txt(disk, error))?;
    if writes.is_empty() {
        return Ok(None);
    }
    write(disk, &writes)?;
    // A worn-out card may accept writes and lose them: then every start would try the slot again.
    let is_armed = selector::read_from(disk, uncached(disk)?)?.trial.is_some();
    ensure_kept(disk, !is_armed && !choice(disk)?.launcher)?;
    Ok(slot)
}

/// Returns true if the slot `running` can start the other slot's kernel, and that slot permits it.
pub(super) fn can_launch(disk: &Disk, running: Slot) -> Result<bool, SlotError> {
    let mut boot = boot(disk)?;
    let mut lines =
        |slot| config_txt::command_lines(&mut boot, slot).map_err(|error| SlotError::config_txt(disk, error));
    let (own, _) = lines(!running)?;
    // The running slot needs a launcher's command line; the other one may forbid it, if its kernel does not start by
    // kexec.
    Ok(lines(running)?.1.is_some() && own.get(KEXEC_PARAMETER) != Some("off"))
}

/// Returns what starts `slot` with its own kernel, for a launcher that was started with `line`.
pub(super) fn next_kernel(disk: &Disk, slot: Slot, line: &CommandLine) -> Result<NextKernel, SlotError> {
    let mut boot = boot(disk)?;
    let mut lines =
        |slot| config_txt::command_lines(&mut boot, slot).map_err(|error| SlotError::config_txt(disk, error));
    let (own, _) = lines(slot)?;
    let (_, launcher) = lines(!slot)?;
    let command_line = match launcher {
        Some(launcher) => line.launched(&launcher, &own)?,
        None => own,
    };
    let mut read = |name| {
        let file = boot.find(&slot.boot_file(name))?;
        boot.read(&file, MAX_FILE)
    };
    let kernel = read(boot_file::KERNEL).map_err(|error| SlotError::fat(disk, error))?;
    let initramfs = read(boot_file::INITRAMFS).map_err(|error| SlotError::fat(disk, error))?;
    Ok(NextKernel { kernel, initramfs, command_line })
}

fn ensure_kept(disk: &Disk, is_kept: bool) -> Result<(), SlotError> {
    if is_kept { Ok(()) } else { Err(SlotError::NotKept(disk.node())) }
}

/// Opens the file system of `/boot` on the disk. It may be mounted: `config.txt` never moves.
pub(super) fn boot(disk: &Disk) -> Result<BootFat<File>, SlotError> {
    let mut whole = uncached(disk)?;
    let extent = boot_partition(disk, &mut whole)?;
    BootFat::open(whole, extent.start.bytes(), extent).map_err(|error| SlotError::fat(disk, error))
}

/// Opens the disk and drops its pages from the cache, because `/boot` is written past them and what was written is to
/// be read back.
pub(super) fn uncached(disk: &Disk) -> Result<File, SlotError> {
    let file = File::open(disk.node()).map_err(|error| SlotError::io(disk, error))?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)
        .map_err(|error| SlotError::io(disk, error.into()))?;
    Ok(file)
}
