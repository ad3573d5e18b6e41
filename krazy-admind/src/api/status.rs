//! The running system and its condition.

use std::sync::Arc;

use krazy_boot::api::status::Status;

use crate::api::Admin;
use crate::device::Facts;
use crate::problem::{Kind, Problem};

/// Queries init. If that is another program, or hangs, root and kernel supply the rest.
pub(super) async fn status(admin: &Arc<Admin>) -> Result<Status, Problem> {
    let Facts { memory, data, last_attempt } = admin.device.facts().await?;
    let admind = env!("CARGO_PKG_VERSION").to_owned();
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
            fallback: boot.fallback,
            last_attempt,
            uptime: boot.uptime,
            stable: Some(boot.stable),
            degraded: boot.degraded,
            milestones: Some(boot.milestones),
            previous_end: boot.previous_end,
            memory,
            data,
            data_source: boot.data,
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
                fallback: None,
                last_attempt,
                uptime: rustix::system::sysinfo().uptime.try_into().unwrap_or(0),
                stable: None,
                degraded: vec![problem.detail().to_owned()],
                milestones: None,
                previous_end: None,
                memory,
                data,
                data_source: None,
                admind,
            })
        }
        Err(problem) => Err(problem),
    }
}
