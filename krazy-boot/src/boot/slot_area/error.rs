//! Why a slot's files cannot be booted, with the name of what does not fit.

use std::io;

use crate::boot::bzimage::BzImageError;
use crate::boot::cmdline::CommandLineError;
use crate::boot::load_table::LoadTableError;
use crate::disk::boot_fat::FatError;
use crate::disk::mbr::MbrError;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;

/// Why a slot's files cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum SlotAreaError {
    /// The disk could not be read.
    #[error("failed to read the disk at sector {sector}")]
    Read {
        /// Where.
        sector: u32,
        /// What the disk answered.
        source: io::Error,
    },
    /// LBA 0 is not ours.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// The file system or a file on `/boot` cannot be read.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// Not a kernel.
    #[error("the kernel of slot {slot} cannot be booted")]
    Kernel {
        /// Whose kernel.
        slot: Slot,
        /// What is wrong with it.
        source: BzImageError,
    },
    /// Not a command line.
    #[error("the command line of slot {slot} cannot be used")]
    CommandLine {
        /// Whose command line.
        slot: Slot,
        /// What is wrong with it.
        source: CommandLineError,
    },
    /// The kernel takes less than we allow.
    #[error("the command line of slot {slot} has {len} bytes, this kernel takes {limit}")]
    CommandLineTooLong {
        /// Whose command line.
        slot: Slot,
        /// Its length.
        len: usize,
        /// The kernel's limit.
        limit: u32,
    },
    /// The kernel's real-mode part is too long.
    #[error("the real-mode part of slot {slot}'s kernel has {have}, there is room for {room}")]
    RealMode {
        /// Whose kernel.
        slot: Slot,
        /// Its length.
        have: Bytes,
        /// The limit.
        room: Bytes,
    },
    /// The initramfs is empty, or ends above what the kernel reaches.
    #[error(
        "the initramfs of slot {slot} ({size}, loaded at {address:#x}) is empty or ends above {limit:#x}, \
         the highest address its kernel reaches"
    )]
    Initramfs {
        /// Whose initramfs.
        slot: Slot,
        /// Its length.
        size: Bytes,
        /// Where it would be loaded.
        address: u64,
        /// `initrd_addr_max` of the kernel.
        limit: u32,
    },
    /// The table cannot be written.
    #[error("slot {slot} cannot be booted")]
    Table {
        /// Which slot.
        slot: Slot,
        /// Why.
        source: LoadTableError,
    },
}
