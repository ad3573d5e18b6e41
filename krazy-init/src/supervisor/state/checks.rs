//! Readiness, health and keep-alive messages of running services.

use std::time::Duration;

use super::{Action, Health, Service, State, Supervisor, Then};
use crate::control::ExitReason;

impl Supervisor {
    pub(super) fn ready(&mut self, id: usize, now: Duration) {
        if let Some(service) = self.services.get_mut(id)
            && let State::Running { ready, health, .. } = &mut service.state
            && !std::mem::replace(ready, true)
        {
            health.alive_at = now;
            if health.problem.is_none() {
                health.good_since = Some(now);
            }
        }
    }

    pub(super) fn alive(&mut self, id: usize, now: Duration) {
        if let Some(State::Running { health, .. }) = self.services.get_mut(id).map(|it| &mut it.state) {
            health.alive_at = now;
        }
    }

    pub(super) fn healthy(&mut self, id: usize, now: Duration) {
        if let Some(State::Running { ready, health, .. }) = self.services.get_mut(id).map(|it| &mut it.state)
        {
            health.problem = None;
            if *ready {
                health.good_since.get_or_insert(now);
            }
        }
    }

    pub(super) fn unhealthy(&mut self, id: usize, why: String) {
        if let Some(State::Running { health, .. }) = self.services.get_mut(id).map(|it| &mut it.state) {
            health.problem = Some(why);
            health.good_since = None;
        }
    }

    /// Ends a service that runs and does not work.
    pub(super) fn broken(&mut self, id: usize, now: Duration, reason: ExitReason, actions: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id) else { return };
        if !matches!(service.state, State::Running { .. }) {
            return;
        }
        actions.push(Action::Log(id, format!("is ended: {reason}")));
        // A core of the moment tells where it hangs; a service that fails its checks can still end in order.
        actions.push(match reason {
            ExitReason::Watchdog(_) => Action::Abort(id),
            _ => Action::Terminate(id),
        });
        let kill_at = now + service.rules.stop_timeout;
        service.state = State::Stopping { kill_at, killed: false, then: Then::Fail(reason) };
    }

    /// Ends a service that has sent no keep-alive message for too long.
    pub(super) fn check_watchdog(&mut self, id: usize, now: Duration, actions: &mut Vec<Action>) {
        let Some(service) = self.services.get(id) else { return };
        let Some(limit) = service.rules.watchdog else { return };
        if let State::Running { ready: true, health, .. } = &service.state
            && now >= health.alive_at + limit
        {
            let seconds = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
            self.broken(id, now, ExitReason::Watchdog(seconds), actions);
        }
    }
}

impl Service {
    /// The state of a process that has just been started.
    pub(super) fn running(&self, now: Duration) -> State {
        let ready = !self.rules.announces_ready;
        let problem = self.rules.is_checked.then(String::new);
        let good_since = (ready && problem.is_none()).then_some(now);
        State::Running { since: now, ready, health: Health { problem, good_since, alive_at: now } }
    }

    /// The time at which time alone changes something about this running service.
    pub(super) fn check_deadline(&self, health: &Health) -> Option<Duration> {
        // The failures are forgotten then, and the report of a crash loop with them.
        let stable =
            health.good_since.filter(|_| self.failures > 0).map(|since| since + self.rules.stable_after);
        let is_ready = matches!(self.state, State::Running { ready: true, .. });
        let silent = self.rules.watchdog.filter(|_| is_ready).map(|limit| health.alive_at + limit);
        stable.into_iter().chain(silent).min()
    }
}
