//! What runs, and in what condition it is.

use std::sync::Arc;

use krazy_boot::disk::slot::Slot;
use krazy_boot::update::history::Attempt;
use krazy_init::control::{FailedTrial, Milestones, Trial};
use serde::Serialize;

use crate::api::Admin;
use crate::device::{Facts, Memory, Space};
use crate::problem::{Kind, Problem};

/// The answer of `/api/v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) board: String,
    pub(super) build_id: String,
    pub(super) hostname: String,
    pub(super) kernel: String,
    /// The running slot, if the command line names one.
    pub(super) slot: Option<Slot>,
    /// The trial this boot is, if it is one.
    pub(super) trial: Option<Trial>,
    /// The trial that brought the device back to this slot, if one did.
    pub(super) failed_trial: Option<FailedTrial>,
    /// The last update or switch that was armed, and what became of it.
    pub(super) last_attempt: Option<Attempt>,
    /// Seconds since the kernel started.
    pub(super) uptime: u64,
    /// Whether every required service is stable; unknown without krazy-init.
    pub(super) stable: Option<bool>,
    /// What is not as it should be, one sentence each.
    pub(super) degraded: Vec<String>,
    pub(super) milestones: Option<Milestones>,
    pub(super) previous_end: Option<String>,
    pub(super) memory: Memory,
    pub(super) data: Space,
    /// The version of this API server.
    pub(super) admind: &'static str,
}

/// Asks init. If that is another program, or hangs, the root and the kernel tell the rest.
pub(super) async fn status(admin: &Arc<Admin>) -> Result<Status, Problem> {
    let Facts { memory, data, last_attempt } = admin.device.facts().await?;
    let admind = env!("CARGO_PKG_VERSION");
    match admin.control.boot().await {
        Ok(boot) => Ok(Status {
            name: boot.name,
            version: boot.version,
            board: boot.board,
            build_id: boot.build_id,
            hostname: boot.hostname,
            kernel: boot.kernel,
            slot: boot.slot,
            trial: boot.trial,
            failed_trial: boot.failed_trial,
            last_attempt,
            uptime: boot.uptime,
            stable: Some(boot.stable),
            degraded: boot.degraded,
            milestones: Some(boot.milestones),
            previous_end: boot.previous_end,
            memory,
            data,
            admind,
        }),
        Err(problem) if problem.kind() == Kind::InitUnreachable => {
            let (manifest, slot) = (admin.device.manifest().await?, admin.device.running_slot().await?);
            let uname = rustix::system::uname();
            Ok(Status {
                name: manifest.name,
                version: manifest.version,
                board: manifest.board,
                build_id: manifest.build_id,
                hostname: uname.nodename().to_string_lossy().into_owned(),
                kernel: uname.release().to_string_lossy().into_owned(),
                slot,
                trial: None,
                failed_trial: None,
                last_attempt,
                uptime: rustix::system::sysinfo().uptime.try_into().unwrap_or(0),
                stable: None,
                degraded: vec![problem.detail().to_owned()],
                milestones: None,
                previous_end: None,
                memory,
                data,
                admind,
            })
        }
        Err(problem) => Err(problem),
    }
}
