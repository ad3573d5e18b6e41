//! The wall clock as a part of the loop: set from the network, saved on `/data`, and trusted as it is where no time
//! server answers. The rules are in [`clock`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use super::boot::{Machine, machine_file};
use super::clock::{self, Correction};
use super::effect::{Effect, Effects};
use super::inbox::{Report, Reporter};
use super::state::{Event, Milestone};
use crate::linux::data::DataMount;
use crate::linux::kernel_clock;
use crate::net::sntp::{self, Consensus, SntpError};

/// The newest wall time known to have been reached, in seconds since 1970; a file of the machine on `/data`.
const FILE: &str = "clock";

/// The pause between two saves of the time. A machine without a hardware clock starts at most this far in the past.
const SAVE_INTERVAL: Duration = Duration::from_secs(3600);

/// The kernel's clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Since 1970.
    wall: Duration,
    /// True if the machine has a clock that runs while it is off.
    has_hardware_clock: bool,
}

impl Reading {
    fn now() -> Self {
        Reading { wall: kernel_clock::wall(), has_hardware_clock: kernel_clock::has_hardware_clock() }
    }
}

/// Knowledge about the wall clock.
#[derive(Debug)]
pub(super) struct WallClock {
    /// The newest time known to have been reached.
    saved: Duration,
    next_save: Duration,
    /// The file of the saved time; `None` if `/data` is temporary.
    file: Option<PathBuf>,
    /// The time since the kernel's start at which the hardware clock is trusted if no server has answered.
    give_up_at: Option<Duration>,
    /// Set once the milestone `clock` was reached.
    is_right: bool,
    has_reported_failure: bool,
    /// Takes the servers to ask; `None` before the thread was started.
    servers: Option<Sender<Vec<String>>>,
}

impl WallClock {
    /// Sets the clock to the newest time the machine is known to have reached, so that certificates are not judged by
    /// 1970.
    pub(super) fn begin(machine: &Machine, now: Duration, effects: &mut Effects) -> Self {
        let path = machine_file(FILE);
        let saved = fs::read_to_string(&path).ok();
        let saved = saved.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let file = matches!(machine.data, DataMount::Disk(_)).then_some(path);
        let clock = Self::new(saved.unwrap_or_default(), file, now);
        // Without a battery a machine starts in 1970, and then every certificate is one of the future.
        if let Some(time) = clock::beginning(kernel_clock::wall(), clock.saved)
            && let Err(error) = kernel_clock::set_wall(time)
        {
            effects.degrade(format!("cannot set the clock: {error}"));
        }
        clock
    }

    /// A clock that was saved at this time, in this file.
    pub(super) fn new(saved: Duration, file: Option<PathBuf>, now: Duration) -> Self {
        WallClock {
            saved,
            next_save: now + SAVE_INTERVAL,
            file,
            give_up_at: None,
            is_right: false,
            has_reported_failure: false,
            servers: None,
        }
    }

    /// Starts the thread that asks time servers.
    pub(super) fn start(&mut self, reporter: Reporter) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel();
        sntp::start(receiver, move |outcome| reporter.send(Report::Clock(outcome)))?;
        self.servers = Some(sender);
        Ok(())
    }

    /// Asks these servers from now on, or the default ones if there are none.
    pub(super) fn ask(&mut self, servers: Vec<String>) {
        let servers = if servers.is_empty() { sntp::default_servers() } else { servers };
        if let Some(sender) = &self.servers
            && sender.send(servers).is_err()
        {
            self.servers = None;
        }
    }

    /// Begins to wait for time servers, now that they can be reached.
    pub(super) fn network_up(&mut self, now: Duration) {
        if !self.is_right {
            self.give_up_at = Some(now + clock::TIME_SERVER_TIMEOUT);
        }
    }

    /// The time of the next [`WallClock::tick`].
    pub(super) fn deadline(&self) -> Duration {
        self.give_up_at.map_or(self.next_save, |give_up_at| give_up_at.min(self.next_save))
    }

    /// Saves the time, and ends the wait for time servers, if that is due.
    pub(super) fn tick(&mut self, now: Duration, effects: &mut Effects) {
        if now >= self.next_save {
            self.next_save = now + SAVE_INTERVAL;
            self.save(effects);
        }
        if self.give_up_at.is_some_and(|time| now >= time) {
            self.give_up(Reading::now(), effects);
        }
    }

    fn give_up(&mut self, reading: Reading, effects: &mut Effects) {
        self.give_up_at = None;
        if reading.has_hardware_clock && reading.wall >= sntp::EARLIEST_TIME {
            effects.log("no time server answers, the hardware clock is trusted");
            self.reach_milestone(effects);
        }
    }

    /// Takes the outcome of a round of questions to time servers.
    pub(super) fn answered(&mut self, outcome: Result<Consensus, SntpError>, effects: &mut Effects) {
        match outcome {
            Ok(answer) => self.correct(answer, effects),
            // Repeated for as long as the network is down: reported once.
            Err(why) => {
                if !std::mem::replace(&mut self.has_reported_failure, true) {
                    effects.note(format!("no time from the network yet: {why}"));
                }
            }
        }
    }

    fn correct(&mut self, answer: Consensus, effects: &mut Effects) {
        let outcome = match self.decide(answer, Reading::now(), effects) {
            Correction::Refuse(_) => return,
            Correction::Slew(microseconds) => kernel_clock::slew_wall(microseconds),
            Correction::Step(time) => kernel_clock::set_wall(time),
        };
        match outcome {
            Ok(()) => {
                self.give_up_at = None;
                self.save(effects);
                self.reach_milestone(effects);
            }
            Err(error) => effects.degrade(format!("cannot set the clock: {error}")),
        }
    }

    /// Decides about an answer and reports refusals and steps.
    fn decide(&self, answer: Consensus, reading: Reading, effects: &mut Effects) -> Correction {
        let Reading { wall, has_hardware_clock } = reading;
        let correction = clock::correct(answer, wall, self.saved, has_hardware_clock);
        match correction {
            Correction::Refuse(why) => {
                effects.degrade(format!("the time from the network is not believed: {why}"));
            }
            Correction::Slew(_) => {}
            Correction::Step(time) => {
                let (amount, direction) =
                    if time < wall { (wall - time, "back") } else { (time - wall, "forward") };
                let text = format!("the clock was stepped {direction} by {} ms", amount.as_millis());
                // The first step is routine. A later one may break services that rely on the time.
                if self.is_right { effects.log(text) } else { effects.note(text) }
            }
        }
        correction
    }

    fn reach_milestone(&mut self, effects: &mut Effects) {
        self.is_right = true;
        effects.push(Effect::Service(Event::Reached(Milestone::Clock)));
    }

    /// Saves the time for a boot without any other source. A full or read-only `/data` is reported by those who need
    /// it.
    fn save(&mut self, effects: &mut Effects) {
        if let Some(file) = self.file.clone() {
            self.saved = kernel_clock::wall();
            effects.on_disk("saving the time", move |_| write_time(&file));
        }
    }

    /// Saves the time now, for the end of the machine.
    pub(super) fn save_now(&self) {
        if let Some(file) = &self.file {
            write_time(file);
        }
    }
}

/// Writes the time to `file`. It is not synced: an older time is good enough.
fn write_time(file: &Path) {
    let _full = fs::write(file, format!("{}\n", kernel_clock::wall().as_secs()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);
    const TODAY: Duration = Duration::from_secs(1_800_000_000);

    fn clock() -> WallClock {
        WallClock::new(Duration::ZERO, None, NOW)
    }

    fn reading(wall: Duration, has_hardware_clock: bool) -> Reading {
        Reading { wall, has_hardware_clock }
    }

    fn list(effects: Effects) -> Vec<Effect> {
        effects.into_iter().collect()
    }

    #[test]
    fn hardware_clock_is_trusted_when_no_server_answers() {
        let mut clock = clock();
        assert_eq!(clock.deadline(), NOW + SAVE_INTERVAL);
        clock.network_up(NOW);
        assert_eq!(clock.deadline(), NOW + clock::TIME_SERVER_TIMEOUT);
        let mut effects = Effects::default();
        clock.give_up(reading(TODAY, true), &mut effects);
        assert_eq!(list(effects).last(), Some(&Effect::Service(Event::Reached(Milestone::Clock))));
        assert_eq!(clock.deadline(), NOW + SAVE_INTERVAL);
        // A network that comes back later starts no second wait.
        clock.network_up(NOW);
        assert_eq!(clock.deadline(), NOW + SAVE_INTERVAL);
    }

    #[test]
    fn milestone_is_not_reached_without_a_clock_to_trust() {
        for reading in [reading(TODAY, false), reading(Duration::from_secs(86_400), true)] {
            let mut effects = Effects::default();
            let mut clock = clock();
            clock.network_up(NOW);
            clock.give_up(reading, &mut effects);
            assert_eq!(list(effects), [], "{reading:?}");
            assert!(!clock.is_right);
        }
    }

    #[test]
    fn failures_of_time_servers_are_reported_once() {
        let mut clock = clock();
        let mut effects = Effects::default();
        clock.answered(Err(SntpError::Disagreement), &mut effects);
        clock.answered(Err(SntpError::Disagreement), &mut effects);
        let text = "no time from the network yet: the time servers contradict each other".to_owned();
        assert_eq!(list(effects), [Effect::Note(text)]);
    }

    #[test]
    fn first_step_is_routine_and_later_ones_are_not() {
        let mut clock = clock();
        let answer = Consensus { offset: -3_000_000_000, agreeing: 2 };
        let mut effects = Effects::default();
        clock.decide(answer, reading(TODAY, true), &mut effects);
        clock.is_right = true;
        clock.decide(answer, reading(TODAY, true), &mut effects);
        let text = "the clock was stepped back by 3000 ms".to_owned();
        assert_eq!(list(effects), [Effect::Note(text.clone()), Effect::Log(text)]);
    }

    #[test]
    fn refused_answers_degrade_the_machine() {
        let answer = Consensus { offset: 300 * 365 * 86_400 * 1_000_000_000, agreeing: 4 };
        let mut effects = Effects::default();
        let correction = clock().decide(answer, reading(TODAY, false), &mut effects);
        assert!(matches!(correction, Correction::Refuse(_)));
        let effects = list(effects);
        let [Effect::Degrade(text)] = &effects[..] else { panic!("{effects:?}") };
        assert!(text.starts_with("the time from the network is not believed: "), "{text}");
    }
}
