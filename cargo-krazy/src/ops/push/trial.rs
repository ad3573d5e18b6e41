//! The restart into the new build, and what comes of it: stable and confirmed, or back in the old one with a reason.

use std::thread;
use std::time::{Duration, Instant};

use krazy_boot::api::problem::ProblemKind;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::refusal::Refusal;
use reqwest::Method;

use super::Options;
use super::outcome::Outcome;
use super::preflight::Preflight;
use super::upload::{Sent, explain};
use crate::bundle::Bundle;
use crate::device::power::{self, Power};
use crate::device::status::{API, Service, Status};
use crate::device::{Client, DeviceError};
use crate::failure::{Exit, Failure};
use crate::interrupt;
use crate::shell::Shell;

/// Between two looks at a device.
const LOOK: Duration = Duration::from_secs(1);

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
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
        /// Why, in the device's words.
        reason: String,
    },
}

impl End {
    /// The end of a push that `sent` something.
    pub fn into_outcome(self, sent: Sent) -> Outcome {
        match self {
            End::Confirmed(slot) => Outcome::Updated { slot, sent, confirmed: true, deadline: None },
            End::Unconfirmed { slot, deadline } => {
                Outcome::Updated { slot, sent, confirmed: false, deadline: Some(deadline) }
            }
            End::Reverted { slot, reason } => Outcome::Reverted { slot, reason },
        }
    }
}

/// Arms what was uploaded, restarts the device, and stays with it until it is settled what it runs.
pub fn run(
    client: &Client,
    before: &Preflight,
    bundle: &Bundle,
    options: Options,
    shell: Shell,
) -> Result<End, Failure> {
    let session: krazy_boot::api::update::UpdateStatus =
        client.get(&format!("{API}/update")).map_err(DeviceError::into_failure)?;
    let id = session.session.map(|session| session.id).unwrap_or_default();
    let arm = format!("{API}/update/{id}/arm");
    client.order(Method::POST, &arm, None).map_err(|error| not_armed(error, client.device()))?;
    power::order(client, Power::Reboot).map_err(DeviceError::into_failure)?;
    shell.status("Restarting", client.device());
    let begin = Instant::now();
    let status = wait_for_restart(client, before.started, begin, options.limit)?;
    settle(client, status, bundle, options, begin)
}

/// A device looks at the new slot before it arms it.
fn not_armed(error: DeviceError, device: &str) -> Failure {
    match error.refusal() {
        Some(Refusal::SlotIncomplete) => Failure::new(Exit::Device, error.to_string()).help(
            "nothing was armed, and the device runs what it ran; the build itself is damaged: make it again",
        ),
        _ => explain(error, device),
    }
}

/// Waits until the device answers after a restart, and returns what it says then.
pub fn wait_for_restart(
    client: &Client,
    started: Option<Instant>,
    begin: Instant,
    limit: Duration,
) -> Result<Status, Failure> {
    let mut last = String::from("it still runs");
    while begin.elapsed() < limit {
        interrupt::check()?;
        thread::sleep(LOOK);
        match client.get::<Status>(&format!("{API}/status")) {
            Ok(status) if restarted(started, status.uptime) => return Ok(status),
            Ok(_) => {}
            Err(error) if error.is_transient() => last = error.to_string(),
            Err(error) => return Err(error.into_failure()),
        }
    }
    let seconds = limit.as_secs();
    let text = format!("`{}` did not come back within {seconds} s: {last}", client.device());
    Err(Failure::new(Exit::Device, text)
        .help("it boots the old build when it is switched off and on. Look again with `cargo krazy status`"))
}

/// Whether a device that has been up for `uptime` seconds began later than `started`. A few seconds are for rounding
/// and slow answers; no machine restarts within them.
fn restarted(started: Option<Instant>, uptime: u64) -> bool {
    let now = Instant::now().checked_sub(Duration::from_secs(uptime));
    match (started, now) {
        (Some(started), Some(now)) => now > started + Duration::from_secs(3),
        // It began before this machine did.
        (None, now) => now.is_some(),
        (Some(_), None) => false,
    }
}

/// Stays with a device that has restarted until it runs the new build for good or the old one again.
fn settle(
    client: &Client,
    mut status: Status,
    bundle: &Bundle,
    options: Options,
    begin: Instant,
) -> Result<End, Failure> {
    let mut unstable = String::new();
    loop {
        let slot = status.slot.unwrap_or(Slot::A);
        if status.build_id != bundle.manifest.build_id {
            let told = status.failed_trial.map(|trial| trial.reason);
            let reason = told.filter(|reason| !reason.is_empty()).unwrap_or_else(|| match &unstable[..] {
                "" => "the new build did not answer".to_owned(),
                unstable => unstable.to_owned(),
            });
            return Ok(End::Reverted { slot, reason });
        }
        let Some(trial) = &status.trial else { return Ok(End::Confirmed(slot)) };
        if !options.confirm {
            return Ok(End::Unconfirmed { slot, deadline: trial.deadline });
        }
        match client.order(Method::POST, &format!("{API}/slots/confirm"), None) {
            Ok(()) => return Ok(End::Confirmed(slot)),
            // It is not stable yet, or it is restarting.
            Err(error)
                if matches!(error.kind(), Some(ProblemKind::NotStable | ProblemKind::InitUnreachable)) =>
            {
                unstable = error.problem().map(|problem| problem.detail.clone()).unwrap_or_default();
            }
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into_failure()),
        }
        if begin.elapsed() > options.limit {
            let text = format!("`{}` runs the new build but is not stable: {unstable}", client.device());
            return Err(Failure::new(Exit::Device, text).help(services(client)));
        }
        interrupt::check()?;
        thread::sleep(LOOK);
        status = loop {
            match client.get(&format!("{API}/status")) {
                Ok(status) => break status,
                Err(error) if error.is_transient() && begin.elapsed() < options.limit => {
                    interrupt::check()?;
                    thread::sleep(LOOK);
                }
                Err(error) => return Err(error.into_failure()),
            }
        };
    }
}

/// The services that are not well, for a help line.
fn services(client: &Client) -> String {
    #[derive(serde::Deserialize)]
    struct Services {
        services: Vec<Service>,
    }
    let asked = client.get::<Services>(&format!("{API}/services"));
    let services = asked.map_or(Vec::new(), |answer| answer.services);
    let unwell = services.iter().filter(|service| service.required && !service.stable);
    let unwell: Vec<_> = unwell.map(|service| format!("{}: {}", service.name, service.condition())).collect();
    match unwell.is_empty() {
        true => format!("see `cargo krazy ps {}`", client.device()),
        false => unwell.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_told_from_a_device_that_still_runs() {
        let now = Instant::now();
        let minute = now.checked_sub(Duration::from_secs(60));
        assert!(!restarted(minute, 60));
        assert!(!restarted(minute, 58));
        assert!(restarted(minute, 20));
        assert!(restarted(None, 0));
        assert!(!restarted(minute, u64::MAX / 2));
    }
}
