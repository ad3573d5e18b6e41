//! A slot's area in front of partition 1: its load table, and the data that the table loads into low memory.
//!
//! | sectors of the area | content |
//! |---|---|
//! | 0 … 3 | the [load table](crate::boot::load_table) |
//! | 4 … 481 | low memory, bank 0 |
//! | 482 … 959 | low memory, bank 1 |
//!
//! A bank holds the kernel's real-mode part with the boot loader's fields filled in, then the command line with a NUL. The
//! rest of the kernel and the initramfs are loaded from the sectors of their files on `/boot`. The command line is copied
//! here because an editor that rewrites `a-cmdline.txt` moves it to other clusters; a table that pointed there would load
//! garbage.
//!
//! There are two banks so that a change of the command line never damages the table in use: the new content goes to the
//! bank that the table on the disk does not name, and then the table's first sector is rewritten, which disks do
//! atomically. (A table changes in more than one sector only if it has more than 40 entries, *and* files have moved.)
//! [`refresh`] returns the writes in that order. Image writer, init and update engine all use it, so for a disk they have
//! written it returns none.
//!
//! # Memory
//!
//! | address | content |
//! |---|---|
//! | 0x10000 … 0x1dfff | real-mode part, heap, stack (segment 0x1000) |
//! | 0x1e000 … 0x1e7ff | command line |
//! | 0x100000 … | protected-mode part |
//! | above the memory that the kernel unpacks itself to, on a MiB boundary | initramfs |

use std::io::{Read, Seek, SeekFrom};

use crate::boot::bzimage::{self, BzImage, LoaderFields, MAX_SETUP_LEN, PROTECTED_MODE_ADDRESS};
use crate::boot::cmdline::{self, CommandLine};
use crate::boot::load_table::{
    FarPointer, Load, LoadTable, LoadTableError, TABLE_LEN, TABLE_SECTORS, consecutive_loads, file_part,
};
use crate::disk::boot_fat::BootFat;
use crate::disk::layout::{Extent, SLOT_AREA_LEN, area_of_slot};
use crate::disk::mbr::Mbr;
use crate::disk::ordered_write::SectorWrite;
use crate::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use crate::disk::slot::{Slot, boot_file};

mod error;
pub use error::SlotAreaError;

/// Length of a bank.
const BANK_SECTORS: Sectors = Sectors((SLOT_AREA_LEN.0 - TABLE_SECTORS.0) / 2);

/// The segment of the kernel's real-mode part. The boot sector's own data ends below it.
const REAL_MODE_SEGMENT: u16 = 0x1000;
const REAL_MODE_ADDRESS: u32 = REAL_MODE_SEGMENT as u32 * 16;
/// End of the heap and start of the stack; boot.rst recommends 0xe000 for a kernel loaded this way.
const HEAP_END: u16 = 0xe000;
const COMMAND_LINE_ADDRESS: u32 = REAL_MODE_ADDRESS + HEAP_END as u32;
/// Limit of the kernel's setup code with its uninitialised data, which its linker script asserts.
const MAX_REAL_MODE_LEN: u64 = 0x8000;

/// The boot files of a slot: the content that is needed, and their sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// The first bytes of the kernel file: all of it, or at least [`MAX_SETUP_LEN`].
    pub(crate) kernel_start: Vec<u8>,
    /// Length of the kernel file.
    pub(crate) kernel_size: Bytes,
    /// The kernel file's sectors.
    pub(crate) kernel: Vec<Extent>,
    /// Length of the initramfs.
    pub(crate) initramfs_size: Bytes,
    /// The initramfs' sectors.
    pub(crate) initramfs: Vec<Extent>,
    /// The kernel command line.
    pub(crate) command_line: CommandLine,
}

/// One of the two locations of the data for low memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bank {
    /// The bank of a new image.
    First,
    /// The other one.
    Second,
}

/// The used content of an area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotArea {
    /// The load table.
    pub(crate) table: LoadTable,
    /// The bank the table names.
    pub(crate) bank: SectorWrite,
    slot: Slot,
}

impl Bank {
    /// Returns the sectors of this bank in the area of `slot`.
    pub(crate) fn extent(self, slot: Slot) -> Extent {
        let first = area_of_slot(slot).start + TABLE_SECTORS;
        let start = match self {
            Bank::First => first,
            Bank::Second => first + BANK_SECTORS,
        };
        Extent { start, len: BANK_SECTORS }
    }

    /// Returns the bank that a table of `slot` loads from; `None` for a foreign table.
    pub(crate) fn of(table: &LoadTable, slot: Slot) -> Option<Bank> {
        let start = table.loads.first()?.source.start;
        [Bank::First, Bank::Second].into_iter().find(|bank| bank.extent(slot).start == start)
    }
}

impl BootFiles {
    /// Reads the boot files of `slot` from `/boot`.
    pub fn read<R: Read + Seek>(fat: &mut BootFat<R>, slot: Slot) -> Result<Self, SlotAreaError> {
        let kernel = fat.find(&slot.boot_file(boot_file::KERNEL))?;
        let initramfs = fat.find(&slot.boot_file(boot_file::INITRAMFS))?;
        let command_line = fat.read_text(&slot.boot_file(boot_file::CMDLINE), cmdline::MAX_FILE)?;
        let command_line = CommandLine::parse(&command_line)
            .map_err(|source| SlotAreaError::CommandLine { slot, source })?;
        Ok(BootFiles {
            kernel_start: fat.read_start(&kernel, Bytes(MAX_SETUP_LEN as u64))?,
            kernel_size: kernel.size,
            kernel: fat.extents(&kernel)?,
            initramfs_size: initramfs.size,
            initramfs: fat.extents(&initramfs)?,
            command_line,
        })
    }
}

impl SlotArea {
    /// Computes addresses, fills in the kernel's header and lays out `bank`.
    pub(crate) fn new(slot: Slot, bank: Bank, files: &BootFiles) -> Result<Self, SlotAreaError> {
        let table_error = |source| SlotAreaError::Table { slot, source };
        let kernel = BzImage::parse(&files.kernel_start, files.kernel_size)
            .map_err(|source| SlotAreaError::Kernel { slot, source })?;
        let text = files.command_line.as_str();
        if text.len() > kernel.cmdline_size as usize {
            let limit = kernel.cmdline_size;
            return Err(SlotAreaError::CommandLineTooLong { slot, len: text.len(), limit });
        }
        let setup_len = kernel.setup.bytes();
        let real_mode = |have| SlotAreaError::RealMode { slot, have, room: Bytes(MAX_REAL_MODE_LEN) };
        if setup_len.0 > MAX_REAL_MODE_LEN {
            return Err(real_mode(setup_len));
        }
        let mut low = files
            .kernel_start
            .get(..setup_len.0 as usize)
            .ok_or_else(|| real_mode(Bytes(files.kernel_start.len() as u64)))?
            .to_vec();

        // `parse` has checked that the file is longer than its real-mode part.
        let protected_mode = files.kernel_size - setup_len;
        let (ramdisk, ramdisk_size) = initramfs_address(slot, &kernel, protected_mode, files.initramfs_size)?;
        let fields =
            LoaderFields { heap_end: HEAP_END, cmd_line: COMMAND_LINE_ADDRESS, ramdisk, ramdisk_size };
        if !bzimage::patch(&mut low, fields) {
            return Err(real_mode(setup_len));
        }
        low.extend(text.as_bytes());
        // The kernel reads the command line up to a NUL.
        low.push(0);
        let low = SectorWrite::padded(bank.extent(slot).start, low);
        let low_sectors = Bytes(low.bytes.len() as u64).sectors_ceil().unwrap_or(BANK_SECTORS);

        let whole = |size: Bytes| size.sectors_ceil().ok_or(table_error(LoadTableError::Address(ramdisk)));
        let command_line = Extent { start: low.at + kernel.setup, len: low_sectors - kernel.setup };
        let mut loads = vec![
            Load { destination: REAL_MODE_ADDRESS, source: Extent { start: low.at, len: kernel.setup } },
            Load { destination: COMMAND_LINE_ADDRESS, source: command_line },
        ];
        let code = file_part(&files.kernel, kernel.setup, whole(protected_mode)?).map_err(table_error)?;
        loads.extend(consecutive_loads(PROTECTED_MODE_ADDRESS, &code).map_err(table_error)?);
        let initramfs = file_part(&files.initramfs, Sectors(0), whole(files.initramfs_size)?);
        loads.extend(consecutive_loads(ramdisk, &initramfs.map_err(table_error)?).map_err(table_error)?);

        // boot.rst, "Running the Kernel": 0x20 segments above the real-mode part, SP at the end of the heap.
        let stack = FarPointer { segment: REAL_MODE_SEGMENT, offset: HEAP_END };
        let start = FarPointer { segment: REAL_MODE_SEGMENT + 0x20, offset: 0 };
        Ok(SlotArea { table: LoadTable { stack, start, loads }, bank: low, slot })
    }

    /// Returns the writes that bring this onto a disk, each to be durable before the next one begins: the bank, the end of
    /// the table, and its first sector, which is the commit. Until then the old table names the other bank.
    pub(crate) fn writes(&self) -> Result<Vec<SectorWrite>, SlotAreaError> {
        let mut head =
            self.table.encode().map_err(|source| SlotAreaError::Table { slot: self.slot, source })?;
        let rest = head.split_off(SECTOR_SIZE as usize);
        let at = area_of_slot(self.slot).start;
        let rest = SectorWrite { at: at + Sectors(1), bytes: rest };
        Ok(vec![self.bank.clone(), rest, SectorWrite { at, bytes: head }])
    }
}

/// Returns address and size of the initramfs: on the first MiB boundary above everything that the kernel occupies. Lower,
/// the kernel would unpack itself over it.
fn initramfs_address(
    slot: Slot,
    kernel: &BzImage,
    protected_mode: Bytes,
    size: Bytes,
) -> Result<(u32, u32), SlotAreaError> {
    let address = kernel
        .memory_end(protected_mode)
        .and_then(|end| end.checked_next_multiple_of(1 << 20))
        .unwrap_or(u64::MAX);
    let limit = kernel.initrd_addr_max;
    let error = SlotAreaError::Initramfs { slot, size, address, limit };
    let last = address.checked_add(size.0).and_then(|end| end.checked_sub(1));
    if size == Bytes(0) || last.is_none_or(|last| last > u64::from(limit)) {
        return Err(error);
    }
    match (u32::try_from(address), u32::try_from(size.0)) {
        (Ok(address), Ok(size)) => Ok((address, size)),
        _ => Err(error),
    }
}

/// Returns the writes that make the area of `slot` agree with its files on `/boot`; none if it does already. Does not
/// write to the disk.
///
/// `disk` is the whole disk or image file. [`refresh_from`] takes files that were read already.
pub fn refresh(disk: &mut (impl Read + Seek), slot: Slot) -> Result<Vec<SectorWrite>, SlotAreaError> {
    let mut sector = [0; SECTOR_SIZE as usize];
    read_at(disk, Sectors(0), &mut sector)?;
    let boot = Mbr::decode(&sector)?.layout.boot;
    let files = BootFiles::read(&mut BootFat::open(&mut *disk, boot.start.bytes(), boot)?, slot)?;
    refresh_from(disk, slot, &files)
}

/// Does the same as [`refresh`] with `files` that were read already.
pub fn refresh_from(
    disk: &mut (impl Read + Seek),
    slot: Slot,
    files: &BootFiles,
) -> Result<Vec<SectorWrite>, SlotAreaError> {
    let mut table = vec![0; TABLE_LEN];
    read_at(disk, area_of_slot(slot).start, &mut table)?;
    let used = LoadTable::decode(&table).ok().and_then(|table| Bank::of(&table, slot));
    if let Some(bank) = used {
        let writes = SlotArea::new(slot, bank, files)?.writes()?;
        let mut current = true;
        for write in &writes {
            let mut found = vec![0; write.bytes.len()];
            read_at(disk, write.at, &mut found)?;
            current &= found == write.bytes;
        }
        // No write for an unchanged slot: the update engine also takes that for the sign that the slot is complete.
        if current {
            return Ok(Vec::new());
        }
    }
    // A table that names neither bank is not one of ours: nothing in either bank is in use.
    let free = if used == Some(Bank::First) { Bank::Second } else { Bank::First };
    SlotArea::new(slot, free, files)?.writes()
}

fn read_at(disk: &mut (impl Read + Seek), at: Sectors, buffer: &mut [u8]) -> Result<(), SlotAreaError> {
    disk.seek(SeekFrom::Start(at.bytes().0))
        .and_then(|_| disk.read_exact(buffer))
        .map_err(|source| SlotAreaError::Read { sector: at.0, source })
}

#[cfg(test)]
mod tests;
