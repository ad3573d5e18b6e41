//! The slots of the device and what they hold.

use std::path::Path;
use std::sync::Arc;

use krazy_boot::api::status::BootInfo;
use krazy_boot::api::update::SlotContent;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::Part;
use krazy_boot::update::engine;
use krazy_boot::update::refusal::Refusal;

use super::super::disk::{Disk, Mode};
use super::Updates;
use super::admission::refuse;
use crate::problem::Problem;
use crate::task::blocking;

/// The parts of the running slot, once they were measured. Locked meanwhile, so that concurrent requests share one
/// reading of the disk.
pub(super) type Measured = Arc<tokio::sync::Mutex<Option<Vec<Part>>>>;

/// The running slot and the disk it is on.
#[derive(Clone, Debug)]
pub(super) struct SystemDisk {
    pub(super) running: Slot,
    pub(super) node: String,
}

impl SystemDisk {
    pub(super) fn of(boot: &BootInfo) -> Result<Self, Problem> {
        match (boot.slot, &boot.disk) {
            (Some(running), Some(node)) => Ok(SystemDisk { running, node: node.clone() }),
            _ => refuse(Refusal::NoSlots, "this device does not run from a slot of a cargo krazy disk"),
        }
    }

    pub(super) fn open(&self, root: &Path) -> Result<Disk, Problem> {
        Disk::open(root, &self.node, Mode::ReadOnly).map_err(|error| Problem::from_io(&error, &self.node))
    }
}

impl Updates {
    /// Returns the contents of the running and the other slot. While the other one is being written, it is left out.
    pub(super) async fn contents(
        &self,
        boot: &BootInfo,
        system: SystemDisk,
        hash: bool,
        busy: bool,
    ) -> Result<(Option<SlotContent>, Option<SlotContent>), Problem> {
        let (root, build_id) = (self.root.clone(), boot.build_id.clone());
        let disk_of = system.clone();
        let (recorded, other) = blocking(move || {
            let disk = disk_of.open(&root)?;
            let running = engine::read_record(&disk, disk_of.running).map_err(Problem::from_engine)?;
            let other = !disk_of.running;
            let other = match !busy && engine::is_complete(&disk, other).map_err(Problem::from_engine)? {
                true => engine::read_record(&disk, other).map_err(Problem::from_engine)?,
                false => None,
            };
            // A record of another build is out of date: the slot was written by other means.
            Ok((running.filter(|manifest| manifest.build_id == build_id), other))
        })
        .await?;
        let parts = match recorded {
            Some(manifest) => manifest.parts,
            None if hash => self.measure(system.clone()).await?,
            None => self.measured.try_lock().ok().and_then(|measured| measured.clone()).unwrap_or_default(),
        };
        let running = SlotContent {
            slot: system.running,
            build_id: boot.build_id.clone(),
            version: boot.version.clone(),
            parts,
        };
        let other = other.map(|manifest| SlotContent {
            slot: !system.running,
            build_id: manifest.build_id,
            version: manifest.version,
            parts: manifest.parts,
        });
        Ok((Some(running), other))
    }

    /// Measures the running slot, unless that was done before. Continues without its client, so that the next request
    /// finds the result.
    async fn measure(&self, system: SystemDisk) -> Result<Vec<Part>, Problem> {
        let mut measured = Arc::clone(&self.measured).lock_owned().await;
        if let Some(parts) = measured.as_ref() {
            return Ok(parts.clone());
        }
        let root = self.root.clone();
        blocking(move || {
            let parts =
                engine::measure(&system.open(&root)?, system.running).map_err(Problem::from_engine)?;
            *measured = Some(parts.clone());
            Ok(parts)
        })
        .await
    }
}
