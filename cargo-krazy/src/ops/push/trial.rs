//! The trial of a new build: the restart, then confirmed when stable, or back in the old build with a reason.

use std::thread;
use std::time::{Duration, Instant};

use krazy_boot::api::Endpoint;
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::api::update::StatusQuery;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::refusal::Refusal;

use super::Options;
use super::outcome::Outcome;
use super::preflight::Preflight;
use super::upload::Sent;
use crate::bundle::Bundle;
use crate::device::power::{self, Power};
use crate::device::status::{Service, Status, condition};
use crate::device::{Client, DeviceError};
use crate::failure::{Exit, Explain, Result};
use crate::interrupt;
use crate::ops::refusal::RefusedUpdate;
use crate::shell::Shell;

/// Between two requests to a device that is awaited.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The end of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrialEnd {
    /// The new build runs and stays.
    Confirmed(Slot),
    /// The new build runs, on trial.
    Unconfirmed {
        /// The slot.
        slot: Slot,
        /// Seconds until the device goes back.
        deadline: u64,
    },
    /// The old build runs again.
    Reverted {
        /// The slot.
        slot: Slot,
        /// The reason, as the device states it.
        reason: String,
    },
}

impl TrialEnd {
    /// Returns the outcome of a push that `sent` something.
    pub(super) fn into_outcome(self, sent: Sent) -> Outcome {
        match self {
            TrialEnd::Confirmed(slot) => Outcome::Updated { slot, sent, confirmed: true, deadline: None },
            TrialEnd::Unconfirmed { slot, deadline } => {
                Outcome::Updated { slot, sent, confirmed: false, deadline: Some(deadline) }
            }
            TrialEnd::Reverted { slot, reason } => Outcome::Reverted { slot, reason },
        }
    }
}

/// A trial without a known end.
#[derive(Debug, thiserror::Error)]
enum TrialError {
    #[error(transparent)]
    Damaged(DeviceError),
    #[error(transparent)]
    Refused(RefusedUpdate),
    #[error("`{device}` did not come back within {seconds} s: {last}")]
    NotBack { device: String, seconds: u64, last: String },
    #[error("`{device}` runs the new build but is not stable: {reason}")]
    Unstable { device: String, reason: String, services: String },
}

impl Explain for TrialError {
    fn exit(&self) -> Exit {
        match self {
            TrialError::Refused(error) => error.exit(),
            _ => Exit::Device,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            TrialError::Damaged(_) => Some(
                "nothing was armed, and the device runs the same build as before; the new build is damaged: make it \
                 again"
                    .to_owned(),
            ),
            TrialError::Refused(error) => error.help(),
            TrialError::NotBack { device, .. } => Some(format!(
                "it boots the old build when it is switched off and on; then ask it: `cargo krazy status {device}`"
            )),
            TrialError::Unstable { services, .. } => Some(services.clone()),
        }
    }
}

/// Arms the uploaded slot, restarts the device, and waits for the end of its trial.
pub(super) fn run(
    client: &Client,
    before: &Preflight,
    bundle: &Bundle,
    options: Options,
    shell: Shell,
) -> Result<TrialEnd> {
    let session: krazy_boot::api::update::UpdateStatus =
        client.get(&Endpoint::UpdateStatus { query: StatusQuery::default() })?;
    let id = session.session.map(|session| session.id).unwrap_or_default();
    client.call(&Endpoint::ArmUpdate { id }).map_err(not_armed)?;
    power::order(client, Power::Reboot)?;
    shell.status("Restarting", client.device());
    let begin = Instant::now();
    let status = wait_for_restart(client, before.started, begin, options.limit)?;
    settle(client, status, bundle, options, begin)
}

/// The device checks the new slot before it arms it.
fn not_armed(error: DeviceError) -> TrialError {
    match error.refusal() {
        Some(Refusal::SlotIncomplete) => TrialError::Damaged(error),
        _ => TrialError::Refused(RefusedUpdate(error)),
    }
}

/// Waits until the device answers after a restart, and returns its status.
fn wait_for_restart(
    client: &Client,
    started: Option<Instant>,
    begin: Instant,
    limit: Duration,
) -> Result<Status> {
    let mut last = String::from("it still runs");
    while begin.elapsed() < limit {
        interrupt::check()?;
        thread::sleep(POLL_INTERVAL);
        match client.get::<Status>(&Endpoint::Status) {
            Ok(status) if restarted(started, status.uptime) => return Ok(status),
            Ok(_) => {}
            Err(error) if error.is_transient() => last = error.to_string(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(TrialError::NotBack { device: client.device().to_owned(), seconds: limit.as_secs(), last }.into())
}

/// Returns true if a device that has been up for `uptime` seconds started later than `started`. A few seconds allow for
/// rounding and slow replies; no machine restarts within them.
fn restarted(started: Option<Instant>, uptime: u64) -> bool {
    let now = Instant::now().checked_sub(Duration::from_secs(uptime));
    match (started, now) {
        (Some(started), Some(now)) => now > started + Duration::from_secs(3),
        // The device started before this machine did.
        (None, now) => now.is_some(),
        (Some(_), None) => false,
    }
}

/// Waits until a device that has restarted runs the new build for good, or the old one again.
fn settle(
    client: &Client,
    mut status: Status,
    bundle: &Bundle,
    options: Options,
    begin: Instant,
) -> Result<TrialEnd> {
    let mut unstable = String::new();
    loop {
        let slot = status.slot.unwrap_or(Slot::A);
        if status.build_id != bundle.manifest.build_id {
            let told = status.failed_trial.map(|trial| trial.reason);
            let reason = told.filter(|reason| !reason.is_empty()).unwrap_or_else(|| match &unstable[..] {
                "" => "the new build did not answer".to_owned(),
                unstable => unstable.to_owned(),
            });
            return Ok(TrialEnd::Reverted { slot, reason });
        }
        let Some(trial) = &status.trial else { return Ok(TrialEnd::Confirmed(slot)) };
        if !options.confirm {
            return Ok(TrialEnd::Unconfirmed { slot, deadline: trial.deadline });
        }
        match client.call(&Endpoint::ConfirmSlot) {
            Ok(()) => return Ok(TrialEnd::Confirmed(slot)),
            // It is not stable yet, or it is restarting.
            Err(error)
                if matches!(error.kind(), Some(ProblemKind::NotStable | ProblemKind::InitUnreachable)) =>
            {
                unstable = error.problem().map(|problem| problem.detail.clone()).unwrap_or_default();
            }
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        if begin.elapsed() > options.limit {
            let (device, services) = (client.device().to_owned(), unstable_services(client));
            return Err(TrialError::Unstable { device, reason: unstable, services }.into());
        }
        interrupt::check()?;
        thread::sleep(POLL_INTERVAL);
        status = loop {
            match client.get(&Endpoint::Status) {
                Ok(status) => break status,
                Err(error) if error.is_transient() && begin.elapsed() < options.limit => {
                    interrupt::check()?;
                    thread::sleep(POLL_INTERVAL);
                }
                Err(error) => return Err(error.into()),
            }
        };
    }
}

/// Returns the required services that are not stable, for a help line.
fn unstable_services(client: &Client) -> String {
    #[derive(serde::Deserialize)]
    struct Services {
        services: Vec<Service>,
    }
    let asked = client.get::<Services>(&Endpoint::Services);
    let services = asked.map_or(Vec::new(), |answer| answer.services);
    let unstable = services.iter().filter(|service| service.required && !service.stable);
    let unstable: Vec<_> =
        unstable.map(|service| format!("{}: {}", service.name, condition(service))).collect();
    match unstable.is_empty() {
        true => format!("see `cargo krazy ps {}`", client.device()),
        false => unstable.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_is_distinguished_from_a_device_that_still_runs() {
        let now = Instant::now();
        let minute = now.checked_sub(Duration::from_secs(60));
        assert!(!restarted(minute, 60));
        assert!(!restarted(minute, 58));
        assert!(restarted(minute, 20));
        assert!(restarted(None, 0));
        assert!(!restarted(minute, u64::MAX / 2));
    }
}
