//! The loop of PID 1: waits for events, hands each to the part it concerns, and carries out what the part returns.

mod startup;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::boot::Machine;
use super::control_server::ControlServer;
use super::devices::Devices;
use super::disk_queue::{Answer, DiskOutcome, DiskQueue};
use super::effect::{Effect, Effects};
use super::inbox::{Inbox, Report, Reporter};
use super::journal::Journal;
use super::links::Links;
use super::poller::{Poller, Source};
use super::refusal::too_slow;
use super::requests::{self, BootFacts};
use super::services::{Audience, Services};
use super::shutdown::{self, Shutdown};
use super::state::{Event, Milestone};
use super::trial::Trial;
use super::wall_clock::WallClock;
use super::watchdog::WatchdogTimer;
use crate::control::{Reply, Request, RequestError, Response};
use crate::linux::power::End;
use crate::linux::signals::{Meaning, Signals};
use crate::linux::{kernel_clock, process};

/// The pause of a loop that cannot wait, so that a lasting failure does not occupy a processor.
const FAILED_WAIT_PAUSE: Duration = Duration::from_millis(100);

/// Announcements of devices that one turn of the loop takes.
const MAX_ANNOUNCEMENTS: usize = 64;

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
    disk: DiskQueue,
    shutdown: Shutdown,
}

impl Runtime {
    /// Starts the services and supervises them until the machine ends.
    pub(super) fn run(mut self) -> ! {
        self.start();
        let mut ready = Vec::new();
        loop {
            // Checked before waiting: the event that ended the last service may be the last event of all.
            if let Some(end) = self.shutdown.ending(kernel_clock::since_boot(), &self.disk) {
                if let Some(text) = shutdown::given_up(&self.disk) {
                    self.journal.log(&text);
                }
                let Runtime { services, trial, clock, watchdog, journal, .. } = self;
                self.shutdown.finish(end, services, trial, clock, watchdog, journal);
            }
            self.turn(&mut ready);
        }
    }

    /// Waits for events or the next deadline, and handles what has come.
    fn turn(&mut self, ready: &mut Vec<Source>) {
        let limit = self.deadline().saturating_sub(kernel_clock::since_boot());
        if let Err(error) = self.poller.wait(Some(limit), ready) {
            self.journal.log(&format!("epoll: {error}"));
            std::thread::sleep(FAILED_WAIT_PAUSE);
        }
        for source in ready {
            self.dispatch(*source);
        }
        self.tick();
    }

    fn deadline(&self) -> Duration {
        let always = self.watchdog.deadline().min(self.clock.deadline());
        let others = [
            self.services.deadline(),
            self.links.deadline(),
            self.trial.deadline(),
            self.shutdown.deadline(),
        ];
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
        self.with_services(|services, audience, effects| services.tick(now, audience, effects));
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
                // The rest comes in later turns: the watchdog must be fed during the longest burst.
                for _ in 0..MAX_ANNOUNCEMENTS {
                    let Some(event) = self.devices.next_announcement() else { break };
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
                self.control.receive(client);
                self.answer_all(client);
            }
            Source::Output(id, stream) => self.with_services(|services, audience, _| {
                services.read_output(id as usize, stream, audience);
            }),
            Source::Launch(id) => self.with_services(|services, audience, effects| {
                services.settle_launch(id as usize, audience, effects);
            }),
            Source::Notify => self.with_services(Services::read_notifications),
            Source::SystemLog => self.with_services(Services::read_system_log),
            Source::KernelLog => self.with_services(Services::read_denials),
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
        // One SIGCHLD may stand for many exits: the kernel does not count a signal that is already pending.
        while let Some((pid, reason)) = process::reap() {
            self.with_services(|services, audience, effects| services.exited(pid, reason, audience, effects));
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Problem(text) => self.journal.degrade(text),
            Report::HomePrepared(id, outcome) => self.with_services(|services, audience, effects| {
                services.home_prepared(id, outcome, audience, effects);
            }),
            Report::Disk(outcome) => self.take_outcome(outcome),
            Report::Clock(outcome) => {
                self.with_effects(|parts, effects| parts.clock.answered(outcome, effects));
            }
        }
    }

    /// Takes the outcome of the oldest task of the disk's queue.
    fn take_outcome(&mut self, outcome: DiskOutcome) {
        let DiskOutcome { client, answer, effects } = outcome;
        self.disk.finished_one();
        self.carry_out(effects);
        if let Some(client) = client {
            self.control.answer(client, &response(answer));
            self.answer_all(client);
        }
    }

    /// Answers what a client has requested, up to a request whose answer waits for the disk.
    fn answer_all(&mut self, client: u32) {
        while let Some(request) = self.control.next_request(client) {
            match request.map_or_else(Some, |request| self.answer(client, request)) {
                Some(response) => self.control.answer(client, &response),
                None => self.control.answers_later(client),
            }
        }
        // After the answers, which may not fit into the socket.
        self.control.watch(client, &self.poller);
    }

    /// Carries out a request. Returns its answer unless that waits for the disk.
    fn answer(&mut self, client: u32, request: Request) -> Option<Response> {
        let mut effects = Effects::default();
        let facts = BootFacts {
            now: kernel_clock::since_boot(),
            machine: &self.machine,
            problems: self.journal.problems(),
            previous_end: self.shutdown.previous(),
            has_room: self.disk.has_room_for_request(),
        };
        let Runtime { services, trial, control, .. } = self;
        let answer =
            requests::execute(request.command, client, facts, services, trial, control, &mut effects);
        // Before the answer: a client that reads `done` may rely on it.
        self.carry_out(effects);
        match answer {
            Ok(Answer::Now(reply)) => Some(Response::ok(reply)),
            Ok(Answer::Later(task)) => {
                (!self.disk.push_request(task, client)).then(|| response(Err(too_slow())))
            }
            Err(error) => Some(response(Err(error))),
        }
    }

    /// Lets a part take a step and carries out what it returns.
    fn with_effects(&mut self, step: impl FnOnce(&mut Self, &mut Effects)) {
        let mut effects = Effects::default();
        step(self, &mut effects);
        self.carry_out(effects);
    }

    /// The same for the services, which write lines to their audience immediately.
    fn with_services(&mut self, step: impl FnOnce(&mut Services, &mut Audience<'_>, &mut Effects)) {
        let mut effects = Effects::default();
        step(&mut self.services, &mut Audience::new(&mut self.journal, &mut self.control), &mut effects);
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
            Effect::Service(event) => {
                self.with_services(|services, audience, effects| services.handle(event, audience, effects));
            }
            Effect::NetworkUp(now) => {
                self.carry_out_one(Effect::Service(Event::Reached(Milestone::Network)));
                self.clock.network_up(now);
            }
            Effect::TimeServers(servers) => self.clock.ask(servers),
            Effect::Disk(task) => {
                let skipped = format!("the disk is too slow: {task:?} is skipped");
                if !self.disk.push(task) {
                    self.journal.degrade(skipped);
                }
            }
            Effect::Trial(change) => self.trial.changed(change),
            Effect::ShutDown(end, reason) => self.shut_down(end, &reason),
            Effect::End(end) => self.shutdown.services_down(end, kernel_clock::since_boot()),
        }
    }

    /// Begins the end of the machine; repeated, the last request counts.
    fn shut_down(&mut self, end: End, reason: &str) {
        self.journal.log(&format!("{end}: {reason}"));
        // The notes before the services are stopped, which may take long: power may be cut meanwhile.
        self.with_effects(|parts, effects| {
            parts.trial.end(reason, effects);
            parts.shutdown.record(end, reason, effects);
        });
        self.carry_out_one(Effect::Service(Event::Shutdown(end)));
    }
}

fn response(answer: Result<Reply, RequestError>) -> Response {
    answer.map_or_else(|error| Response::error(error.kind, error.message), Response::ok)
}
