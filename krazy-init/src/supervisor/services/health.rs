//! Commands that tell that services are healthy. Each runs with the rights of its service and in its cgroup, for a bounded
//! time, and never twice at once.

use std::time::Duration;

use krazy_boot::error_chain::system_text;
use krazy_boot::manifest::checks::HealthCommand;
use rustix::process::Pid;

use super::super::effect::Effects;
use super::super::state::Event;
use super::{Audience, Services};
use crate::control::{ExitReason, ServiceState};
use crate::linux::launched::Launched;
use crate::linux::process;

/// All checks, by service.
#[derive(Debug, Default)]
pub(super) struct HealthChecks(Vec<HealthCheck>);

/// The checks of one service.
#[derive(Debug)]
struct HealthCheck {
    id: usize,
    command: HealthCommand,
    /// The main process that is checked; another one begins anew.
    service: Option<Pid>,
    /// The number of failures in a row.
    failures: u32,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Runs next at this time.
    Waiting(Duration),
    /// Runs until it exits or this time comes.
    Running(Launched, Duration),
    /// Was killed because it took too long.
    Killed(Pid),
}

impl HealthChecks {
    /// Adds the checks of a service, if it has any.
    pub(super) fn add(&mut self, id: usize, command: Option<&HealthCommand>) {
        let check = |command: &HealthCommand| HealthCheck {
            id,
            command: command.clone(),
            service: None,
            failures: 0,
            step: Step::Waiting(Duration::ZERO),
        };
        self.0.extend(command.map(check));
    }

    /// The time of the next step that time alone brings.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let of = |check: &HealthCheck| match &check.step {
            Step::Waiting(time) if check.service.is_some() => Some(*time),
            Step::Running(_, time) => Some(*time),
            Step::Waiting(_) | Step::Killed(_) => None,
        };
        self.0.iter().filter_map(of).min()
    }
}

impl Services {
    /// Starts the checks that are due, and kills those that take too long.
    pub(super) fn check_health(&mut self, now: Duration, audience: &mut Audience<'_>, effects: &mut Effects) {
        let mut failed = Vec::new();
        let Services { health, units, state, support, .. } = self;
        for check in &mut health.0 {
            let Some(unit) = units.get(check.id) else { continue };
            let is_running =
                state.view(check.id, now).is_some_and(|view| view.state == ServiceState::Running);
            let is_ready = is_running && !state.unready().any(|id| id == check.id);
            let service = unit.pid().filter(|_| is_ready);
            if service != check.service {
                check.service = service;
                check.failures = 0;
                if let Step::Waiting(time) = &mut check.step {
                    *time = now;
                }
            }
            match &check.step {
                Step::Waiting(time) if service.is_some() && now >= *time => {
                    match unit.check_health(&check.command, *support) {
                        Ok(launched) => {
                            check.step = Step::Running(launched, now + seconds(check.command.timeout));
                        }
                        Err(error) => {
                            failed.push((check.id, format!("cannot be started: {}", system_text(&error))))
                        }
                    }
                }
                Step::Running(launched, end) if now >= *end || service.is_none() => {
                    let pid = launched.pid();
                    check.step = Step::Killed(pid);
                    if let Err(error) = process::signal_group(pid, libc::SIGKILL) {
                        effects.log(format!("the check of {} cannot be killed: {error}", unit.spec().name));
                    }
                }
                _ => {}
            }
        }
        for (id, why) in failed {
            self.take_check(id, Some(why), now, audience, effects);
        }
    }

    /// Takes the exit of a process if it is that of a check. Returns true if it is.
    pub(super) fn health_checked(
        &mut self,
        pid: Pid,
        reason: &ExitReason,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) -> bool {
        let is_it = |step: &Step| match step {
            Step::Running(launched, _) => launched.pid() == pid,
            Step::Killed(own) => *own == pid,
            Step::Waiting(_) => false,
        };
        let Some(check) = self.health.0.iter_mut().find(|check| is_it(&check.step)) else { return false };
        let id = check.id;
        let not_executed = match &mut check.step {
            Step::Running(launched, _) => launched.outcome().and_then(Result::err),
            Step::Waiting(_) | Step::Killed(_) => None,
        };
        let why = match (not_executed, &check.step) {
            (Some(error), _) => Some(format!("cannot be executed: {}", system_text(&error))),
            (None, Step::Killed(_)) => Some(format!("took longer than {} s", check.command.timeout)),
            (None, _) if reason.is_success() => None,
            (None, _) => Some(reason.to_string()),
        };
        self.take_check(id, why, crate::linux::kernel_clock::since_boot(), audience, effects);
        true
    }

    /// Takes the outcome of a check: `None`, or the way in which it failed.
    fn take_check(
        &mut self,
        id: usize,
        why: Option<String>,
        now: Duration,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) {
        let Some(check) = self.health.0.iter_mut().find(|check| check.id == id) else { return };
        check.step = Step::Waiting(now + seconds(check.command.every));
        // The service is not the one any more for which it ran.
        if check.service.is_none() || self.units.get(id).and_then(super::Unit::pid) != check.service {
            return;
        }
        let Some(why) = why else {
            check.failures = 0;
            return self.handle(Event::Healthy(id), audience, effects);
        };
        check.failures = check.failures.saturating_add(1);
        let text = format!("`{}` {why}", check.command.command.join(" "));
        let event = if check.failures >= check.command.failures {
            let times =
                if check.failures == 1 { String::new() } else { format!(", {} times", check.failures) };
            Event::Broken(id, ExitReason::Unhealthy(format!("{text}{times}")))
        } else {
            Event::Unhealthy(id, text)
        };
        self.handle(event, audience, effects);
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
