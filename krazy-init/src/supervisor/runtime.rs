//! The loop of PID 1: waits for events, hands each to the part it concerns, and carries out what the part returns.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::accounts::CONTROL_GID;
use super::boot::Machine;
use super::control_server::ControlServer;
use super::devices::Devices;
use super::effect::{Effect, Effects};
use super::inbox::{self, Inbox, Report, Reporter};
use super::journal::Journal;
use super::late::{self, LateWork};
use super::links::Links;
use super::plan;
use super::poller::{Poller, Source};
use super::requests::{self, BootFacts};
use super::services::{Audience, Services};
use super::shutdown::Shutdown;
use super::state::{Event, Milestone};
use super::trial::Trial;
use super::wall_clock::WallClock;
use super::watchdog::WatchdogTimer;
use crate::control::{Request, Response, SOCKET};
use crate::linux::data::DataMount;
use crate::linux::modules::Modules;
use crate::linux::power::End;
use crate::linux::signals::{Meaning, Signals};
use crate::linux::{kernel_clock, process};

/// How long the loop pauses when it cannot wait, so that a lasting failure does not occupy a processor.
const FAILED_WAIT_PAUSE: Duration = Duration::from_millis(100);

/// The parts of PID 1. Each owns its fields; they meet only here.
#[derive(Debug)]
pub(super) struct Runtime {
    machine: Machine,
    journal: Journal,
    poller: Poller,
    signals: Signals,
    inbox: Inbox,
    reporter: Reporter,
    services: Services,
    trial: Trial,
    clock: WallClock,
    links: Links,
    devices: Devices,
    watchdog: WatchdogTimer,
    control: ControlServer,
    shutdown: Shutdown,
}

impl Runtime {
    /// Prepares everything that the first service needs.
    ///
    /// The order counts: the clock before anything is written with a time, the trial's note before anything that may
    /// hang, and the control socket last, when there is something to ask.
    pub(super) fn new(machine: Machine, mut journal: Journal) -> io::Result<Self> {
        let signals = Signals::open()?;
        let poller = Poller::new()?;
        let (reporter, inbox) = inbox::channel()?;
        poller.add(signals.descriptor(), Source::Signals)?;
        poller.add(inbox.descriptor(), Source::Inbox)?;
        let plan = plan::plan(&machine.manifest);
        let now = kernel_clock::since_boot();
        for text in plan.problems {
            journal.degrade(text);
        }
        let mut effects = Effects::default();
        let mut watchdog = WatchdogTimer::new(machine.use_watchdog, now);
        let clock = WallClock::begin(&machine, now, &mut effects);
        let shutdown = Shutdown::begin(&machine.data);
        let trial = Trial::begin(&machine, &mut watchdog, &mut effects);
        let mut runtime = Runtime {
            services: Services::new(machine.title(), plan.rules, reporter.clone()),
            devices: Devices::new(plan.devices),
            machine,
            journal,
            poller,
            signals,
            inbox,
            reporter,
            trial,
            clock,
            links: Links::default(),
            watchdog,
            control: ControlServer::closed(),
            shutdown,
        };
        runtime.carry_out(effects);
        let Runtime { services, devices, control, poller, machine, .. } = &mut runtime;
        let mut effects = Effects::default();
        services.prepare(plan.specs, &machine.data, now, poller, &mut effects);
        devices.hand_over_nodes(&mut effects);
        if let Err(error) = control.listen(Path::new(SOCKET), CONTROL_GID, poller) {
            effects.degrade(format!("{SOCKET}: {error}"));
        }
        services.open_notify_socket(poller, &mut effects);
        runtime.carry_out(effects);
        Ok(runtime)
    }

    /// Starts the services and supervises them until the machine ends.
    pub(super) fn run(mut self) -> ! {
        let mut effects = Effects::default();
        effects.push(Effect::Service(Event::Reached(Milestone::Data)));
        effects.push(Effect::Service(Event::Begin));
        self.carry_out(effects);
        let mut effects = Effects::default();
        // What the network hears is only read in the loop.
        self.links = Links::start(&self.machine, &self.poller, &mut effects);
        // Only now: the threads would compete with the services' first moments.
        self.start_threads(&mut effects);
        self.carry_out(effects);
        let mut ready = Vec::new();
        loop {
            if let Some(end) = self.shutdown.ending() {
                let Runtime { services, trial, clock, watchdog, journal, .. } = self;
                self.shutdown.finish(end, services, trial, clock, watchdog, journal);
            }
            let limit = self.deadline().saturating_sub(kernel_clock::since_boot());
            if let Err(error) = self.poller.wait(Some(limit), &mut ready) {
                self.journal.log(&format!("epoll: {error}"));
                std::thread::sleep(FAILED_WAIT_PAUSE);
            }
            for source in &ready {
                self.dispatch(*source);
            }
            self.tick();
        }
    }

    /// Starts what may block in threads of its own.
    fn start_threads(&mut self, effects: &mut Effects) {
        self.devices.listen(&self.poller, effects);
        // Again: the driver may have come since the trial began.
        self.watchdog.arm(effects);
        let data = match &self.machine.data {
            DataMount::Disk(node) => Some(node.clone()),
            DataMount::Temporary(_) => None,
        };
        let boot_writable = self.machine.manifest.boot_writable;
        let work = LateWork { disk: self.machine.disk.clone(), boot_writable, data };
        if let Err(error) = late::start(work, self.reporter.clone()) {
            effects.degrade(format!("/boot is not mounted: {error}"));
        }
        let modules = Modules::running(self.machine.parameters.clone());
        let named = self.machine.manifest.modules.clone();
        let started = self.devices.start_loader(modules, named, self.reporter.clone());
        if let Err(error) = started.and_then(|()| self.clock.start(self.reporter.clone())) {
            effects.degrade(format!("cannot start a thread: {error}"));
        }
    }

    fn deadline(&self) -> Duration {
        let always = self.watchdog.deadline().min(self.clock.deadline());
        let others = [self.services.deadline(), self.links.deadline(), self.trial.deadline()];
        others.into_iter().flatten().fold(always, Duration::min)
    }

    /// Lets every part do what is due.
    fn tick(&mut self) {
        let now = kernel_clock::since_boot();
        // The watchdog first: whatever a part does below may take long.
        self.with_effects(|parts, effects| parts.watchdog.tick(now, effects));
        self.with_effects(|parts, effects| parts.clock.tick(now, effects));
        self.with_effects(|parts, effects| parts.trial.tick(now, &parts.services, effects));
        self.with_effects(|parts, effects| parts.links.tick(now, &parts.poller, effects));
        self.with_effects(|parts, effects| {
            parts.services.tick(now, &mut Audience::new(&mut parts.journal, &mut parts.control), effects);
        });
        self.journal.watch(&self.poller);
    }

    /// Hands an event to its part.
    fn dispatch(&mut self, source: Source) {
        let now = kernel_clock::since_boot();
        match source {
            Source::Signals => {
                while let Some(meaning) = self.signals.next() {
                    match meaning {
                        Meaning::Child => self.reap(),
                        Meaning::End(end) => {
                            let reason = "a signal to init requests it".to_owned();
                            self.carry_out_one(Effect::ShutDown(end, reason));
                        }
                    }
                }
            }
            Source::Uevents => {
                while let Some(event) = self.devices.next_announcement() {
                    self.with_effects(|parts, effects| {
                        if parts.devices.announced(event, &parts.poller, effects) {
                            parts.watchdog.arm(effects);
                        }
                    });
                }
            }
            Source::Inbox => {
                for report in self.inbox.take() {
                    self.take_report(report);
                }
            }
            Source::Console => self.journal.drain(),
            Source::Listener => self.control.accept(&self.poller),
            Source::Client(client) => {
                for request in self.control.receive(client) {
                    let response = request.map_or_else(|response| response, |it| self.answer(client, it));
                    self.control.answer(client, &response);
                }
                self.control.watch(client, &self.poller);
            }
            Source::Output(id, stream) => {
                let mut audience = Audience::new(&mut self.journal, &mut self.control);
                self.services.read_output(id as usize, stream, &mut audience);
            }
            Source::Notify => self.with_effects(|parts, effects| {
                let mut audience = Audience::new(&mut parts.journal, &mut parts.control);
                parts.services.read_notifications(&mut audience, effects);
            }),
            Source::Button(index) => {
                self.with_effects(|parts, effects| parts.devices.read_button(index, effects));
            }
            Source::Links => self.with_effects(|parts, effects| {
                parts.links.read_announcements(now, &parts.poller, effects);
            }),
            Source::Dhcp(index) => self.with_effects(|parts, effects| {
                parts.links.read_dhcp(index, now, &parts.poller, effects);
            }),
        }
    }

    /// Reaps every process that has exited. What follows from each is carried out before the next one is reaped.
    fn reap(&mut self) {
        while let Some((pid, reason)) = process::reap() {
            self.with_effects(|parts, effects| {
                let mut audience = Audience::new(&mut parts.journal, &mut parts.control);
                parts.services.exited(pid, reason, &mut audience, effects);
            });
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Problem(text) => self.journal.degrade(text),
            Report::Note(text) => self.journal.log(&text),
            Report::HandedOver(id, outcome) => self.with_effects(|parts, effects| {
                let mut audience = Audience::new(&mut parts.journal, &mut parts.control);
                parts.services.handed_over(id, outcome, &mut audience, effects);
            }),
            Report::Clock(outcome) => {
                self.with_effects(|parts, effects| parts.clock.answered(outcome, effects));
            }
        }
    }

    fn answer(&mut self, client: u32, request: Request) -> Response {
        let mut effects = Effects::default();
        let facts = BootFacts {
            now: kernel_clock::since_boot(),
            machine: &self.machine,
            problems: self.journal.problems(),
            previous_end: self.shutdown.previous(),
        };
        let Runtime { services, trial, control, .. } = self;
        let answer =
            requests::execute(request.command, client, facts, services, trial, control, &mut effects);
        // Before the answer: a client that reads `done` may rely on it.
        self.carry_out(effects);
        answer.map_or_else(|error| Response::error(error.kind, error.message), Response::ok)
    }

    /// Lets a part take a step and carries out what it returns.
    fn with_effects(&mut self, step: impl FnOnce(&mut Self, &mut Effects)) {
        let mut effects = Effects::default();
        step(self, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects) {
        for effect in effects {
            self.carry_out_one(effect);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Log(text) => self.journal.log(&text),
            Effect::Note(text) => self.journal.note(&text),
            Effect::Degrade(text) => self.journal.degrade(text),
            Effect::Service(event) => self.with_effects(|parts, effects| {
                let mut audience = Audience::new(&mut parts.journal, &mut parts.control);
                parts.services.handle(event, &mut audience, effects);
            }),
            Effect::NetworkUp(now) => {
                self.carry_out_one(Effect::Service(Event::Reached(Milestone::Network)));
                self.clock.network_up(now);
            }
            Effect::TimeServers(servers) => self.clock.ask(servers),
            Effect::ShutDown(end, reason) => self.shut_down(end, &reason),
            Effect::End(end) => self.shutdown.services_down(end),
        }
    }

    /// Begins the end of the machine; repeated, the last request counts.
    fn shut_down(&mut self, end: End, reason: &str) {
        self.journal.log(&format!("{end}: {reason}"));
        // The notes before the services are stopped, which may take long: power may be cut meanwhile.
        self.with_effects(|parts, effects| parts.trial.end(reason, effects));
        self.shutdown.record(end, reason);
        self.carry_out_one(Effect::Service(Event::Shutdown(end)));
    }
}
