//! The machine that decides: disk, files and kernel together.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use krazy_boot::boot::slot_files::{SlotFiles, SlotFilesError};
use krazy_boot::boot::start::{self, Check, Failed, Failure};
use krazy_boot::boot::uefi_loader::mark;
use krazy_boot::disk::size::{SECTOR_SIZE, Sectors};
use krazy_boot::disk::slot::Slot;
use uefi::boot;
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::file::{Directory, File, FileAttribute, FileInfo, FileMode};
use uefi::proto::media::fs::SimpleFileSystem;
use uefi::runtime::{self, ResetType};
use uefi::{CString16, Handle, Status};

use crate::console::say;
use crate::disk::WholeDisk;
use crate::kernel;

/// As the boot sector waits, so that an unattended device tries again and its screen can be read.
const WAIT_BEFORE_RESET: Duration = Duration::from_secs(5);

/// By this, tools and devices tell the version of a file.
static MARK: [u8; mark().len()] = mark();

/// The boot disk.
struct Pc {
    partition: Handle,
    disk: WholeDisk,
}

/// Starts a slot. Returns to the firmware, which may have another disk, if this disk is not ours.
pub(crate) fn run() -> Status {
    // The linker drops what nothing uses.
    core::hint::black_box(&MARK);
    let mut pc = match Pc::new() {
        Ok(pc) => pc,
        Err(reason) => return give_up(reason),
    };
    let Failure { slots, is_foreign } = start::start(&mut pc);
    for Failed { slot, reason, .. } in slots {
        say(format_args!("krazy: slot {slot} cannot start: {reason}"));
    }
    if is_foreign {
        return give_up("its disk has no image of cargo krazy, which needs the whole disk");
    }
    say(format_args!("krazy: no slot can start; trying again"));
    reset()
}

/// Restarts the machine after the time that its messages can be read.
pub(crate) fn reset() -> ! {
    boot::stall(WAIT_BEFORE_RESET);
    runtime::reset(ResetType::COLD, Status::LOAD_ERROR, None)
}

/// Tells why, long enough to be read, and returns to the firmware.
fn give_up(reason: &str) -> Status {
    say(format_args!("krazy: the loader cannot start: {reason}"));
    boot::stall(WAIT_BEFORE_RESET);
    Status::LOAD_ERROR
}

impl Pc {
    fn new() -> Result<Self, &'static str> {
        let unknown = "the firmware does not say where it was loaded from";
        let image =
            boot::open_protocol_exclusive::<LoadedImage>(boot::image_handle()).map_err(|_| unknown)?;
        let partition = image.device().ok_or(unknown)?;
        Ok(Pc { partition, disk: WholeDisk::of(partition)? })
    }

    /// Reads the files of a slot. The file system is closed again: the kernel's stub opens it, too.
    fn files(&self, slot: Slot, check: Check, failed: Option<&Failed>) -> Result<SlotFiles, SlotFilesError> {
        let volume = boot::open_protocol_exclusive::<SimpleFileSystem>(self.partition);
        let mut root = volume.and_then(|mut volume| volume.open_volume());
        let read = |name: &str, limit| match &mut root {
            Ok(root) => read(root, name, limit).map_err(|error| error.status()),
            Err(error) => Err(error.status()),
        };
        SlotFiles::read(slot, check, failed, read)
    }
}

/// Reads a file of at most `limit` bytes. Memory that is missing is an error of this slot only.
fn read(root: &mut Directory, name: &str, limit: usize) -> uefi::Result<Vec<u8>> {
    let name = CString16::try_from(name).map_err(|_| Status::INVALID_PARAMETER)?;
    let file = root.open(&name, FileMode::Read, FileAttribute::empty())?;
    let mut file = file.into_regular_file().ok_or(Status::INVALID_PARAMETER)?;
    let size = file.get_boxed_info::<FileInfo>()?.file_size();
    let size = usize::try_from(size).ok().filter(|size| *size <= limit).ok_or(Status::BAD_BUFFER_SIZE)?;
    let mut content = Vec::new();
    content.try_reserve_exact(size).map_err(|_| Status::OUT_OF_RESOURCES)?;
    content.resize(size, 0);
    let count = file.read(&mut content)?;
    if count == size { Ok(content) } else { Err(Status::END_OF_FILE.into()) }
}

impl start::Machine for Pc {
    fn read(&mut self, at: Sectors) -> Option<[u8; SECTOR_SIZE as usize]> {
        self.disk.read(at)
    }

    fn write(&mut self, at: Sectors, sector: &[u8; SECTOR_SIZE as usize]) -> bool {
        self.disk.write(at, sector)
    }

    fn start(&mut self, slot: Slot, check: Check, failed: Option<&Failed>) -> Failed {
        match failed {
            None => say(format_args!("krazy: slot {slot}")),
            Some(Failed { slot: other, reason, .. }) => {
                say(format_args!("krazy: slot {slot}, because slot {other} cannot start: {reason}"));
            }
        }
        let (reason, differs) = match self.files(slot, check, failed) {
            Ok(files) => (kernel::start(files), false),
            Err(error) => (error.to_string(), matches!(error, SlotFilesError::Damaged(_))),
        };
        Failed { slot, reason, differs }
    }
}
