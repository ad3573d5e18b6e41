//! Writing the whole disk, or one partition, directly. The written bytes are read back past the page cache.
//!
//! This bypasses the update engine: nothing keeps the device bootable, and no signature is checked.

use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::engine::{self, Target};
use krazy_init::control::BootInfo;
use sha2::{Digest, Sha256};

use super::disk::{Disk, Mode};
use super::update::refuse_ambiguous_disk;
use super::{Device, SIGNED_ONLY};
use crate::body::Body;
use crate::problem::{Kind, Problem};
use crate::task::blocking;

/// Bytes gathered before each write to the disk.
const WRITE_LEN: usize = 256 * 1024;

/// Bytes between two syncs. Without them, unaligned writes would fill the memory.
const SYNC_INTERVAL: u64 = 16 << 20;

/// The part of the disk to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlashTarget {
    Disk,
    /// A partition, 1 to 4.
    Partition(u8),
}

/// A write in progress.
struct Flash {
    disk: Disk,
    name: String,
    extent: Extent,
    written: u64,
    sha256: Sha256,
    unsynced: u64,
}

impl FlashTarget {
    fn name(self) -> String {
        match self {
            FlashTarget::Disk => "the disk".to_owned(),
            FlashTarget::Partition(number) => format!("partition {number}"),
        }
    }

    /// Rejects a target that the running system uses, or that the next start will use.
    fn check_unused(self, boot: &BootInfo) -> Result<(), Problem> {
        let name = self.name();
        // Init mounts /boot and /data, and the running root is always mounted.
        let used = match self {
            FlashTarget::Disk => true,
            FlashTarget::Partition(number) => {
                number == 1 || number == 4 || boot.slot.map(Slot::root_partition) == Some(number)
            }
        };
        if used {
            let text =
                format!("{name} is in use by the running system; `?force=true` writes it nevertheless");
            return Err(Problem::new(Kind::InUse, text));
        }
        if boot.armed.is_some() && boot.armed == self.inactive_slot(boot) {
            return Err(Problem::new(Kind::InUse, format!("{name} is armed: the next start mounts it")));
        }
        let confirmed = boot.fallback.as_ref().map(|fallback| fallback.slot);
        if confirmed.is_some() && confirmed == self.inactive_slot(boot) {
            let text =
                format!("{name} is confirmed: the next start tries it; confirm the running slot first");
            return Err(Problem::new(Kind::InUse, text));
        }
        refuse_ambiguous_disk(boot)?;
        Ok(())
    }

    /// Returns the inactive slot if this is its root partition.
    fn inactive_slot(self, boot: &BootInfo) -> Option<Slot> {
        let inactive = !boot.slot?;
        (self == FlashTarget::Partition(inactive.root_partition())).then_some(inactive)
    }
}

impl Device {
    /// Writes `body` to `target` from its start on. Only with `force` may the target be in use.
    pub(crate) async fn flash(
        &self,
        target: FlashTarget,
        mut body: Body,
        force: bool,
    ) -> Result<(), Problem> {
        if self.signed_only {
            return Err(Problem::new(
                Kind::Forbidden,
                format!("raw writes are refused, because {SIGNED_ONLY}"),
            ));
        }
        // Held to the end: no update may begin in a slot, or on a disk, that is being overwritten.
        let _no_update = self.updates.lock_out().await?;
        let boot = self.control.boot().await?;
        let node = boot.disk.clone().ok_or_else(|| {
            let text = "the root is not on a disk of cargo krazy, so there is no disk to write";
            Problem::new(Kind::NotNow, text)
        })?;
        if !force {
            target.check_unused(&boot)?;
        }
        let root = self.root.clone();
        let mut flash = blocking(move || {
            let disk =
                Disk::open(&root, &node, Mode::ReadWrite).map_err(|error| Problem::from_io(&error, &node))?;
            Flash::begin(disk, target, target.inactive_slot(&boot))
        })
        .await?;
        // Before the first write, if the client has announced a length.
        if body.len().is_some_and(|len| len > flash.extent.len.bytes().0) {
            return Err(flash.too_long());
        }
        let mut buffer = Vec::with_capacity(WRITE_LEN);
        loop {
            let complete = body.fill(&mut buffer, WRITE_LEN).await?;
            (flash, buffer) = blocking(move || {
                flash.write(&buffer)?;
                buffer.clear();
                Ok((flash, buffer))
            })
            .await?;
            if complete {
                return blocking(move || flash.finish()).await;
            }
        }
    }
}

impl Flash {
    /// Locates the target. The manifest of an inactive slot whose root is overwritten is erased first: it would be wrong.
    fn begin(mut disk: Disk, target: FlashTarget, inactive: Option<Slot>) -> Result<Self, Problem> {
        let disk_failed = |error| Problem::from_io(&error, "the disk");
        let extent = match target {
            FlashTarget::Partition(number) => {
                let mut sector = [0; SECTOR_SIZE as usize];
                disk.read_back(Bytes(0), &mut sector).map_err(disk_failed)?;
                let layout = Mbr::decode(&sector)
                    .map_err(|error| Problem::new(Kind::Internal, error.to_string()))?
                    .layout;
                let [boot, root_a, root_b, data] = layout.partitions();
                match number {
                    1 => boot,
                    2 => root_a,
                    3 => root_b,
                    _ => data,
                }
            }
            FlashTarget::Disk => {
                let len = disk.len().map_err(disk_failed)?;
                Extent { start: Sectors(0), len: len.sectors_floor().unwrap_or(Sectors(u32::MAX)) }
            }
        };
        if let Some(slot) = inactive {
            engine::remove_record(&mut disk, slot).map_err(Problem::from_engine)?;
        }
        Ok(Flash { disk, name: target.name(), extent, written: 0, sha256: Sha256::new(), unsynced: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if self.written + bytes.len() as u64 > self.extent.len.bytes().0 {
            return Err(self.too_long());
        }
        let offset = Bytes(self.extent.start.bytes().0 + self.written);
        self.disk.write_at(offset, bytes).map_err(|error| Problem::from_io(&error, &self.name))?;
        self.sha256.update(bytes);
        self.written += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_INTERVAL {
            self.unsynced = 0;
            self.disk.sync().map_err(|error| Problem::from_io(&error, &self.name))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Problem> {
        let failed = |error| Problem::from_io(&error, &self.name);
        // Reading back bypasses the cache, so everything must have left it.
        self.disk.sync().map_err(failed)?;
        let (mut found, mut buffer) = (Sha256::new(), vec![0; WRITE_LEN]);
        let mut read = 0;
        while read < self.written {
            let len = (self.written - read).min(WRITE_LEN as u64) as usize;
            let offset = Bytes(self.extent.start.bytes().0 + read);
            self.disk.read_back(offset, &mut buffer[..len]).map_err(failed)?;
            found.update(&buffer[..len]);
            read += len as u64;
        }
        if found.finalize() != self.sha256.finalize() {
            let text = format!("{} does not return the bytes written to it", self.name);
            return Err(Problem::new(Kind::Internal, text));
        }
        crate::log::write(format_args!("{} was written directly, {}", self.name, Bytes(self.written)));
        Ok(())
    }

    fn too_long(&self) -> Problem {
        let text = format!("{} has {}, more was sent", self.name, self.extent.len.bytes());
        Problem::new(Kind::BodyTooLarge, text)
    }
}
