//! The state of a device before a push, and whether it can take an update now.

use std::time::{Duration, Instant};

use krazy_boot::api::Endpoint;
use krazy_boot::api::update::{StatusQuery, UpdateStatus};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::{PROTOCOL, Part};

use crate::device::Client;
use crate::device::status::{Status, span};
use crate::failure::{Exit, Explain, Result};

/// The timeout of a device that hashes its root: 256 MiB from a slow memory card.
const HASH_TIMEOUT: Duration = Duration::from_secs(120);

/// A device that can take an update.
#[derive(Clone, Debug)]
pub(super) struct Preflight {
    /// The build that runs.
    pub(super) build_id: String,
    /// Its version.
    pub(super) version: String,
    /// The name of the board.
    pub(super) board: String,
    /// The active slot.
    pub(super) slot: Slot,
    /// The keys whose updates it accepts; empty if it does not tell.
    pub(super) keys: Vec<String>,
    /// The parts of the active slot, as far as the device knows them.
    pub(super) running: Vec<Part>,
    /// The device's start, by this machine's clock; `None` if that is before this machine's start.
    pub(super) started: Option<Instant>,
}

/// A device that cannot take an update now.
#[derive(Debug, thiserror::Error)]
enum PreflightError {
    #[error("`{device}` is still trying its last update, {name} v{version}")]
    OnTrial { device: String, name: String, version: String, deadline: u64 },
    #[error("`{device}` does not run from a cargo krazy disk, so it has no slots")]
    NoSlots { device: String },
    #[error("`{device}` speaks version {protocol} of the update protocol, this program {PROTOCOL}")]
    NewerProtocol { device: String, protocol: u32 },
}

impl Explain for PreflightError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            PreflightError::OnTrial { device, deadline, .. } => format!(
                "`cargo krazy confirm {device}` keeps that build, `cargo krazy rollback {device}` goes back; by itself \
                 the device goes back in {}",
                span(*deadline)
            ),
            PreflightError::NoSlots { .. } => {
                "write an image to its disk with `cargo krazy image -o /dev/sdX`".to_owned()
            }
            PreflightError::NewerProtocol { .. } => "install a newer cargo-krazy".to_owned(),
        })
    }
}

/// Asks a device. Fails if a push to it cannot succeed.
pub(super) fn ask(client: &Client) -> Result<Preflight> {
    let status: Status = client.get(&Endpoint::Status)?;
    let now = Instant::now();
    // A device that was never updated reads its whole root to know what it runs.
    let update: UpdateStatus =
        client.get_within(&Endpoint::UpdateStatus { query: StatusQuery { hash: true } }, HASH_TIMEOUT)?;
    let device = client.device().to_owned();
    let started = now.checked_sub(Duration::from_secs(status.uptime));
    let Status { name, build_id, version, board, .. } = status;
    if let Some(trial) = status.trial {
        return Err(PreflightError::OnTrial { device, name, version, deadline: trial.deadline }.into());
    }
    let (Some(slot), Some(running)) = (status.slot, update.running) else {
        return Err(PreflightError::NoSlots { device }.into());
    };
    if update.protocol > PROTOCOL {
        return Err(PreflightError::NewerProtocol { device, protocol: update.protocol }.into());
    }
    Ok(Preflight { build_id, version, board, slot, keys: update.keys, running: running.parts, started })
}
