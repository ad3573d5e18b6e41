//! The running slot, and the slot that boots next.

use std::sync::Arc;

use krazy_boot::api::status::Slots;

use crate::api::Admin;
use crate::problem::{Kind, Problem};

/// Queries init for slot and disk, and reads the rest from the disk.
pub(super) async fn slots(admin: &Arc<Admin>) -> Result<Slots, Problem> {
    let boot = admin.control.boot().await?;
    let disk = boot.disk.ok_or_else(|| {
        Problem::new(Kind::NotNow, "the root is not on a disk of cargo krazy, so there are no slots")
    })?;
    let copies = admin.device.selector(disk).await?;
    let selector = copies.selector().map_err(|error| Problem::new(Kind::NotNow, error.to_string()))?;
    Ok(Slots {
        running: boot.slot,
        confirmed: selector.confirmed,
        armed: selector.trial,
        candidate: selector.candidate,
        state: boot.slot.map(|running| selector.slot_state(running)),
        trial: boot.trial,
        needs_repair: copies.needs_repair(),
    })
}
