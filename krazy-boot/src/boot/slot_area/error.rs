//! Errors of slot areas, which name the file that cannot be booted.

use std::io;

use crate::boot::bzimage::BzImageError;
use crate::boot::cmdline::CommandLineError;
use crate::boot::load_table::LoadTableError;
use crate::disk::boot_fat::FatError;
use crate::disk::mbr::MbrError;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;

/// A failure to make the area of a slot.
#[derive(Debug, thiserror::Error)]
pub enum SlotAreaError {
    /// The disk could not be read.
    #[error("failed to read the disk at sector {sector}")]
    Read {
        /// The sector.
        sector: u32,
        /// The disk's error.
        source: io::Error,
    },
    /// LBA 0 has another layout.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// The file system or a file on `/boot` cannot be read.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// The kernel file is not a kernel that the boot sector can start.
    #[error("the kernel of slot {slot} cannot be booted")]
    Kernel {
        /// The kernel's slot.
        slot: Slot,
        /// The defect.
        source: BzImageError,
    },
    /// The command line cannot be used.
    #[error("the command line of slot {slot} cannot be used")]
    CommandLine {
        /// The command line's slot.
        slot: Slot,
        /// The defect.
        source: CommandLineError,
    },
    /// The command line is longer than this kernel allows.
    #[error("the command line of slot {slot} has {len} bytes, this kernel takes {limit}")]
    CommandLineTooLong {
        /// The command line's slot.
        slot: Slot,
        /// Its length.
        len: usize,
        /// The kernel's limit.
        limit: u32,
    },
    /// The kernel's real-mode part is too long.
    #[error("the real-mode part of slot {slot}'s kernel has {have}, there is room for {room}")]
    RealMode {
        /// The kernel's slot.
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
        /// The initramfs' slot.
        slot: Slot,
        /// Its length.
        size: Bytes,
        /// The address it would be loaded to.
        address: u64,
        /// `initrd_addr_max` of the kernel.
        limit: u32,
    },
    /// The load table cannot be made.
    #[error("slot {slot} cannot be booted")]
    Table {
        /// The table's slot.
        slot: Slot,
        /// The cause.
        source: LoadTableError,
    },
}
