//! The services as a part of the loop: their processes, what those write, and when they are ready.
//!
//! Decisions are those of the state machine ([`state`](super::state)). This part carries out its actions and reports
//! the outcome to it, until no action is left.
//!
//! | module | is |
//! |---|---|
//! | `unit` | one service's process, cgroup, pipes and log files |
//! | `launches` | processes that have not executed their program yet |
//! | `readiness_checks` | services that are ready when a port is open or a page is answered |
//! | `health` | commands that tell that services are healthy |
//! | `homes` | the directories of services, prepared by threads |
//! | `kept` | output that is kept on `/data`, written by the thread that waits for the disk |
//! | `denials` | system calls that services were denied |
//! | `output` | the destinations of a line that a service wrote |
//! | `ports` | the ports that services may bind |
//! | `requests` | answers to requests about services |
//! | `sockets` | the sockets of readiness and of the system's log |

mod denials;
mod health;
mod homes;
mod kept;
mod launches;
mod output;
mod ports;
mod readiness_checks;
mod requests;
mod sockets;
mod unit;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use krazy_boot::api::logs;
use krazy_boot::error_chain::system_text;
use krazy_boot::manifest::sandbox::Sandbox;
use rustix::process::Pid;

use super::effect::{Effect, Effects};
use super::inbox::Reporter;
use super::plan::Spec;
use super::poller::{Poller, Registrar, Source};
use super::state::{Action, Event, Rules, Supervisor};
use crate::control::{ExitReason, LogStream};
use crate::linux::confinement::{self, Support};
use crate::linux::data::{DataMount, Home};
use crate::linux::kernel_clock;
use crate::output::link_views;
use denials::Denials;
use health::HealthChecks;
pub(super) use output::Audience;
use ports::Ports;
use readiness_checks::Pages;
use sockets::Sockets;
use unit::Unit;

/// The bytes that one read of a pipe takes.
const READ_SIZE: usize = 16 << 10;

/// Services that are started at the same time. With hundreds of them on a slow machine, requests over the control socket
/// and the hardware watchdog would otherwise wait for the last one, and each would take so long to set its sandbox up that it
/// is given up.
const MAX_LAUNCHES: usize = 8;

/// All services of the machine.
#[derive(Debug)]
pub(super) struct Services {
    /// Name, version and slot of the appliance, for the message that it is up.
    title: String,
    state: Supervisor,
    /// By the index that the state machine uses. Shorter than its list if one could not be prepared.
    units: Vec<Unit>,
    /// Main processes that were not reaped yet.
    pids: HashMap<Pid, usize>,
    sockets: Sockets,
    denials: Denials,
    /// The mechanisms that the kernel has for their sandboxes.
    support: Support,
    reporter: Reporter,
    next_port_check: Option<Duration>,
    pages: Pages,
    health: HealthChecks,
    has_reported_cgroups: bool,
    /// Set by [`Services::prepare`].
    registrar: Option<Registrar>,
    ports: Ports,
    /// Services to be spawned when earlier ones have executed their programs, in order.
    spawn_queue: VecDeque<usize>,
    /// The number of services that may be spawned before the next turn of the loop.
    spawn_budget: usize,
    /// Shared with the task that writes kept output, while there is one.
    kept_writer: Arc<()>,
}

impl Services {
    /// Services with these rules; nothing is prepared yet.
    pub(super) fn new(title: String, rules: Vec<Rules>, reporter: Reporter) -> Self {
        Services {
            title,
            state: Supervisor::new(rules),
            units: Vec::new(),
            pids: HashMap::new(),
            sockets: Sockets::default(),
            denials: Denials::default(),
            support: Support::NONE,
            reporter,
            next_port_check: None,
            pages: Pages::default(),
            health: HealthChecks::default(),
            has_reported_cgroups: false,
            registrar: None,
            ports: Ports::default(),
            spawn_queue: VecDeque::new(),
            spawn_budget: MAX_LAUNCHES,
            kept_writer: Arc::default(),
        }
    }

    /// Prepares what must exist before any service runs.
    pub(super) fn prepare(
        &mut self,
        specs: Vec<Spec>,
        data: &DataMount,
        now: Duration,
        poller: &Poller,
        effects: &mut Effects,
    ) {
        self.registrar = Some(poller.registrar());
        let limit = unit::log_limit(specs.len());
        self.ports = Ports::new(specs.len(), effects);
        self.support = Support::of_this_kernel();
        if specs.iter().any(|spec| spec.sandbox != Sandbox::NONE) {
            self.support.problems().into_iter().for_each(|text| effects.degrade(text));
            if let Err(error) = confinement::prepare() {
                effects.degrade(format!("files of /proc cannot be hidden from services: {error}"));
            }
        }
        for (id, spec) in specs.into_iter().enumerate() {
            self.health.add(id, spec.checks.health.as_ref());
            let name = spec.name.clone();
            match Unit::prepare(spec, Path::new(logs::DIRECTORY), limit, now) {
                Ok(mut unit) => {
                    // Now, when no service runs that could have taken the names.
                    if let Err(error) = link_views(&name, Path::new(logs::DIRECTORY), Path::new("/tmp")) {
                        effects.degrade(format!("the logs of service {name} have no names in /tmp: {error}"));
                    }
                    if unit.spec().persistent_log
                        && let Err(error) = kept::keep_output(&mut unit, data)
                    {
                        effects.degrade(format!("service {name}: its output is not kept: {error}"));
                    }
                    for stream in [LogStream::Out, LogStream::Err] {
                        let source = Source::Output(id as u32, stream);
                        if let Err(error) = poller.add(unit.descriptor(stream), source) {
                            effects.degrade(format!("service {name}: its output is not read: {error}"));
                        }
                    }
                    self.units.push(unit);
                }
                Err(error) => {
                    // Those after it would have indices that are not the state machine's.
                    effects.degrade(format!("service {name} cannot be prepared: {error}"));
                    break;
                }
            }
        }
    }

    /// The state machine, for queries.
    pub(super) fn state(&self) -> &Supervisor {
        &self.state
    }

    /// The time of the next [`Services::tick`].
    pub(super) fn deadline(&self) -> Option<Duration> {
        // Otherwise the end of a launch wakes the loop.
        let may_spawn = self.launching() < MAX_LAUNCHES || self.state.is_ending();
        if !self.spawn_queue.is_empty() && may_spawn {
            return Some(Duration::ZERO);
        }
        let launches = self.units.iter().filter_map(Unit::launch_deadline);
        self.state
            .deadline()
            .into_iter()
            .chain(self.next_port_check)
            .chain(launches)
            .chain(self.health.deadline())
            .min()
    }

    /// Sends [`Event::Tick`] to the state machine if that is due, and checks for ports.
    pub(super) fn tick(&mut self, now: Duration, audience: &mut Audience<'_>, effects: &mut Effects) {
        self.spawn_queued(audience, effects);
        self.give_up_launches(now, audience, effects);
        if self.state.deadline().is_some_and(|deadline| now >= deadline) {
            // A keep-alive message that came in time must not be too late because the loop was.
            self.read_notifications(audience, effects);
            self.handle(Event::Tick, audience, effects);
        }
        // Without a time set, a service may have started since the last check.
        if self.next_port_check.is_none_or(|next| now >= next) {
            self.next_port_check = self.check_ports(now, audience, effects);
        }
        self.report_ports(audience);
        self.check_health(now, audience, effects);
        self.write_kept(effects);
    }

    /// Passes an event to the state machine and carries out its actions, until no event follows.
    pub(super) fn handle(&mut self, event: Event, audience: &mut Audience<'_>, effects: &mut Effects) {
        let mut events = VecDeque::from([event]);
        let mut actions = Vec::new();
        while let Some(event) = events.pop_front() {
            // Read for each event: carrying out an action takes milliseconds.
            self.state.handle(kernel_clock::since_boot(), event, &mut actions);
            for action in actions.drain(..) {
                events.extend(self.carry_out(action, audience, effects));
            }
        }
    }

    fn carry_out(
        &mut self,
        action: Action,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) -> Option<Event> {
        match action {
            Action::Spawn(id) if self.spawn_budget == 0 => self.spawn_queue.push_back(id),
            Action::Spawn(id) => {
                self.spawn_budget -= 1;
                return self.spawn(id, effects);
            }
            Action::Terminate(id) => {
                let unit = self.units.get(id)?;
                log_failure(unit, "cannot be signalled", unit.terminate(), effects);
            }
            Action::Abort(id) => {
                let unit = self.units.get(id)?;
                log_failure(unit, "cannot be signalled", unit.abort(), effects);
            }
            Action::Kill(id) => {
                let unit = self.units.get(id)?;
                log_failure(unit, "cannot be killed", unit.kill(), effects);
            }
            Action::Sweep(id) => self.sweep(id, audience, effects),
            Action::Log(id, text) => {
                effects.log(format!("service {} {text}", self.units.get(id)?.spec().name));
            }
            Action::Up => effects.log(self.up_message(kernel_clock::since_boot())),
            Action::End(end) => effects.push(Effect::End(end)),
        }
        None
    }

    /// The number of processes that have not executed their program yet.
    fn launching(&self) -> usize {
        self.units.iter().filter(|unit| unit.launch_deadline().is_some()).count()
    }

    /// Spawns services that earlier turns of the loop left over. None is spawned once the machine ends.
    fn spawn_queued(&mut self, audience: &mut Audience<'_>, effects: &mut Effects) {
        self.spawn_budget = MAX_LAUNCHES.saturating_sub(self.launching());
        while (self.spawn_budget > 0 || self.state.is_ending())
            && let Some(id) = self.spawn_queue.pop_front()
        {
            let event = if self.state.is_ending() {
                Some(Event::StartFailed(id, "the machine is shutting down".to_owned()))
            } else {
                self.carry_out(Action::Spawn(id), audience, effects)
            };
            if let Some(event) = event {
                self.handle(event, audience, effects);
            }
        }
    }

    fn spawn(&mut self, id: usize, effects: &mut Effects) -> Option<Event> {
        self.make_cgroup(id, effects);
        // Its preparation failed and was reported; the end of the machine must not wait for it.
        let Some(unit) = self.units.get_mut(id) else {
            return Some(Event::StartFailed(id, "it could not be prepared".to_owned()));
        };
        match unit.start(self.support) {
            Ok(Home::Ready) => self.await_launch(id),
            Ok(home) => self.prepare_home(id, home, effects),
            Err(error) => Some(Event::StartFailed(id, system_text(&error))),
        }
    }

    /// The message that the machine works, for people and for tests.
    fn up_message(&self, now: Duration) -> String {
        let is_up = |id: &usize| {
            self.state.view(*id, now).is_some_and(|view| view.running_since.is_some() || view.stable)
        };
        // What is started by hand is not missed.
        let automatic = |id: &usize| self.state.starts_by_itself(*id);
        let total = (0..self.units.len()).filter(automatic).count();
        let failing = total - (0..self.units.len()).filter(automatic).filter(is_up).count();
        let services = if total == 1 { "service" } else { "services" };
        let failing = if failing > 0 { format!(", {failing} not running") } else { String::new() };
        format!("{} is up ({total} {services}{failing})", self.title)
    }

    /// Handles the exit of a process. A process that is not a service's main process is an orphan of a service.
    pub(super) fn exited(
        &mut self,
        pid: Pid,
        reason: ExitReason,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) {
        if self.health_checked(pid, &reason, audience, effects) {
            return;
        }
        if let Some(&id) = self.pids.get(&pid) {
            // The news of its start may wait behind that of its end.
            self.settle_launch(id, audience, effects);
        }
        if let Some(&id) = self.pids.get(&pid) {
            // Its last messages come before what its successor writes. Once it is forgotten, nobody knows whose they are.
            self.read_system_log(audience, effects);
            self.pids.remove(&pid);
            let ran_out = self.units.get_mut(id).is_some_and(Unit::ran_out_of_memory);
            let reason =
                if ran_out && reason == ExitReason::Signal(9) { ExitReason::OutOfMemory } else { reason };
            self.handle(Event::Exited(id, reason), audience, effects);
        }
    }

    /// Reads and kills what a main process that exited left behind.
    fn sweep(&mut self, id: usize, audience: &mut Audience<'_>, effects: &mut Effects) {
        let is_ending = self.state.is_ending();
        let Some(unit) = self.units.get_mut(id) else { return };
        let now = kernel_clock::since_boot();
        // The last lines of a process come before what its successor writes.
        for stream in [LogStream::Out, LogStream::Err] {
            unit.read(stream, now, &mut [0u8; READ_SIZE], &mut |line| audience.publish(id, &line));
            unit.finish(stream, now, &mut |line| audience.publish(id, &line));
        }
        match unit.sweep() {
            // Not logged during shutdown: services may leave the rest to init.
            Ok(true) if !is_ending => {
                let text = format!("service {} left processes behind; they were killed", unit.spec().name);
                effects.log(text);
            }
            Ok(_) => {}
            Err(error) => effects.log(format!("service {}: {error}", unit.spec().name)),
        }
    }

    /// Reads what a service wrote.
    pub(super) fn read_output(&mut self, id: usize, stream: LogStream, audience: &mut Audience<'_>) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let now = kernel_clock::since_boot();
        unit.read(stream, now, &mut [0u8; READ_SIZE], &mut |line| audience.publish(id, &line));
    }

    /// The last lines that a service wrote to standard error, in one.
    pub(super) fn last_error_lines(&self, id: usize) -> Option<String> {
        self.units.get(id).and_then(Unit::last_error_lines)
    }

    /// Closes all files, for the end of the machine: kept output holds files on `/data` open.
    pub(super) fn close(&mut self) {
        self.units.clear();
    }

    fn position(&self, name: &str) -> Option<usize> {
        position(&self.units, name)
    }
}

fn position(units: &[Unit], name: &str) -> Option<usize> {
    units.iter().position(|unit| unit.spec().name == name)
}

fn log_failure(unit: &Unit, problem: &str, outcome: io::Result<()>, effects: &mut Effects) {
    if let Err(error) = outcome {
        effects.log(format!("service {} {problem}: {error}", unit.spec().name));
    }
}

#[cfg(test)]
mod tests;
