//! The loop of PID 1.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::process::Pid;

use super::accounts::CONTROL_GID;
use super::boot::Machine;
use super::control_server::ControlServer;
use super::device_groups::DeviceGroups;
use super::devices::DeviceLoader;
use super::online::{ClockState, SAVE_CLOCK};
use super::plan;
use super::poller::{Poller, Source};
use super::shutdown;
use super::state::{Event, Milestone, Supervisor};
use super::trial::TrialState;
use super::unit::Unit;
use super::wake::{self, Inbox, Report, Reporter};
use crate::console::Console;
use crate::control::SOCKET;
use crate::linux::button::PowerButton;
use crate::linux::kernel_clock;
use crate::linux::power::End;
use crate::linux::ready::{self, NotifySocket};
use crate::linux::signals::{Meaning, Signals};
use crate::linux::uevent::Uevents;
use crate::linux::watchdog::{self, Watchdog};
use crate::net::interfaces::Network;
use crate::net::sntp;

/// Everything that lives as long as the machine.
#[derive(Debug)]
pub struct Runtime {
    pub(super) machine: Machine,
    pub(super) console: Console,
    pub(super) supervisor: Supervisor,
    pub(super) units: Vec<Unit>,
    pub(super) control: Option<ControlServer>,
    pub(super) watchdog: Option<Watchdog>,
    pub(super) previous_end: Option<String>,
    pub(super) trial: TrialState,
    pub(super) poller: Poller,
    pub(super) signals: Signals,
    pub(super) pids: HashMap<Pid, usize>,
    pub(super) uevents: Option<Uevents>,
    pub(super) inbox: Inbox,
    pub(super) reporter: Reporter,
    pub(super) devices: Option<DeviceLoader>,
    pub(super) device_groups: DeviceGroups,
    pub(super) buttons: Vec<(String, Option<PowerButton>)>,
    pub(super) network: Option<Network>,
    pub(super) time_servers: Option<Sender<Vec<String>>>,
    pub(super) clock: ClockState,
    pub(super) next_feed: Duration,
    pub(super) notify: Option<NotifySocket>,
    pub(super) next_look: Option<Duration>,
    pub(super) console_waits: bool,
    pub(super) ending: Option<End>,
}

impl Runtime {
    /// Prepares everything that the first service needs.
    pub fn new(machine: Machine, console: Console) -> io::Result<Self> {
        let signals = Signals::open()?;
        let poller = Poller::new()?;
        let (reporter, inbox) = wake::channel()?;
        poller.add(signals.descriptor(), Source::Signals)?;
        poller.add(inbox.descriptor(), Source::Inbox)?;
        let plan = plan::plan(&machine.manifest);
        let now = kernel_clock::since_boot();
        let mut runtime = Runtime {
            machine,
            console,
            supervisor: Supervisor::new(plan.rules),
            units: Vec::new(),
            control: None,
            watchdog: None,
            previous_end: None,
            trial: TrialState::default(),
            poller,
            signals,
            pids: HashMap::new(),
            uevents: None,
            inbox,
            reporter,
            devices: None,
            device_groups: plan.devices,
            buttons: Vec::new(),
            network: None,
            time_servers: None,
            clock: ClockState {
                saved: Duration::ZERO,
                next_save: now + SAVE_CLOCK,
                give_up: None,
                failed: false,
            },
            next_feed: now,
            notify: None,
            next_look: None,
            console_waits: false,
            ending: None,
        };
        for text in plan.problems {
            runtime.degrade(text);
        }
        runtime.begin_clock();
        runtime.previous_end = shutdown::take_previous_end();
        runtime.begin_trial();
        runtime.prepare_units(plan.specs, now);
        runtime.hand_over_devices();
        runtime.open_control();
        Ok(runtime)
    }

    /// Starts the services and looks after them until the machine ends.
    pub fn run(mut self) -> ! {
        self.feed(Event::Reached(Milestone::Data));
        self.feed(Event::Begin);
        // What it hears is only seen in the loop.
        self.start_network();
        // Only now: the threads would compete with the services' first moments.
        self.start_devices(self.reporter.clone());
        let mut ready = Vec::new();
        while self.ending.is_none() {
            let limit = self.deadline().saturating_sub(kernel_clock::since_boot());
            if let Err(error) = self.poller.wait(Some(limit), &mut ready) {
                self.console.say(&format!("epoll: {error}"));
                std::thread::sleep(Duration::from_millis(100));
            }
            for source in &ready {
                self.dispatch(*source);
            }
            self.tick();
        }
        let end = self.ending.unwrap_or(End::Reboot);
        shutdown::finish(self, end)
    }

    /// Says something on the console that also shows in the boot information.
    pub fn degrade(&mut self, text: String) {
        self.console.say(&text);
        // The list is for people; a problem that repeats itself must not fill the memory.
        if self.machine.degraded.len() < 100 && !self.machine.degraded.contains(&text) {
            self.machine.degraded.push(text);
        }
    }

    /// Tells the state machine what happened and does what it wants, until it wants nothing more.
    pub fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        let mut actions = Vec::new();
        while let Some(event) = events.pop_front() {
            self.supervisor.handle(kernel_clock::since_boot(), event, &mut actions);
            for action in actions.drain(..) {
                events.extend(self.carry_out(action));
            }
        }
    }

    /// Begins the end of the machine; repeated, the last wish counts.
    pub fn shut_down(&mut self, end: End, reason: &str) {
        self.console.say(&format!("{end}: {reason}"));
        self.end_trial(reason);
        shutdown::record(&format!("{end}: {reason}"));
        self.feed(Event::Shutdown(end));
    }

    /// The line that tells people and tests that the machine works.
    pub(super) fn say_up(&mut self) {
        let manifest = &self.machine.manifest;
        let slot =
            self.machine.slot.map_or_else(|| "without slots".to_owned(), |slot| format!("slot {slot}"));
        let now = kernel_clock::since_boot();
        let running = |id: &usize| {
            self.supervisor.view(*id, now).is_some_and(|view| view.running_since.is_some() || view.stable)
        };
        let total = self.units.len();
        let failing = total - (0..total).filter(running).count();
        let services = if total == 1 { "service" } else { "services" };
        let failing = if failing > 0 { format!(", {failing} not running") } else { String::new() };
        let text =
            format!("{} {} {slot} is up ({total} {services}{failing})", manifest.name, manifest.version);
        self.console.say(&text);
    }

    fn deadline(&self) -> Duration {
        let network = self.network.as_ref().and_then(Network::deadline);
        [self.supervisor.deadline(), network, self.clock.give_up, self.trial.deadline, self.next_look]
            .into_iter()
            .flatten()
            .chain([self.next_feed, self.clock.next_save])
            .min()
            .unwrap_or(self.next_feed)
    }

    fn tick(&mut self) {
        let now = kernel_clock::since_boot();
        if now >= self.next_feed {
            self.next_feed = now + watchdog::INTERVAL;
            if let Some(watchdog) = &mut self.watchdog
                && let Err(error) = watchdog.feed()
            {
                // The hardware goes on counting: what comes next may still reach it.
                self.degrade(format!("the watchdog is not fed: {error}"));
            }
        }
        if now >= self.clock.next_save {
            self.clock.next_save = now + SAVE_CLOCK;
            self.save_clock();
        }
        if self.clock.give_up.is_some_and(|time| now >= time) {
            self.clock.give_up = None;
            if kernel_clock::has_hardware_clock() && kernel_clock::wall() >= sntp::FLOOR {
                self.console.say("no time server answers, the hardware clock is trusted");
                self.feed(Event::Reached(Milestone::Clock));
            }
        }
        self.check_trial(now);
        if let Some(network) = &mut self.network {
            let changes = network.tick(now);
            self.network_changed(changes);
        }
        if self.supervisor.deadline().is_some_and(|deadline| now >= deadline) {
            self.feed(Event::Tick);
        }
        if self.next_look.is_none_or(|next| now >= next) {
            self.next_look = self.look_at_ports(now);
        }
        self.watch_console();
    }

    fn dispatch(&mut self, source: Source) {
        match source {
            Source::Signals => {
                while let Some(meaning) = self.signals.next() {
                    match meaning {
                        Meaning::Child => self.reap(),
                        Meaning::End(end) => self.shut_down(end, "a signal to init asks for it"),
                    }
                }
            }
            Source::Uevents => {
                while let Some(event) = self.uevents.as_ref().and_then(Uevents::next) {
                    self.device_changed(event);
                }
            }
            Source::Inbox => {
                for report in self.inbox.take() {
                    self.report(report);
                }
            }
            Source::Console => self.console.drain(),
            Source::Listener => {
                if let Some(control) = &mut self.control
                    && let Some(client) = control.accept()
                {
                    let added = control
                        .descriptor(client)
                        .map(|socket| self.poller.add(socket, Source::Client(client)));
                    if let Some(Err(_)) = added {
                        control.close(client);
                    }
                }
            }
            Source::Client(client) => self.serve(client),
            Source::Output(id, stream) => self.read_output(id as usize, stream),
            Source::Notify => {
                for pid in self.notify.as_ref().map(NotifySocket::take).unwrap_or_default() {
                    self.notified(pid);
                }
            }
            Source::Button(index) => self.button(index as usize),
            Source::Links => {
                let now = kernel_clock::since_boot();
                let changes = self.network.as_mut().map(|network| network.notice(now));
                self.network_changed(changes.unwrap_or_default());
            }
            Source::Dhcp(index) => {
                let now = kernel_clock::since_boot();
                let changes = self.network.as_mut().map(|network| network.receive(index, now));
                self.network_changed(changes.unwrap_or_default());
            }
        }
    }

    fn open_control(&mut self) {
        let opened = ControlServer::listen(Path::new(SOCKET), CONTROL_GID).and_then(|control| {
            self.poller.add(control.listener(), Source::Listener)?;
            Ok(control)
        });
        match opened {
            Ok(control) => self.control = Some(control),
            Err(error) => self.degrade(format!("{SOCKET}: {error}")),
        }
        let opened = NotifySocket::open(Path::new(ready::SOCKET)).and_then(|notify| {
            self.poller.add(notify.descriptor(), Source::Notify)?;
            Ok(notify)
        });
        match opened {
            Ok(notify) => self.notify = Some(notify),
            Err(error) => self.degrade(format!("services cannot say that they are ready: {error}")),
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Problem(text) => self.degrade(text),
            Report::Note(text) => self.console.say(&text),
            Report::HandedOver(id, outcome) => self.handed_over(id, outcome),
            Report::Clock(Ok(answer)) => self.set_clock(answer),
            Report::Clock(Err(why)) => {
                if !std::mem::replace(&mut self.clock.failed, true) && !self.machine.quiet {
                    self.console.say(&format!("no time from the network yet: {why}"));
                }
            }
        }
    }

    fn watch_console(&mut self) {
        let waits = self.console.is_behind();
        if waits == self.console_waits {
            return;
        }
        if let Some(descriptor) = self.console.descriptor() {
            // The console's readable side is nobody's business: it is only registered while it is behind.
            let outcome = if waits {
                self.poller.add_writing(descriptor, Source::Console)
            } else {
                self.poller.remove(descriptor)
            };
            if outcome.is_ok() {
                self.console_waits = waits;
            }
        }
    }

    /// Registers or deregisters interest in writing to a client.
    pub(super) fn watch_client(&self, client: u32) {
        if let Some(control) = &self.control
            && let Some(socket) = control.descriptor(client)
        {
            // A client that cannot be watched is served when it next writes.
            let _unwatched =
                self.poller.set_writing(socket, Source::Client(client), control.is_behind(client));
        }
    }
}
