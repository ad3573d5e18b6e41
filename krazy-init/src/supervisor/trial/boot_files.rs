//! Changes of files on `/boot`, which the boot loader's tables of the running slot have to follow.

use std::fs::File;
use std::io;

use super::super::effect::Effects;
use super::super::refusal::{refuse_while_ending, refused};
use super::super::state::Supervisor;
use super::Trial;
use crate::control::{ErrorKind, Reply, RequestError};
use crate::linux::boot_mount::{self, BOOT};
use crate::slots::SlotError;

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

impl From<BootFilesError> for RequestError {
    fn from(error: BootFilesError) -> Self {
        refused(ErrorKind::Failed, error.to_string())
    }
}

impl Trial {
    /// Mounts `/boot` writable or read-only.
    pub(in super::super) fn remount_boot(
        &mut self,
        writable: bool,
        services: &Supervisor,
        effects: &mut Effects,
    ) -> Result<Reply, RequestError> {
        refuse_while_ending(services)?;
        if !writable {
            self.sync_boot_tables(effects)?;
        }
        boot_mount::remount(writable)
            .map_err(|error| refused(ErrorKind::Failed, format!("{BOOT}: {error}")))?;
        self.boot_was_writable |= writable;
        Ok(Reply::Done)
    }

    /// Makes the boot loader's tables of the running slot agree with its files on `/boot`, if those may have been
    /// changed. The tables name sectors, and a rewritten file may be in others.
    pub(in super::super) fn sync_boot_tables(&mut self, effects: &mut Effects) -> Result<(), BootFilesError> {
        let Some(slots) = self.slots.as_ref().filter(|_| self.boot_was_writable) else {
            return Ok(());
        };
        // The tables are computed from what is on the disk, not from the page cache.
        self.sync_boot()?;
        let writes = slots.table_changes(slots.running)?;
        if !writes.is_empty() {
            slots.write_tables(&writes)?;
            effects.log(format!("the boot loader's tables were updated to the changes on {BOOT}"));
        }
        self.boot_was_writable = false;
        Ok(())
    }

    /// Writes the file system of `/boot` to the disk.
    pub(super) fn sync_boot(&self) -> Result<(), BootFilesError> {
        let directory = File::open(BOOT)?;
        rustix::fs::syncfs(&directory).map_err(io::Error::from)?;
        Ok(())
    }
}
