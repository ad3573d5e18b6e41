//! Changes of files on `/boot`, which the boot loader's tables of the running slot have to follow.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use krazy_boot::boot::slot_area::SlotAreaError;
use krazy_boot::boot::uefi_loader::ROOT_DIRECTORY;
use krazy_boot::disk::boot_fat::FatError;
use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::slot::Slot;

use super::super::effect::Effects;
use super::super::refusal::refused;
use super::boot_state::BootState;
use crate::control::{ErrorKind, RequestError};
use crate::linux::boot_mount::{self, BOOT};
use crate::linux::boot_repair::{self, BootRepairError, Outcome};
use crate::linux::slot_record;
use crate::linux::uefi_loader::UefiLoader;
use crate::slots::SlotError;

/// There if UEFI firmware has started the machine.
const EFI: &str = "/sys/firmware/efi";

/// The failure to bring changes on `/boot` to the boot loader.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum BootFilesError {
    /// The file system cannot be written to the disk.
    #[error("{BOOT}: {0}")]
    Sync(#[from] io::Error),
    /// The tables cannot be computed or written.
    #[error(transparent)]
    Tables(#[from] SlotError),
}

/// The failure to renew the UEFI loader.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    /// `/boot` cannot be repaired before.
    #[error("{0}")]
    Repair(String),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// Linux before 6.0, `fs/fat/namei_vfat.c`.
    #[error("the vfat of this kernel cannot exchange two names")]
    NoExchange,
}

impl From<RequestError> for RenewalError {
    fn from(error: RequestError) -> Self {
        RenewalError::Repair(error.message)
    }
}

impl From<BootFilesError> for RequestError {
    fn from(error: BootFilesError) -> Self {
        refused(ErrorKind::Failed, error.to_string())
    }
}

impl BootState {
    /// Mounts `/boot` writable or read-only, on a machine with this boot state, if any.
    pub(super) fn remount_boot(
        state: Option<&Self>,
        writable: bool,
        effects: &mut Effects,
    ) -> Result<(), RequestError> {
        if !writable && let Some(state) = state {
            state.sync_boot_tables(effects)?;
        }
        boot_mount::remount(writable)
            .map_err(|error| refused(ErrorKind::Failed, format!("{BOOT}: {error}")))?;
        if writable && let Some(state) = state {
            state.boot_was_writable.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Checks the file system of `/boot`, and repairs it before the files of `slot` are replaced.
    pub(super) fn repair_boot(&self, slot: Slot, effects: &mut Effects) -> Result<(), RequestError> {
        let failed = |error: &dyn std::fmt::Display| refused(ErrorKind::Failed, format!("{BOOT}: {error}"));
        let slots = &self.slots;
        let status = slots.boot_status().map_err(|error| failed(&error))?;
        let cannot_boot = matches!(status.slot_state, SlotState::Confirmed | SlotState::Reverted);
        let expendable = (cannot_boot && slot != slots.running && slot != status.confirmed).then_some(slot);
        // Otherwise the file system itself may be what is to be repaired, and is not there.
        if boot_mount::is_writable().is_some() {
            self.sync_boot()?;
        }
        let outcome = boot_repair::repair(slots.disk(), expendable);
        if let Ok(Outcome::Clean(found) | Outcome::Repaired(found)) = &outcome
            && !found.damaged.is_empty()
        {
            effects.degrade(format!("{BOOT} has damaged files: {}", found.damaged.join(", ")));
        }
        match outcome {
            Ok(Outcome::Clean(_)) => {}
            Ok(Outcome::Repaired(found)) => {
                effects.log(format!("the file system of {BOOT} was repaired: {found}"));
            }
            Ok(Outcome::Deferred(found)) => {
                effects.log(format!("{BOOT} is in use and was not repaired, which can wait: {found}"));
            }
            Ok(Outcome::NotChecked(why)) => effects.log(why.to_string()),
            Err(error) => {
                if matches!(error, BootRepairError::Mount(_)) {
                    effects.degrade(format!("{BOOT}: {error}"));
                }
                return Err(failed(&error));
            }
        }
        Ok(())
    }

    /// Makes the boot loader's tables of the running slot agree with its files on `/boot`, if those may have been
    /// changed. The tables name sectors, and a rewritten file may be in others.
    pub(super) fn sync_boot_tables(&self, effects: &mut Effects) -> Result<(), BootFilesError> {
        if !self.boot_was_writable.load(Ordering::Relaxed) {
            return Ok(());
        }
        // The tables are computed from what is on the disk, not from the page cache.
        self.sync_boot()?;
        let writes = match self.slots.table_changes(self.slots.running) {
            // The present tables may still load the file. An update of the other slot, which repairs the device, goes on.
            Err(SlotError::LoadTables { source: SlotAreaError::Fat(error @ FatError::Chain(_)), .. }) => {
                effects.log(format!("the boot loader's tables stay as they are: {error}"));
                Vec::new()
            }
            changes => changes?,
        };
        if !writes.is_empty() {
            self.slots.write_tables(&writes)?;
            effects.log(format!("the boot loader's tables were updated to the changes on {BOOT}"));
        }
        if !self.slots.has_firmware() {
            self.remove_stale_record(effects);
        }
        self.boot_was_writable.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the record of the running slot if its kernel or initramfs is another one by now: a UEFI loader would take them
    /// for damaged. Called while `/boot` is writable; a failure is told, and costs a fallback at worst.
    fn remove_stale_record(&self, effects: &mut Effects) {
        let slot = self.slots.running;
        let removed = slot_record::is_stale(Path::new(BOOT), slot).and_then(|is_stale| {
            if is_stale {
                slot_record::remove(Path::new(BOOT), slot)?;
                self.sync_boot().map_err(io::Error::other)?;
            }
            Ok(is_stale)
        });
        match removed {
            Ok(false) => {}
            Ok(true) => {
                effects.log(format!("the files of slot {slot} on {BOOT} are not those of an update any more"))
            }
            Err(error) => effects.log(format!("the record of slot {slot} cannot be compared: {error}")),
        }
    }

    /// Puts the root's UEFI loader on `/boot` if the one there is older. Only a confirmed slot does: a build on trial must not
    /// replace what starts the other one.
    pub(super) fn renew_loader(&self, effects: &mut Effects) {
        let state = self.clone();
        effects.on_disk("renewing the UEFI loader", move |effects| match state.try_renew_loader(effects) {
            Ok(None) => {}
            Ok(Some(version)) => effects.log(format!("the UEFI loader on {BOOT} is version {version} now")),
            Err(error) => {
                let problem = format!("the UEFI loader on {BOOT} cannot be renewed: {error}");
                // A machine that a BIOS has started does without.
                if Path::new(EFI).exists() { effects.degrade(problem) } else { effects.log(problem) }
            }
        });
    }

    fn try_renew_loader(&self, effects: &mut Effects) -> Result<Option<u16>, RenewalError> {
        let Some(was_writable) = boot_mount::is_writable() else { return Ok(None) };
        let outdated = UefiLoader::outdated(Path::new(ROOT_DIRECTORY), Path::new(BOOT))?;
        let Some(loader) = outdated else { return Ok(None) };
        // A power cut within an earlier exchange may have left both names with the same clusters. No slot's files may go: the
        // running one's are not to be rewritten, and an upload may be writing the other's.
        self.repair_boot(self.slots.running, effects)?;
        if !was_writable {
            boot_mount::remount(true)?;
        }
        let installed = loader.install(|| self.sync_boot().map_err(io::Error::other));
        let restored = if was_writable { Ok(()) } else { boot_mount::remount(false) };
        installed.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => RenewalError::NoExchange,
            _ => error.into(),
        })?;
        restored?;
        Ok(Some(loader.version()))
    }

    /// Writes the file system of `/boot` to the disk, and out of the disk's write cache, which vfat does not flush.
    pub(super) fn sync_boot(&self) -> Result<(), BootFilesError> {
        let directory = File::open(BOOT)?;
        rustix::fs::syncfs(&directory).map_err(io::Error::from)?;
        File::open(self.slots.disk().node())?.sync_all()?;
        Ok(())
    }
}
