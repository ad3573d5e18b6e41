//! The wall clock as a part of the loop: set from the network, saved on `/data`, and trusted as it is where no time
//! server answers. The rules are in [`clock`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use super::boot::{Machine, machine_file};
use super::clock::{self, Correction, Known};
use super::effect::{Effect, Effects};
use super::inbox::{Report, Reporter};
use super::state::{Event, Milestone};
use crate::linux::data::DataMount;
use crate::linux::kernel_clock;
use crate::net::sntp::{self, Consensus, Servers, SntpError};

/// The wall time that was reached last, whoever said it, in seconds since 1970; a file of the machine on `/data`. The next
/// start begins there, and any answer may be before it.
const REACHED_FILE: &str = "clock";

/// The newest wall time that several servers confirmed, in the same form. One server alone is not believed before it.
const CONFIRMED_FILE: &str = "clock-confirmed";

/// The pause between two saves of the time. A machine without a hardware clock starts at most this far in the past.
const SAVE_INTERVAL: Duration = Duration::from_secs(3600);

/// The files of the time.
#[derive(Clone, Debug)]
pub(super) struct Files {
    reached: PathBuf,
    confirmed: PathBuf,
}

/// Knowledge about the wall clock.
#[derive(Debug)]
pub(super) struct WallClock {
    /// The newest time that several servers confirmed; zero if none did.
    confirmed: Duration,
    /// True if the present time follows from such an answer.
    is_confirmed: bool,
    next_save: Duration,
    /// `None` if `/data` is temporary.
    files: Option<Files>,
    /// The time since the kernel's start at which the hardware clock is trusted if no server has answered.
    give_up_at: Option<Duration>,
    /// Set once the milestone `clock` was reached.
    is_right: bool,
    has_reported_failure: bool,
    /// Takes the servers to ask; `None` before the thread was started.
    servers: Option<Sender<Servers>>,
}

impl WallClock {
    /// Sets the clock to the newest time the machine is known to have reached, so that certificates are not judged by
    /// 1970.
    pub(super) fn begin(machine: &Machine, now: Duration, effects: &mut Effects) -> Self {
        let files = Files { reached: machine_file(REACHED_FILE), confirmed: machine_file(CONFIRMED_FILE) };
        let (reached, confirmed) = (read_time(&files.reached), read_time(&files.confirmed));
        let files = matches!(machine.data, DataMount::Disk(_)).then_some(files);
        let clock = Self::new(confirmed, files, now);
        // Without a battery a machine starts in 1970, and then every certificate is one of the future.
        let known = clock.known(kernel_clock::hardware());
        if let Some(time) = clock::beginning(kernel_clock::wall(), reached, &known)
            && let Err(error) = kernel_clock::set_wall(time)
        {
            effects.degrade(format!("cannot set the clock: {error}"));
        }
        clock
    }

    /// A clock that several servers confirmed to be past this time.
    pub(super) fn new(confirmed: Duration, files: Option<Files>, now: Duration) -> Self {
        WallClock {
            confirmed,
            is_confirmed: false,
            next_save: now + SAVE_INTERVAL,
            files,
            give_up_at: None,
            is_right: false,
            has_reported_failure: false,
            servers: None,
        }
    }

    fn known(&self, hardware: Option<Duration>) -> Known {
        Known { confirmed: self.confirmed, hardware }
    }

    /// Starts the thread that asks time servers.
    pub(super) fn start(&mut self, reporter: Reporter) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel();
        sntp::start(receiver, move |outcome| reporter.send(Report::Clock(outcome)))?;
        self.servers = Some(sender);
        Ok(())
    }

    /// Asks these servers from now on.
    pub(super) fn ask(&mut self, servers: Servers) {
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
            self.give_up(kernel_clock::hardware(), effects);
        }
    }

    fn give_up(&mut self, hardware: Option<Duration>, effects: &mut Effects) {
        self.give_up_at = None;
        if self.known(hardware).plausible_hardware().is_some() {
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
        let correction = self.decide(answer, kernel_clock::wall(), kernel_clock::hardware(), effects);
        let outcome = match correction {
            Correction::Refuse(_) => return,
            Correction::Slew(microseconds) => kernel_clock::slew_wall(microseconds),
            Correction::Step(time) => kernel_clock::set_wall(time),
        };
        match outcome {
            Ok(()) => {
                self.give_up_at = None;
                self.accepted(answer, correction);
                self.save(effects);
                self.reach_milestone(effects);
            }
            Err(error) => effects.degrade(format!("cannot set the clock: {error}")),
        }
    }

    /// Decides about an answer and reports refusals and steps.
    fn decide(
        &self,
        answer: Consensus,
        wall: Duration,
        hardware: Option<Duration>,
        effects: &mut Effects,
    ) -> Correction {
        let correction = clock::correct(answer, wall, &self.known(hardware));
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

    /// Notes who stands behind the time. What one server says in less than half a second around a confirmed time does
    /// not change that.
    fn accepted(&mut self, answer: Consensus, correction: Correction) {
        if answer.is_majority() {
            self.is_confirmed = true;
        } else if matches!(correction, Correction::Step(_)) {
            self.is_confirmed = false;
        }
    }

    fn reach_milestone(&mut self, effects: &mut Effects) {
        self.is_right = true;
        effects.push(Effect::Service(Event::Reached(Milestone::Clock)));
    }

    /// Saves the time for a boot without any other source. A full or read-only `/data` is reported by those who need
    /// it.
    fn save(&mut self, effects: &mut Effects) {
        if self.is_confirmed {
            // Earlier than before, too: several servers have corrected it.
            self.confirmed = kernel_clock::wall();
        }
        if let Some(files) = self.files.clone() {
            let is_confirmed = self.is_confirmed;
            effects.on_disk("saving the time", move |_| files.write(is_confirmed));
        }
    }

    /// Saves the time now, for the end of the machine.
    pub(super) fn save_now(&self) {
        if let Some(files) = &self.files {
            files.write(self.is_confirmed);
        }
    }
}

impl Files {
    fn write(&self, is_confirmed: bool) {
        write_time(&self.reached);
        if is_confirmed {
            write_time(&self.confirmed);
        }
    }
}

/// Reads the time in `file`; zero if there is none.
fn read_time(file: &Path) -> Duration {
    let text = fs::read_to_string(file).ok();
    text.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs).unwrap_or_default()
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

    fn answer(offset: i128, agreeing: usize) -> Consensus {
        Consensus { offset, agreeing, answered: agreeing }
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
        clock.give_up(Some(TODAY), &mut effects);
        assert_eq!(list(effects).last(), Some(&Effect::Service(Event::Reached(Milestone::Clock))));
        assert_eq!(clock.deadline(), NOW + SAVE_INTERVAL);
        // A network that comes back later starts no second wait.
        clock.network_up(NOW);
        assert_eq!(clock.deadline(), NOW + SAVE_INTERVAL);
        // Nobody has confirmed it.
        assert!(!clock.is_confirmed);
    }

    #[test]
    fn milestone_is_not_reached_without_a_clock_to_trust() {
        for hardware in [None, Some(Duration::from_secs(86_400)), Some(Duration::MAX)] {
            let mut effects = Effects::default();
            let mut clock = clock();
            clock.network_up(NOW);
            clock.give_up(hardware, &mut effects);
            assert_eq!(list(effects), [], "{hardware:?}");
            assert!(!clock.is_right);
        }
    }

    #[test]
    fn only_several_servers_confirm_the_time() {
        let mut clock = clock();
        clock.accepted(answer(5_000_000_000, 1), Correction::Step(TODAY));
        clock.save(&mut Effects::default());
        assert_eq!(clock.confirmed, Duration::ZERO);
        clock.accepted(answer(0, 2), Correction::Slew(0));
        clock.save(&mut Effects::default());
        assert!(clock.confirmed > Duration::ZERO);
        // One server alone may slew a confirmed time, and not step it.
        clock.accepted(answer(1, 1), Correction::Slew(0));
        assert!(clock.is_confirmed);
        clock.accepted(answer(5_000_000_000, 1), Correction::Step(TODAY));
        assert!(!clock.is_confirmed);
    }

    #[test]
    fn times_are_saved_in_files_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files {
            reached: directory.path().join("reached"),
            confirmed: directory.path().join("confirmed"),
        };
        assert_eq!(read_time(&files.reached), Duration::ZERO);
        files.write(false);
        assert!(read_time(&files.reached) > sntp::EARLIEST_TIME);
        assert!(!files.confirmed.exists());
        files.write(true);
        assert!(read_time(&files.confirmed) > sntp::EARLIEST_TIME);
        fs::write(&files.confirmed, "yesterday").unwrap();
        assert_eq!(read_time(&files.confirmed), Duration::ZERO);
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
        let answer = answer(-3_000_000_000, 2);
        let mut effects = Effects::default();
        clock.decide(answer, TODAY, Some(TODAY), &mut effects);
        clock.is_right = true;
        clock.decide(answer, TODAY, Some(TODAY), &mut effects);
        let text = "the clock was stepped back by 3000 ms".to_owned();
        assert_eq!(list(effects), [Effect::Note(text.clone()), Effect::Log(text)]);
    }

    #[test]
    fn refused_answers_degrade_the_machine() {
        let answer = answer(72 * 365 * 86_400 * 1_000_000_000, 4);
        let mut effects = Effects::default();
        let correction = clock().decide(answer, TODAY, None, &mut effects);
        assert!(matches!(correction, Correction::Refuse(_)));
        let effects = list(effects);
        let [Effect::Degrade(text)] = &effects[..] else { panic!("{effects:?}") };
        assert!(text.starts_with("the time from the network is not believed: "), "{text}");
        assert!(text.contains("; help: name other time servers in `network.ntp`"), "{text}");
    }
}
