//! The loop of PID 1.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use krazy_boot::manifest::Ready;
use rustix::process::Pid;

use super::boot::{self, Machine};
use super::clock::{self, Correction};
use super::control_server::ControlServer;
use super::devices::DeviceLoader;
use super::late::{self, LateWork};
use super::plan::{self, Spec};
use super::poller::{Poller, Source};
use super::shutdown;
use super::state::{Action, Event, Milestone, Supervisor};
use super::trial::TrialState;
use super::unit::{self, Unit};
use super::wake::{self, Inbox, Report, Reporter};
use crate::console::Console;
use crate::control::{LogLine, LogStream, SOCKET};
use crate::linux::button::PowerButton;
use crate::linux::data::DataMount;
use crate::linux::modules::Modules;
use crate::linux::power::End;
use crate::linux::ready::{self, NotifySocket};
use crate::linux::signals::{Meaning, Signals};
use crate::linux::uevent::{Uevent, Uevents};
use crate::linux::watchdog::{self, Watchdog};
use crate::linux::{kernel_clock, process};
use crate::net::interfaces::{Change, Network};
use crate::net::settings::NetworkSettings;
use crate::net::sntp;
use crate::output::Verdict;

/// The newest wall time known to have been reached: its file's text, in seconds since 1970.
pub const CLOCK: &str = "clock";
const NETWORK: &str = "network.json";

/// How often the time is saved.
const SAVE_CLOCK: Duration = Duration::from_secs(3600);

/// How often a port that a service is to open is looked for.
const PORT_INTERVAL: Duration = Duration::from_millis(50);

/// What one read of a pipe takes.
const READ: usize = 16 << 10;

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
    poller: Poller,
    signals: Signals,
    pids: HashMap<Pid, usize>,
    uevents: Option<Uevents>,
    inbox: Inbox,
    reporter: Option<Reporter>,
    devices: Option<DeviceLoader>,
    buttons: Vec<(String, Option<PowerButton>)>,
    network: Option<Network>,
    time_servers: Option<Sender<Vec<String>>>,
    clock: ClockState,
    next_feed: Duration,
    notify: Option<NotifySocket>,
    next_look: Option<Duration>,
    console_waits: bool,
    ending: Option<End>,
}

/// What is known about the wall clock.
#[derive(Debug)]
struct ClockState {
    saved: Duration,
    next_save: Duration,
    /// When the hardware clock will be trusted if no server has answered.
    give_up: Option<Duration>,
    failed: bool,
}

impl Runtime {
    /// Prepares everything but the first service.
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
            reporter: None,
            devices: None,
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
        runtime.open_control();
        runtime.start_network();
        runtime.reporter = Some(reporter);
        Ok(runtime)
    }

    /// Starts the services and looks after them until the machine ends.
    pub fn run(mut self) -> ! {
        self.feed(Event::Reached(Milestone::Data));
        self.feed(Event::Begin);
        // Only now: the threads would compete with the services' first moments.
        if let Some(reporter) = self.reporter.take() {
            self.start_devices(reporter);
        }
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
        shutdown::record(&format!("{end}: {reason}"));
        self.feed(Event::Shutdown(end));
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn(id) => {
                let unit = self.units.get_mut(id)?;
                return Some(match unit.start() {
                    Ok(()) => {
                        self.pids.extend(unit.pid.map(|pid| (pid, id)));
                        Event::Started(id)
                    }
                    Err(error) => Event::StartFailed(id, error.to_string()),
                });
            }
            Action::Terminate(id) => {
                let outcome = self.units.get(id)?.terminate();
                self.say_failure(id, "cannot be signalled", outcome);
            }
            Action::Kill(id) => {
                let outcome = self.units.get(id)?.kill();
                self.say_failure(id, "cannot be killed", outcome);
            }
            Action::Sweep(id) => self.sweep(id),
            Action::Say(id, text) => {
                let name = &self.units.get(id)?.spec.name;
                self.console.say(&format!("service {name} {text}"));
            }
            Action::Up => self.say_up(),
            Action::End(end) => self.ending = Some(end),
        }
        None
    }

    fn say_failure(&mut self, id: usize, what: &str, outcome: io::Result<()>) {
        if let (Err(error), Some(unit)) = (outcome, self.units.get(id)) {
            self.console.say(&format!("service {} {what}: {error}", unit.spec.name));
        }
    }

    /// The line that tells people and tests that the machine works.
    fn say_up(&mut self) {
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
                self.console.say(&format!("watchdog: {error}"));
                self.watchdog = None;
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
                while let Some(pid) = self.notify.as_ref().and_then(NotifySocket::next) {
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

    /// A process says that it is ready: the service it belongs to is, if that is how it tells.
    fn notified(&mut self, pid: Pid) {
        // A helper that said so and ended is not in any cgroup any more; a main process is known.
        let id = self.pids.get(&pid).copied().or_else(|| {
            let name = ready::service_of(pid)?;
            self.units.iter().position(|unit| unit.spec.name == name)
        });
        if let Some(id) = id.filter(|id| self.units[*id].spec.ready == Ready::Notify) {
            self.feed(Event::Ready(id));
        }
    }

    /// Looks for the ports that services are waited for to open; says when to look again.
    fn look_at_ports(&mut self, now: Duration) -> Option<Duration> {
        let opened = |id: &usize| match self.units[*id].spec.ready {
            Ready::Tcp(port) => ready::is_listening(port),
            Ready::Started | Ready::Notify => false,
        };
        let waited: Vec<usize> = self.supervisor.unready().collect();
        let waited: Vec<usize> = waited
            .into_iter()
            .filter(|id| matches!(self.units.get(*id).map(|unit| unit.spec.ready), Some(Ready::Tcp(_))))
            .collect();
        let ready: Vec<usize> = waited.iter().copied().filter(opened).collect();
        for id in &ready {
            self.feed(Event::Ready(*id));
        }
        (ready.len() < waited.len()).then_some(now + PORT_INTERVAL)
    }

    fn reap(&mut self) {
        while let Some((pid, reason)) = process::reap() {
            // Others are orphans that services left to init.
            if let Some(id) = self.pids.remove(&pid) {
                self.feed(Event::Exited(id, reason));
            }
        }
    }

    fn sweep(&mut self, id: usize) {
        // What it wrote last comes before what its successor writes.
        for stream in [LogStream::Out, LogStream::Err] {
            self.read_output(id, stream);
            let now = kernel_clock::since_boot();
            let Runtime { units, console, control, .. } = self;
            if let Some(unit) = units.get_mut(id) {
                let name = unit.spec.name.clone();
                unit.finish(stream, |throttle, line, stamp| {
                    let verdict = throttle.line(now);
                    publish(console, control.as_mut(), verdict, id, &name, stream, line, stamp);
                });
            }
        }
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(pid) = unit.pid.take() else { return };
        match unit.sweep(pid) {
            // Whoever is asked to stop may leave the rest to init.
            Ok(true) if self.supervisor.is_ending() => {}
            Ok(true) => {
                let text = format!("service {} left processes behind; they were ended", unit.spec.name);
                self.console.say(&text);
            }
            Ok(false) => {}
            Err(error) => self.console.say(&format!("service {}: {error}", unit.spec.name)),
        }
    }

    fn read_output(&mut self, id: usize, stream: LogStream) {
        let now = kernel_clock::since_boot();
        let Runtime { units, console, control, .. } = self;
        let Some(unit) = units.get_mut(id) else { return };
        let name = unit.spec.name.clone();
        let mut buffer = [0u8; READ];
        unit.read(stream, &mut buffer, |throttle, line, stamp| {
            let verdict = throttle.line(now);
            publish(console, control.as_mut(), verdict, id, &name, stream, line, stamp);
        });
    }

    fn prepare_units(&mut self, specs: Vec<Spec>, now: Duration) {
        let limit = unit::log_limit(specs.len());
        let mut cgroup_problem = None;
        for (id, spec) in specs.into_iter().enumerate() {
            let name = spec.name.clone();
            let prepared = Unit::prepare(spec, limit, now);
            match prepared {
                Ok((unit, problem)) => {
                    for stream in [LogStream::Out, LogStream::Err] {
                        if let Err(error) =
                            self.poller.add(unit.descriptor(stream), Source::Output(id as u32, stream))
                        {
                            self.degrade(format!("service {name}: its output is not read: {error}"));
                        }
                    }
                    self.units.push(unit);
                    cgroup_problem = cgroup_problem.or(problem);
                }
                Err(error) => {
                    self.degrade(format!("service {name} cannot be prepared: {error}"));
                    break;
                }
            }
        }
        if let Some(error) = cgroup_problem {
            self.degrade(format!("what services fork away cannot be ended: {error}"));
        }
    }

    fn open_control(&mut self) {
        let opened = ControlServer::listen(Path::new(SOCKET)).and_then(|control| {
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

    fn start_network(&mut self) {
        let settings = match NetworkSettings::read(&boot::machine_file(NETWORK)) {
            Ok(settings) => settings.unwrap_or_default(),
            Err(why) => {
                self.degrade(format!("{why}; addresses come from DHCP"));
                NetworkSettings::default()
            }
        };
        let started = Network::start(settings, &self.machine.hostname).and_then(|network| {
            self.poller.add(network.links(), Source::Links)?;
            Ok(network)
        });
        match started {
            Ok(network) => self.network = Some(network),
            Err(error) => self.degrade(format!("there is no network: {error}")),
        }
    }

    fn start_devices(&mut self, reporter: Reporter) {
        let opened = Uevents::open().and_then(|uevents| {
            self.poller.add(uevents.descriptor(), Source::Uevents)?;
            Ok(uevents)
        });
        match opened {
            Ok(uevents) => self.uevents = Some(uevents),
            Err(error) => self.degrade(format!("devices plugged in later are not noticed: {error}")),
        }
        self.open_buttons();
        self.arm_watchdog();
        let data = match &self.machine.data {
            DataMount::Disk(node) => Some(node.clone()),
            DataMount::Temporary(_) => None,
        };
        let boot_writable = self.machine.manifest.boot_writable;
        let work = LateWork { disk: self.machine.disk.clone(), boot_writable, data };
        if let Err(error) = late::start(work, reporter.clone()) {
            self.degrade(format!("/boot is not mounted: {error}"));
        }
        let (sender, receiver) = mpsc::channel();
        let modules = Modules::running(self.machine.parameters.clone());
        let named = self.machine.manifest.modules.clone();
        let started = DeviceLoader::start(modules, named, reporter.clone()).map(|it| self.devices = Some(it));
        let started = started.and_then(|()| sntp::start(receiver, reporter));
        match started {
            Ok(()) => self.time_servers = Some(sender),
            Err(error) => self.degrade(format!("cannot start a thread: {error}")),
        }
    }

    fn device_changed(&mut self, event: Uevent) {
        if event.action != "add" {
            return;
        }
        if let (Some(devices), Some(modalias)) = (&self.devices, event.modalias) {
            devices.wants(modalias);
        }
        match (event.subsystem.as_str(), event.devname) {
            ("input", Some(name)) if name.starts_with("input/event") => self.open_button(&name),
            ("watchdog", Some(_)) => self.arm_watchdog(),
            _ => {}
        }
    }

    fn open_buttons(&mut self) {
        let names = std::fs::read_dir("/dev/input").map(|entries| {
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
        });
        for name in names.unwrap_or_default().iter().filter(|name| name.starts_with("event")) {
            self.open_button(&format!("input/{name}"));
        }
    }

    fn open_button(&mut self, name: &str) {
        if self.buttons.iter().any(|(known, button)| known == name && button.is_some()) {
            return;
        }
        // Most input devices are no power buttons, and one that vanished meanwhile is none any more.
        if let Ok(Some(button)) = PowerButton::open(&Path::new("/dev").join(name)) {
            let source = Source::Button(self.buttons.len() as u32);
            match self.poller.add(button.descriptor(), source) {
                Ok(()) => self.buttons.push((name.to_owned(), Some(button))),
                Err(error) => self.degrade(format!("the power button {name} does not work: {error}")),
            }
        }
    }

    fn button(&mut self, index: usize) {
        let Some((_, slot @ Some(_))) = self.buttons.get_mut(index) else { return };
        match slot.as_mut().map(PowerButton::pressed) {
            Some(Ok(true)) => self.shut_down(End::Poweroff, "the power button was pressed"),
            Some(Err(_)) => *slot = None,
            Some(Ok(false)) | None => {}
        }
    }

    fn arm_watchdog(&mut self) {
        if self.watchdog.is_none() {
            match Watchdog::arm() {
                Ok(watchdog) => self.watchdog = watchdog,
                Err(error) => self.degrade(format!("the watchdog cannot be armed: {error}")),
            }
        }
    }

    fn network_changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Say(text, is_problem) => {
                    if is_problem || !self.machine.quiet {
                        self.console.say(&text);
                    }
                }
                Change::Up => {
                    self.feed(Event::Reached(Milestone::Network));
                    if !self.supervisor.has_reached(Milestone::Clock) {
                        self.clock.give_up = Some(kernel_clock::since_boot() + clock::HARDWARE_CLOCK_AFTER);
                    }
                }
                Change::Watch(index) => {
                    if let Some(socket) = self.network.as_ref().and_then(|network| network.descriptor(index))
                        && let Err(error) = self.poller.add(socket, Source::Dhcp(index))
                    {
                        self.degrade(format!("DHCP does not work: {error}"));
                    }
                }
                Change::TimeServers(servers) => {
                    let servers = if servers.is_empty() { sntp::default_servers() } else { servers };
                    if let Some(sender) = &self.time_servers
                        && sender.send(servers).is_err()
                    {
                        self.time_servers = None;
                    }
                }
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Problem(text) => self.degrade(text),
            Report::Note(text) => self.console.say(&text),
            Report::Clock(Ok(answer)) => self.set_clock(answer),
            Report::Clock(Err(why)) => {
                if !std::mem::replace(&mut self.clock.failed, true) && !self.machine.quiet {
                    self.console.say(&format!("no time from the network yet: {why}"));
                }
            }
        }
    }

    /// The newest time the machine is known to have reached, so that certificates are not judged by 1970.
    fn begin_clock(&mut self) {
        let saved = std::fs::read_to_string(boot::machine_file(CLOCK)).ok();
        let saved = saved.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        self.clock.saved = saved.unwrap_or_default();
        if let Some(time) = clock::beginning(kernel_clock::wall(), self.clock.saved)
            && let Err(error) = kernel_clock::set_wall(time)
        {
            self.degrade(format!("cannot set the clock: {error}"));
        }
    }

    fn set_clock(&mut self, answer: sntp::Answer) {
        let wall = kernel_clock::wall();
        let running = self.supervisor.has_reached(Milestone::Clock);
        let outcome = match clock::correct(answer, wall, self.clock.saved, kernel_clock::has_hardware_clock())
        {
            Correction::Refuse(why) => {
                self.degrade(format!("the time from the network is not believed: {why}"));
                return;
            }
            Correction::Slew(microseconds) => kernel_clock::slew_wall(microseconds),
            Correction::Step(time) => {
                if running || !self.machine.quiet {
                    let (amount, direction) =
                        if time < wall { (wall - time, "back") } else { (time - wall, "forward") };
                    self.console
                        .say(&format!("the clock was stepped {direction} by {} ms", amount.as_millis()));
                }
                kernel_clock::set_wall(time)
            }
        };
        match outcome {
            Ok(()) => {
                self.clock.give_up = None;
                self.save_clock();
                self.feed(Event::Reached(Milestone::Clock));
            }
            Err(error) => self.degrade(format!("cannot set the clock: {error}")),
        }
    }

    /// Keeps the time for a boot without any other. A full or read-only `/data` is said by those who need it.
    pub(super) fn save_clock(&mut self) {
        if matches!(self.machine.data, DataMount::Disk(_)) {
            let wall = kernel_clock::wall();
            let _full = std::fs::write(boot::machine_file(CLOCK), format!("{}\n", wall.as_secs()));
            self.clock.saved = wall;
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

/// Shows a line where it is to be seen.
#[expect(clippy::too_many_arguments, reason = "the fields of one log line and its two audiences")]
fn publish(
    console: &mut Console,
    control: Option<&mut ControlServer>,
    verdict: Verdict,
    id: usize,
    name: &str,
    stream: LogStream,
    line: &str,
    stamp: usize,
) {
    if let Verdict::Show(held_back) = verdict {
        if held_back > 0 {
            console.line(name, &format!("({held_back} lines are only in /tmp/{name}.log and .err)"));
        }
        console.line(name, &line[stamp..]);
    }
    if let Some(control) = control.filter(|control| control.is_followed(id)) {
        control.publish(id, &LogLine { stream, text: line.to_owned() });
    }
}
