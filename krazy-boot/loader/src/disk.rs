//! The whole disk behind the partition that the loader came from.

use alloc::vec::Vec;

use krazy_boot::disk::size::{SECTOR_SIZE, Sectors};
use uefi::Handle;
use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::proto::device_path::build::DevicePathBuilder;
use uefi::proto::device_path::{DevicePath, DeviceSubType, DeviceType};
use uefi::proto::media::block::BlockIO;

const SECTOR: usize = SECTOR_SIZE as usize;

/// A sector in memory, aligned for the firmware's drivers: some transfer it directly, and ask for up to a page.
#[repr(C, align(4096))]
struct Buffer([u8; SECTOR]);

/// The disk, read and written past the firmware's file system.
pub(crate) struct WholeDisk(ScopedProtocol<BlockIO>);

impl WholeDisk {
    /// Opens the disk that has `partition`. The error is a sentence for the screen.
    pub(crate) fn of(partition: Handle) -> Result<Self, &'static str> {
        let unknown = "the firmware does not say which disk it was loaded from";
        let path = boot::open_protocol_exclusive::<DevicePath>(partition).map_err(|_| unknown)?;
        let mut bytes = Vec::new();
        let mut disk = DevicePathBuilder::with_vec(&mut bytes);
        let is_partition = |kind| kind == (DeviceType::MEDIA, DeviceSubType::MEDIA_HARD_DRIVE);
        for node in path.node_iter().take_while(|node| !is_partition(node.full_type())) {
            disk = disk.push(&node).map_err(|_| unknown)?;
        }
        if !path.node_iter().any(|node| is_partition(node.full_type())) {
            return Err("it was not loaded from a partition of a disk");
        }
        let disk = disk.finalize().map_err(|_| unknown)?;
        let handle = boot::locate_device_path::<BlockIO>(&mut &*disk).map_err(|_| unknown)?;
        // Not exclusively: the firmware's file system on the partition uses it, too, and would be closed.
        let parameters = OpenProtocolParams { handle, agent: boot::image_handle(), controller: None };
        // SAFETY: the disk stays while the loader runs: drivers are not unloaded, and what is opened here is only used
        // from this one thread of execution.
        let io = unsafe { boot::open_protocol::<BlockIO>(parameters, OpenProtocolAttributes::GetProtocol) };
        let io = io.map_err(|_| "the firmware has no driver for its disk")?;
        match io.media().block_size() as usize {
            SECTOR => Ok(WholeDisk(io)),
            _ => Err("its disk has sectors of another size than 512 bytes, which are not supported"),
        }
    }

    /// Reads a sector; `None` if the disk fails.
    pub(crate) fn read(&mut self, at: Sectors) -> Option<[u8; SECTOR]> {
        let mut buffer = Buffer([0; SECTOR]);
        let media = self.0.media().media_id();
        self.0.read_blocks(media, at.0.into(), &mut buffer.0).ok()?;
        Some(buffer.0)
    }

    /// Writes a sector, and returns true if it is durable.
    pub(crate) fn write(&mut self, at: Sectors, sector: &[u8; SECTOR]) -> bool {
        let buffer = Buffer(*sector);
        let media = self.0.media().media_id();
        let written = self.0.write_blocks(media, at.0.into(), &buffer.0);
        written.and_then(|()| self.0.flush_blocks()).is_ok()
    }
}
