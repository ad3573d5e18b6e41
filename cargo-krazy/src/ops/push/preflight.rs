//! What a device runs, and whether it can take an update now.

use std::time::{Duration, Instant};

use krazy_boot::api::update::UpdateStatus;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::{PROTOCOL, Part};

use crate::device::status::{API, Status, span};
use crate::device::{Client, DeviceError};
use crate::failure::{Exit, Failure};

/// How long a device may take to read its root: 256 MiB from a slow memory card.
const MEASURING: Duration = Duration::from_secs(120);

/// The answers of a device that can take an update.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// The build that runs.
    pub build_id: String,
    /// Its version.
    pub version: String,
    /// The name of the board it is.
    pub board: String,
    /// The slot it runs from.
    pub slot: Slot,
    /// Its parts, as far as the device knows them.
    pub running: Vec<Part>,
    /// When the device started, by this machine's clock; `None` if that is before this machine's start.
    pub started: Option<Instant>,
}

/// Asks a device, and refuses in its name what cannot go well.
pub fn ask(client: &Client) -> Result<Preflight, Failure> {
    let status: Status = client.get(&format!("{API}/status")).map_err(DeviceError::into_failure)?;
    let now = Instant::now();
    // A device that was never updated reads its whole root to know what it runs.
    let path = format!("{API}/update?hash=true");
    let update: UpdateStatus = client.get_patiently(&path, MEASURING).map_err(DeviceError::into_failure)?;
    let device = client.device();
    let refused = |text: String| Failure::new(Exit::Device, text);
    if let Some(trial) = &status.trial {
        let text = format!("`{device}` is still trying its last update, {} v{}", status.name, status.version);
        let back = span(trial.deadline);
        return Err(refused(text).help(format!(
            "`cargo krazy confirm {device}` keeps that one, `cargo krazy rollback {device}` goes back; by itself it \
             goes back in {back}"
        )));
    }
    let (Some(slot), Some(running)) = (status.slot, update.running) else {
        return Err(refused(format!("`{device}` does not run from a cargo krazy disk, so it has no slots"))
            .help("write an image to its disk with `cargo krazy image -o /dev/sdX`"));
    };
    if update.protocol > PROTOCOL {
        return Err(refused(format!(
            "`{device}` speaks version {} of the update protocol, this program {PROTOCOL}",
            update.protocol
        ))
        .help("install a newer cargo-krazy"));
    }
    let started = now.checked_sub(Duration::from_secs(status.uptime));
    let Status { build_id, version, board, .. } = status;
    Ok(Preflight { build_id, version, board, slot, running: running.parts, started })
}
