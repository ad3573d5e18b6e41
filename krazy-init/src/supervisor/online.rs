//! The network's and the clock's part of the loop: what changes there, and what services learn of it.

use std::path::Path;
use std::time::Duration;

use krazy_boot::manifest::network::{self, NetworkSettings};

use super::boot;
use super::clock::{self, Correction};
use super::poller::Source;
use super::runtime::Runtime;
use super::state::{Event, Milestone};
use crate::linux::data::{DATA, DataMount};
use crate::linux::kernel_clock;
use crate::net::interfaces::{Change, Network};
use crate::net::sntp;

/// The newest wall time known to have been reached, in seconds since 1970; a file of the machine on `/data`.
const CLOCK: &str = "clock";

/// How often the time is saved.
pub(super) const SAVE_CLOCK: Duration = Duration::from_secs(3600);

/// What is known about the wall clock.
#[derive(Debug)]
pub(super) struct ClockState {
    /// The newest time known to have been reached.
    pub saved: Duration,
    /// When it is written next.
    pub next_save: Duration,
    /// When the hardware clock will be trusted if no server has answered.
    pub give_up: Option<Duration>,
    /// Whether it was said that no server answers.
    pub failed: bool,
}

impl Runtime {
    pub(super) fn start_network(&mut self) {
        let machine = match NetworkSettings::read(&Path::new(DATA).join(network::PATH)) {
            Ok(settings) => settings.unwrap_or_default(),
            Err(why) => {
                self.degrade(format!("{why}; nothing of it is used"));
                NetworkSettings::default()
            }
        };
        let settings = self.machine.manifest.network.clone().overridden_by(machine);
        let started = Network::start(settings, &self.machine.hostname).and_then(|network| {
            self.poller.add(network.links(), Source::Links)?;
            Ok(network)
        });
        match started {
            Ok(network) => self.network = Some(network),
            Err(error) => self.degrade(format!("there is no network: {error}")),
        }
    }

    pub(super) fn network_changed(&mut self, changes: Vec<Change>) {
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

    /// The newest time the machine is known to have reached, so that certificates are not judged by 1970.
    pub(super) fn begin_clock(&mut self) {
        let saved = std::fs::read_to_string(boot::machine_file(CLOCK)).ok();
        let saved = saved.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        self.clock.saved = saved.unwrap_or_default();
        if let Some(time) = clock::beginning(kernel_clock::wall(), self.clock.saved)
            && let Err(error) = kernel_clock::set_wall(time)
        {
            self.degrade(format!("cannot set the clock: {error}"));
        }
    }

    pub(super) fn set_clock(&mut self, answer: sntp::Answer) {
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
}
