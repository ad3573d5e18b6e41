//! Stability of the machine, by which a trial is decided.

use std::time::Duration;

use super::{Health, Service, State, Supervisor};
use crate::control::ExitReason;
use crate::supervisor::backoff;

impl Supervisor {
    /// Returns true if every required service is stable.
    pub(in super::super) fn is_stable(&self, now: Duration) -> bool {
        self.begun && self.unstable(now).next().is_none()
    }

    /// The reasons why the machine is not stable, one phrase for each required service.
    pub(in super::super) fn blockers(&self, now: Duration) -> Vec<String> {
        self.unstable(now).map(|service| self.blocker(service)).collect()
    }

    /// The required service because of which waiting does not help, and the reason: it has kept exiting until its pauses
    /// were long.
    pub(in super::super) fn failed_service(&self) -> Option<(usize, String)> {
        let has_failed =
            |service: &Service| service.rules.required && service.failures >= backoff::FINAL_FAILURES;
        let id = self.services.iter().position(has_failed)?;
        Some((id, self.blocker(&self.services[id])))
    }

    fn unstable(&self, now: Duration) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(move |service| service.rules.required && !service.is_stable(now))
    }

    fn blocker(&self, service: &Service) -> String {
        let name = &service.rules.name;
        let last = service.last_exit.as_ref().map_or_else(String::new, |exit| format!(": {exit}"));
        match &service.state {
            _ if service.failures >= backoff::CRASH_LOOP_FAILURES => {
                format!("service {name} keeps exiting{last}")
            }
            State::Waiting { .. } => {
                let missing: Vec<String> =
                    self.missing(service).into_iter().map(|after| self.name(after)).collect();
                format!("service {name} waits for {}", missing.join(", "))
            }
            State::Running { ready: false, .. } => format!("service {name} is not ready (`ready`){last}"),
            State::Running { health: Health { problem: Some(why), .. }, .. } if why.is_empty() => {
                format!("service {name} has not been checked yet (`health`){last}")
            }
            State::Running { health: Health { problem: Some(why), .. }, .. } => {
                format!("service {name} is not healthy (`health`): {why}")
            }
            State::Running { .. } => {
                let seconds = service.rules.stable_after.as_secs();
                format!("service {name} has not run for {seconds} s{last}")
            }
            State::Stopping { .. } | State::Stopped => format!("service {name} was stopped"),
            State::Starting { .. } | State::Backoff { .. } | State::Exited => {
                format!("service {name} exited{last}")
            }
        }
    }
}

impl Service {
    pub(super) fn is_stable(&self, now: Duration) -> bool {
        match &self.state {
            State::Running { health, .. } => {
                health.good_since.is_some_and(|since| now >= since + self.rules.stable_after)
            }
            State::Exited => self.last_exit.as_ref().is_some_and(ExitReason::is_success),
            _ => false,
        }
    }
}
