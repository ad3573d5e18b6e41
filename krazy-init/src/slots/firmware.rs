//! What a Raspberry Pi's firmware boots: [`krazy_boot::boot::config_txt`].

use std::fs::File;
use std::io::Read;

use krazy_boot::boot::cmdline::{CommandLine, KEXEC_PARAMETER};
use krazy_boot::boot::config_txt::{self, Choice, ConfigTxtError};
use krazy_boot::disk::boot_fat::BootFat;
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};
use krazy_boot::disk::slot::{Slot, boot_file};

use rustix::fs::Advice;

use super::{SlotError, chain, failed, selector, write};
use crate::linux::block::Disk;
use crate::linux::kexec::NextKernel;

/// The most that is read of a kernel or an initramfs.
const MAX_FILE: Bytes = Bytes::mib(256);

/// The slot it boots.
pub fn confirmed(disk: &Disk) -> Result<Slot, SlotError> {
    choice(disk).map(|choice| choice.slot)
}

/// What it boots.
pub fn choice(disk: &Disk) -> Result<Choice, SlotError> {
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
    kept(disk, choice(disk)? == slot.into())
}

/// Makes it boot the confirmed slot as the one that starts the other, with its own kernel if `launcher`.
pub fn arm(disk: &Disk, selector: &Selector, launcher: bool) -> Result<(), SlotError> {
    let writes = config_txt::arm(&mut boot(disk)?, selector, launcher).map_err(|error| damaged(&error))?;
    write(disk, &writes)
}

/// Forgets a trial.
pub fn disarm(disk: &Disk, selector: &Selector) -> Result<(), SlotError> {
    let writes = config_txt::disarm(&mut boot(disk)?, selector).map_err(|error| damaged(&error))?;
    write(disk, &writes)
}

/// Makes a trial that is armed one that is over on the disk; the slot that is tried.
pub fn start_trial(disk: &Disk, selector: &Selector) -> Result<Option<Slot>, SlotError> {
    let (slot, writes) =
        config_txt::start_trial(&mut boot(disk)?, selector).map_err(|error| damaged(&error))?;
    if writes.is_empty() {
        return Ok(None);
    }
    write(disk, &writes)?;
    // A worn-out card may take writes and lose them: then the trial would have no end.
    let armed = selector::read_from(disk, uncached(disk)?)?.trial.is_some();
    kept(disk, !armed && !choice(disk)?.launcher)?;
    Ok(slot)
}

/// Whether the slot that runs, `running`, can start the other one's kernel, and that one wants it.
pub fn can_launch(disk: &Disk, running: Slot) -> Result<bool, SlotError> {
    let mut boot = boot(disk)?;
    let mut lines = |slot| config_txt::command_lines(&mut boot, slot).map_err(|error| damaged(&error));
    let (own, _) = lines(!running)?;
    Ok(lines(running)?.1.is_some() && own.get(KEXEC_PARAMETER) != Some("off"))
}

/// What starts `slot` with its own kernel, for a launcher that was started with `line`.
pub fn next_kernel(disk: &Disk, slot: Slot, line: &CommandLine) -> Result<NextKernel, SlotError> {
    let mut boot = boot(disk)?;
    let failed = |error: ConfigTxtError| damaged(&error);
    let (own, _) = config_txt::command_lines(&mut boot, slot).map_err(failed)?;
    let (_, launcher) = config_txt::command_lines(&mut boot, !slot).map_err(failed)?;
    let command_line = match launcher {
        Some(launcher) => line.launched(&launcher, &own).map_err(|error| damaged(&error))?,
        None => own,
    };
    let mut read = |name| {
        let file = boot.find(&slot.boot_file(name))?;
        boot.read(&file, MAX_FILE)
    };
    let kernel = read(boot_file::KERNEL).map_err(|error| damaged(&error))?;
    let initramfs = read(boot_file::INITRAMFS).map_err(|error| damaged(&error))?;
    Ok(NextKernel { kernel, initramfs, command_line })
}

fn kept(disk: &Disk, kept: bool) -> Result<(), SlotError> {
    match kept {
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
