//! The state machine that decides which service runs when. It has no side effects: [`Supervisor::handle`] takes an
//! [`Event`] and appends [`Action`]s; its owner carries them out and reports back with further events.
//!
//! Time is monotonic, counted from the kernel's start. [`Supervisor::deadline`] is the time of the next [`Event::Tick`].

mod checks;
mod dependencies;
mod stability;

use std::time::Duration;

use krazy_boot::manifest::{Restart, Start};

use super::backoff;
pub(super) use super::event::{Action, After, Event, Milestone, Rules, View};
use crate::control::{ExitReason, ServiceState};
use crate::linux::power::End;

/// The time that a service waits for the entries of its `after` before it is started without them: a dependency that
/// never comes must not keep a machine from its other work.
pub(super) const DEPENDENCY_TIMEOUT: Duration = Duration::from_secs(60);

/// The time that the machine waits for a process that even SIGKILL does not end, because it hangs in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that the machine's end waits for the outcome of a start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// State of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting {
        since: Duration,
    },
    /// Spawn was ordered. A request to stop that comes now is kept until the outcome is known.
    Starting {
        then: Option<Then>,
    },
    Running {
        since: Duration,
        ready: bool,
        health: Health,
    },
    Backoff {
        until: Duration,
    },
    Stopping {
        kill_at: Duration,
        killed: bool,
        then: Then,
    },
    Stopped,
    Exited,
}

/// Continuation after a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    StayStopped,
    StartAgain,
    /// It did not work any more, for this reason: what follows is that of an exit with it.
    Fail(ExitReason),
}

/// The condition of a running service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Health {
    /// The reason of the last failed check, until one succeeds; empty before the first one.
    problem: Option<String>,
    /// The time since which it is both ready and healthy.
    good_since: Option<Duration>,
    /// The time of its last keep-alive message, or at which it became ready.
    alive_at: Duration,
}

#[derive(Clone, Debug)]
struct Service {
    rules: Rules,
    state: State,
    failures: u32,
    restarts: u32,
    last_exit: Option<ExitReason>,
}

/// All services of the machine.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    services: Vec<Service>,
    reached: Vec<Milestone>,
    begun: bool,
    up: bool,
    ending: Option<End>,
    ending_since: Duration,
    ended: bool,
}

impl Supervisor {
    /// Services in the order of their indices; nothing runs before [`Event::Begin`].
    pub(super) fn new(rules: Vec<Rules>) -> Self {
        let service = |rules| Service {
            rules,
            state: State::Waiting { since: Duration::ZERO },
            failures: 0,
            restarts: 0,
            last_exit: None,
        };
        Supervisor {
            services: rules.into_iter().map(service).collect(),
            reached: Vec::new(),
            begun: false,
            up: false,
            ending: None,
            ending_since: Duration::ZERO,
            ended: false,
        }
    }

    /// Handles `event` at time `now`. Indices that do not exist, and reports that do not fit a service's
    /// state, change nothing.
    pub(super) fn handle(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Begin => {
                self.begun = true;
                for service in &mut self.services {
                    service.state = match service.rules.start {
                        Start::Automatic => State::Waiting { since: now },
                        Start::Manual => State::Stopped,
                    };
                }
            }
            // Only now: before a tick, all keep-alive messages that had come were read, however late the loop is.
            Event::Tick => {
                for id in 0..self.services.len() {
                    self.check_watchdog(id, now, actions);
                }
            }
            Event::Reached(milestone) => {
                if !self.reached.contains(&milestone) {
                    self.reached.push(milestone);
                }
            }
            Event::Started(id) => self.started(id, now, actions),
            Event::StartFailed(id, why) => {
                if matches!(self.state(id), Some(State::Starting { .. })) {
                    self.exited(id, now, ExitReason::NotStarted(why), actions);
                }
            }
            Event::Ready(id) => self.ready(id, now),
            Event::Alive(id) => self.alive(id, now),
            Event::Healthy(id) => self.healthy(id, now),
            Event::Unhealthy(id, why) => self.unhealthy(id, why),
            Event::Broken(id, reason) => self.broken(id, now, reason, actions),
            Event::Exited(id, reason) => {
                // A process that could not be killed may exit much later. Its service was given up and stays stopped.
                let alive = [ServiceState::Running, ServiceState::Stopping];
                if self.view(id, now).is_some_and(|view| alive.contains(&view.state)) {
                    actions.push(Action::Sweep(id));
                    self.exited(id, now, reason, actions);
                }
            }
            Event::Start(id) => self.start(id, actions),
            Event::Stop(id) => self.stop(id, now, Then::StayStopped, actions),
            Event::Restart(id) => self.stop(id, now, Then::StartAgain, actions),
            Event::Shutdown(end) => {
                // A second request changes the way to end, not the time from which the timeouts count.
                if self.ending.replace(end).is_none() {
                    self.ending_since = now;
                }
                for id in 0..self.services.len() {
                    self.stop(id, now, Then::StayStopped, actions);
                }
            }
        }
        self.advance(now, actions);
    }

    /// The time of the next [`Event::Tick`], if one is needed.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let of = |service: &Service| match &service.state {
            State::Waiting { since } if self.begun => Some(*since + DEPENDENCY_TIMEOUT),
            // The failures are forgotten then, and the report of a crash loop with them.
            State::Running { health, .. } => service.check_deadline(health),
            State::Backoff { until } => Some(*until),
            State::Stopping { kill_at, killed: false, .. } => Some(*kill_at),
            State::Stopping { kill_at, killed: true, .. } if self.ending.is_some() => {
                Some(*kill_at + KILL_TIMEOUT)
            }
            State::Starting { .. } if self.ending.is_some() => Some(self.ending_since + START_TIMEOUT),
            _ => None,
        };
        self.services.iter().filter_map(of).min()
    }

    /// The services that run and have not announced that they are ready.
    pub(super) fn unready(&self) -> impl Iterator<Item = usize> {
        let is_unready = |service: &Service| matches!(service.state, State::Running { ready: false, .. });
        self.services.iter().enumerate().filter(move |(_, service)| is_unready(service)).map(|(id, _)| id)
    }

    /// Returns true if the machine is shutting down.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Returns true if `milestone` was reached.
    pub(super) fn has_reached(&self, milestone: Milestone) -> bool {
        self.reached.contains(&milestone)
    }

    /// Returns true if service `id` starts with the machine.
    pub(super) fn starts_by_itself(&self, id: usize) -> bool {
        self.services.get(id).is_some_and(|service| service.rules.start == Start::Automatic)
    }

    /// The state of service `id`; `None` if there is no such service.
    pub(super) fn view(&self, id: usize, now: Duration) -> Option<View> {
        let service = self.services.get(id)?;
        let (state, running_since, next_start) = match &service.state {
            State::Waiting { .. } => (ServiceState::Waiting, None, None),
            State::Starting { .. } => (ServiceState::Backoff, None, Some(now)),
            State::Running { since, .. } => (ServiceState::Running, Some(*since), None),
            State::Backoff { until } => (ServiceState::Backoff, None, Some(*until)),
            State::Stopping { .. } => (ServiceState::Stopping, None, None),
            State::Stopped => (ServiceState::Stopped, None, None),
            State::Exited => (ServiceState::Exited, None, None),
        };
        let waiting = matches!(service.state, State::Waiting { .. });
        Some(View {
            state,
            running_since,
            restarts: service.restarts,
            last_exit: service.last_exit.clone(),
            next_start,
            stable: service.is_stable(now),
            crash_loop: service.failures >= backoff::CRASH_LOOP_FAILURES,
            required: service.rules.required,
            waiting_for: if waiting { self.missing(service) } else { Vec::new() },
        })
    }

    fn state(&self, id: usize) -> Option<&State> {
        self.services.get(id).map(|service| &service.state)
    }

    fn started(&mut self, id: usize, now: Duration, actions: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id) else { return };
        let State::Starting { then } = &service.state else { return };
        let then = then.clone();
        service.state = service.running(now);
        if let Some(then) = then {
            self.stop(id, now, then, actions);
        }
    }

    /// Decides what follows when a service exited or could not be started.
    fn exited(&mut self, id: usize, now: Duration, reason: ExitReason, actions: &mut Vec<Action>) {
        let ending = self.ending.is_some();
        let Some(service) = self.services.get_mut(id) else { return };
        let asked_for = match &service.state {
            State::Stopping { then, .. } => Some(then.clone()),
            State::Starting { then } => then.clone(),
            _ => None,
        };
        let (asked_for, reason) = match asked_for {
            // The signal that ended it says less.
            Some(Then::Fail(cause)) => (None, cause),
            asked_for => (asked_for, reason),
        };
        let success = reason.is_success();
        let was_stable = matches!(service.state, State::Running { .. }) && service.is_stable(now);
        service.last_exit = Some(reason.clone());
        service.state = match (asked_for, service.rules.restart) {
            // Without a pause: the service did not fail, its restart was requested.
            (Some(Then::StartAgain), _) if !ending => {
                actions.push(Action::Spawn(id));
                State::Starting { then: None }
            }
            (Some(_), _) => State::Stopped,
            (None, _) if ending => State::Stopped,
            (None, Restart::Never) => State::Exited,
            (None, Restart::OnFailure) if success => State::Exited,
            (None, Restart::Always | Restart::OnFailure) => {
                service.failures = if was_stable { 1 } else { service.failures.saturating_add(1) };
                let pause = backoff::pause(service.failures);
                service.restarts = service.restarts.saturating_add(1);
                let text = match service.failures {
                    backoff::CRASH_LOOP_FAILURES => Some(format!(
                        "keeps exiting ({reason}), now tried every {} s at the slowest",
                        backoff::LONGEST_PAUSE.as_secs()
                    )),
                    // A crash loop is reported once, not every 30 s for years.
                    n if n > backoff::CRASH_LOOP_FAILURES => None,
                    _ => Some(format!("exited ({reason}), starting again in {} ms", pause.as_millis())),
                };
                actions.extend(text.map(|text| Action::Log(id, text)));
                State::Backoff { until: now + pause }
            }
        };
        if service.state == State::Exited && !success {
            actions.push(Action::Log(id, format!("exited ({reason}); not restarting")));
        }
    }

    fn start(&mut self, id: usize, actions: &mut Vec<Action>) {
        if self.ending.is_some() || !self.begun {
            return;
        }
        let Some(service) = self.services.get_mut(id) else { return };
        match &mut service.state {
            State::Waiting { .. } | State::Backoff { .. } | State::Stopped | State::Exited => {
                // A request to start means now, regardless of the back-off.
                service.failures = 0;
                service.spawn(id, actions);
            }
            State::Stopping { then, .. } | State::Starting { then: Some(then) } => *then = Then::StartAgain,
            State::Starting { then: None } | State::Running { .. } => {}
        }
    }

    fn stop(&mut self, id: usize, now: Duration, then: Then, actions: &mut Vec<Action>) {
        let then = if self.ending.is_some() { Then::StayStopped } else { then };
        let Some(service) = self.services.get_mut(id) else { return };
        match &mut service.state {
            State::Running { .. } => {
                actions.push(Action::Terminate(id));
                let kill_at = now + service.rules.stop_timeout;
                service.state = State::Stopping { kill_at, killed: false, then };
                service.failures = 0;
            }
            // Who stops it wants no other start; who restarts it gets one anyway, after the pause of a failure.
            State::Stopping { then: Then::Fail(_), .. } if then == Then::StartAgain => {}
            State::Stopping { then: planned, .. } => *planned = then,
            State::Starting { then: planned } => *planned = Some(then),
            State::Waiting { .. } | State::Backoff { .. } | State::Stopped | State::Exited => match then {
                Then::StartAgain => self.start(id, actions),
                Then::StayStopped | Then::Fail(_) => service.state = State::Stopped,
            },
        }
    }

    /// Takes the steps that time and the progress of other services allow.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        // Before `Begin` nothing starts, but a requested shutdown continues.
        if !self.begun && self.ending.is_none() {
            return;
        }
        for id in 0..self.services.len() {
            self.advance_one(id, now, actions);
        }
        let waits =
            |service: &Service| matches!(service.state, State::Waiting { .. } | State::Starting { .. });
        // Once: a service that fails later does not make the machine come up again.
        if !self.up && self.ending.is_none() && !self.services.iter().any(waits) {
            self.up = true;
            actions.push(Action::Up);
        }
        let down = |service: &Service| matches!(service.state, State::Stopped | State::Exited);
        if let Some(end) = self.ending
            && !self.ended
            && self.services.iter().all(down)
        {
            self.ended = true;
            actions.push(Action::End(end));
        }
    }

    fn advance_one(&mut self, id: usize, now: Duration, actions: &mut Vec<Action>) {
        let service = &self.services[id];
        match &service.state {
            State::Waiting { since } => {
                let missing = self.missing(service);
                if missing.is_empty() || now >= *since + DEPENDENCY_TIMEOUT {
                    if !missing.is_empty() {
                        let names: Vec<String> = missing.iter().map(|after| self.name(*after)).collect();
                        let text = format!(
                            "started without {}, which did not come within {} s",
                            names.join(", "),
                            DEPENDENCY_TIMEOUT.as_secs()
                        );
                        actions.push(Action::Log(id, text));
                    }
                    self.services[id].spawn(id, actions);
                }
            }
            State::Running { .. } if service.is_stable(now) => self.services[id].failures = 0,
            State::Backoff { until } if now >= *until => self.services[id].spawn(id, actions),
            State::Stopping { kill_at, killed: false, then } if now >= *kill_at => {
                let then = then.clone();
                actions.push(Action::Log(id, "did not exit in time and is killed".to_owned()));
                actions.push(Action::Kill(id));
                self.services[id].state = State::Stopping { kill_at: now, killed: true, then };
            }
            // Only at the end: a service that is merely to be restarted must not run twice.
            State::Stopping { kill_at, killed: true, .. }
                if self.ending.is_some() && now >= *kill_at + KILL_TIMEOUT =>
            {
                actions.push(Action::Log(id, "cannot be killed, going on without".to_owned()));
                self.services[id].state = State::Stopped;
            }
            State::Starting { .. } if self.ending.is_some() && now >= self.ending_since + START_TIMEOUT => {
                actions.push(Action::Log(id, "is still being started, going on without".to_owned()));
                self.services[id].state = State::Stopped;
            }
            _ => {}
        }
    }
}

impl Service {
    fn spawn(&mut self, id: usize, actions: &mut Vec<Action>) {
        self.state = State::Starting { then: None };
        actions.push(Action::Spawn(id));
    }
}

#[cfg(test)]
mod tests;
