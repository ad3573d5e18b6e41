//! The machine that decides: disk, files and kernel together.

use alloc::string::{String, ToString};
use core::time::Duration;

use krazy_boot::boot::slot_files::SlotFiles;
use krazy_boot::boot::start::{self, Failed, Failure};
use krazy_boot::boot::uefi_loader::mark;
use krazy_boot::disk::size::{SECTOR_SIZE, Sectors};
use krazy_boot::disk::slot::Slot;
use uefi::boot;
use uefi::fs::{FileSystem, Path};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::fs::SimpleFileSystem;
use uefi::runtime::{self, ResetType};
use uefi::{CString16, Handle, Status, println};

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
    let Failure { slots, has_selector } = start::start(&mut pc);
    if !has_selector {
        return give_up("its disk has no image of cargo krazy (write the whole image to the whole disk)");
    }
    for Failed { slot, reason } in slots {
        println!("krazy: slot {slot} cannot start: {reason}");
    }
    println!("krazy: no slot can start; trying again");
    boot::stall(WAIT_BEFORE_RESET);
    runtime::reset(ResetType::COLD, Status::LOAD_ERROR, None)
}

/// Tells why, long enough to be read, and returns to the firmware.
fn give_up(reason: &str) -> Status {
    println!("krazy: the loader cannot start: {reason}");
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
    fn files(&self, slot: Slot, failed: Option<&Failed>) -> Result<SlotFiles, String> {
        let volume = boot::open_protocol_exclusive::<SimpleFileSystem>(self.partition);
        let volume = volume.map_err(|error| error.status().to_string())?;
        let mut files = FileSystem::new(volume);
        let read = |name: &str| {
            let path = CString16::try_from(name).map_err(|_| Status::INVALID_PARAMETER.to_string())?;
            files.read(Path::new(&path)).map_err(|error| error.to_string())
        };
        SlotFiles::read(slot, failed, read).map_err(|error| error.to_string())
    }
}

impl start::Machine for Pc {
    fn read(&mut self, at: Sectors) -> Option<[u8; SECTOR_SIZE as usize]> {
        self.disk.read(at)
    }

    fn write(&mut self, at: Sectors, sector: &[u8; SECTOR_SIZE as usize]) -> bool {
        self.disk.write(at, sector)
    }

    fn start(&mut self, slot: Slot, failed: Option<&Failed>) -> String {
        match failed {
            None => println!("krazy: slot {slot}"),
            Some(Failed { slot: other, reason }) => {
                println!("krazy: slot {slot}, because slot {other}: {reason}")
            }
        }
        match self.files(slot, failed) {
            Ok(files) => kernel::start(files),
            Err(reason) => reason,
        }
    }
}
