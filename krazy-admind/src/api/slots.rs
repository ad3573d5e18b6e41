//! Which slot runs, and which one boots next.

use std::sync::Arc;

use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::slot::Slot;
use krazy_init::control::Trial;
use serde::Serialize;

use crate::api::Admin;
use crate::problem::{Kind, Problem};

/// The answer of `/api/v1/slots`.
#[derive(Debug, Serialize)]
pub(super) struct Slots {
    /// The slot that runs, if the kernel's command line names one.
    running: Option<Slot>,
    /// The slot that boots when no trial is armed.
    confirmed: Slot,
    /// The slot that boots once, at the next start.
    armed: Option<Slot>,
    /// The slot that was armed last and not confirmed since.
    candidate: Option<Slot>,
    /// What this means.
    standing: Option<&'static str>,
    /// The trial this boot is, if it is one.
    trial: Option<Trial>,
    /// Whether a copy of the selector is damaged, or the copies disagree.
    needs_repair: bool,
}

/// Asks init for slot and disk, and the disk for the rest.
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
        standing: boot.slot.map(|running| match selector.slot_state(running) {
            SlotState::Confirmed => "confirmed",
            SlotState::Armed => "armed",
            SlotState::OnTrial => "on-trial",
            SlotState::Reverted => "reverted",
            SlotState::Unexpected => "unexpected",
        }),
        trial: boot.trial,
        needs_repair: copies.needs_repair(),
    })
}
