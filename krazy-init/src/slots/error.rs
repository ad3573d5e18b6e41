//! Failures to read or change the state of the slots.

use std::io;
use std::path::PathBuf;

use krazy_boot::boot::cmdline::CommandLineError;
use krazy_boot::boot::config_txt::ConfigTxtError;
use krazy_boot::boot::slot_area::SlotAreaError;
use krazy_boot::disk::boot_fat::FatError;
use krazy_boot::disk::mbr::MbrError;
use krazy_boot::disk::slot::Slot;
use krazy_boot::error_chain::chain;

use super::inactive_root::RootError;
use crate::linux::block::{Disk, NoPartition};

/// The failure of an operation on the slots.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    /// A disk or partition cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The partition is missing.
    #[error(transparent)]
    NoPartition(#[from] NoPartition),
    /// Neither copy of the boot selector is valid. The reason is that of the primary copy.
    #[error("{}: {reason}", disk.display())]
    Selector { disk: PathBuf, reason: String },
    /// The partition table is not that of an appliance.
    #[error("{}: {}", disk.display(), chain(source))]
    PartitionTable { disk: PathBuf, source: MbrError },
    /// The file system of `/boot` or a file in it is unusable.
    #[error("{}: {}", disk.display(), chain(source))]
    Fat { disk: PathBuf, source: FatError },
    /// `config.txt` is unusable.
    #[error("{}: {}", disk.display(), chain(source))]
    ConfigTxt { disk: PathBuf, source: ConfigTxtError },
    /// The boot loader's tables cannot be computed.
    #[error("{}: {}", disk.display(), chain(source))]
    LoadTables { disk: PathBuf, source: SlotAreaError },
    /// The command lines of launcher and slot make none for the next kernel.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// The disk does not return what was written.
    #[error("{} does not keep what is written", .0.display())]
    NotKept(PathBuf),
    /// The slot could not start if it were armed.
    #[error("slot {0} cannot be started: {1}")]
    Incomplete(Slot, #[source] IncompleteReason),
}

/// The reason why a slot could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncompleteReason {
    /// The boot loader would load something else than the slot's files.
    #[error("the boot loader's tables are not those of its files on /boot")]
    StaleTables,
    /// A file that the firmware loads is missing.
    #[error("there is no {0} on /boot")]
    NoFile(String),
    /// Its boot files cannot be checked.
    #[error(transparent)]
    BootFiles(#[from] Box<SlotError>),
    /// It would write the boot state where nobody reads it.
    #[error(
        "its build is older than the format of this disk; make it with the cargo krazy that made the running one, or a newer one"
    )]
    OldFormat,
    /// Its root is not usable.
    #[error(transparent)]
    Root(#[from] RootError),
}

impl SlotError {
    pub(super) fn io(disk: &Disk, source: io::Error) -> Self {
        SlotError::Io { path: disk.node(), source }
    }

    pub(super) fn partition_table(disk: &Disk, source: MbrError) -> Self {
        SlotError::PartitionTable { disk: disk.node(), source }
    }

    pub(super) fn fat(disk: &Disk, source: FatError) -> Self {
        SlotError::Fat { disk: disk.node(), source }
    }

    pub(super) fn config_txt(disk: &Disk, source: ConfigTxtError) -> Self {
        SlotError::ConfigTxt { disk: disk.node(), source }
    }

    pub(super) fn load_tables(disk: &Disk, source: SlotAreaError) -> Self {
        SlotError::LoadTables { disk: disk.node(), source }
    }
}
