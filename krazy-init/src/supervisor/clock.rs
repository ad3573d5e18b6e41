//! Rules by which the wall clock is set, without side effects.
//!
//! Until the milestone `clock` the clock is set to the time from the network, in either direction: a service that needs
//! the right time waits for the milestone. After it small errors are slewed and larger ones stepped, and a step
//! is always reported.
//!
//! Anybody in the network can be a time server, so answers count by the number of different servers that agree:
//!
//! | answer | accepted | confirms the time |
//! |---|---|---|
//! | several servers, more than half of those that replied | within [`MAX_LEAD`] of this version's release or the confirmed time | yes, also an earlier one than before |
//! | one server, hardware clock plausible | within a day of that clock, not before the confirmed time | no |
//! | one server, no hardware clock or a wrong one | as above, but any distance | no |
//!
//! Only a confirmed time limits later answers. What one server says is kept as the time at which the next start begins,
//! and the next answer, of any honest server, corrects it.

use std::fmt;
use std::time::Duration;

use crate::net::sntp::{Consensus, EARLIEST_TIME, LATEST_TIME};

/// The largest error that is slewed, in nanoseconds: half a second, the most that the kernel's `adjtime` is meant for.
const MAX_SLEW_NS: i128 = 500_000_000;

/// The largest distance from a plausible hardware clock at which a single server is accepted.
const MAX_LONE_DISTANCE: Duration = Duration::from_secs(86_400);

/// The tolerance below the confirmed time for a single server: the clock may have run fast.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// The longest time after this version's release, or after the time that was confirmed last, that any answer may reach.
/// Fifteen years: browsers trust the key of a certificate authority no longer (Mozilla's root store policy, section
/// 7.4), so a build of that age can reach no server by TLS whatever its clock says. An image has no time of its own,
/// because equal input gives equal bytes.
const MAX_LEAD: Duration = Duration::from_secs(15 * 365 * 86_400 + 4 * 86_400);

/// The time that a machine with a hardware clock waits for time servers before it trusts that clock.
pub(super) const TIME_SERVER_TIMEOUT: Duration = Duration::from_secs(15);

/// The knowledge about the time before a server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The newest time that several servers confirmed; zero if none did.
    pub(super) confirmed: Duration,
    /// The time of the hardware clock, if the machine has one.
    pub(super) hardware: Option<Duration>,
}

/// The consequence of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Correction {
    /// Set the clock to this time.
    Step(Duration),
    /// Let the kernel drift there, by this many microseconds.
    Slew(i64),
    /// Reject it.
    Refuse(Refusal),
}

/// The reason why an answer is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No device exists at that time.
    OutOfRange,
    /// Later than [`MAX_LEAD`] allows.
    TooLate,
    /// One server says a time that several have called past.
    BeforeConfirmed,
    /// One server contradicts the hardware clock.
    AwayFromHardware,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::OutOfRange => {
                "it is outside 2026 to 2099; help: name other time servers in `network.ntp`"
            }
            Refusal::TooLate => {
                "it is more than 15 years after the release of krazy-init and the last time that several servers \
                 confirmed; help: name other time servers in `network.ntp`, or push a build with a newer krazy-init"
            }
            Refusal::BeforeConfirmed => {
                "one server alone is behind a time that several servers confirmed; help: name two or more time \
                 servers in `network.ntp`: what they agree on is believed"
            }
            Refusal::AwayFromHardware => {
                "one server alone is more than a day away from the hardware clock; help: name two or more time \
                 servers in `network.ntp`: what they agree on is believed"
            }
        })
    }
}

impl Known {
    /// The earliest time that it can be.
    fn earliest(&self) -> Duration {
        if self.confirmed < LATEST_TIME { self.confirmed.max(EARLIEST_TIME) } else { EARLIEST_TIME }
    }

    /// The latest time that it can be.
    fn latest(&self) -> Duration {
        (self.earliest() + MAX_LEAD).min(LATEST_TIME)
    }

    /// Returns the time of the hardware clock unless that is known to be wrong: without a battery such a clock starts
    /// anywhere in the past.
    pub(super) fn plausible_hardware(&self) -> Option<Duration> {
        let is_plausible = |time: &Duration| {
            (EARLIEST_TIME..self.latest()).contains(time) && *time + MAX_LONE_DISTANCE >= self.earliest()
        };
        self.hardware.filter(is_plausible)
    }
}

/// Decides about an answer. `wall` is the clock now.
pub(super) fn correct(answer: Consensus, wall: Duration, known: &Known) -> Correction {
    let target = wall.as_nanos() as i128 + answer.offset;
    let (Ok(seconds), nanos) =
        (u64::try_from(target.div_euclid(1_000_000_000)), target.rem_euclid(1_000_000_000))
    else {
        return Correction::Refuse(Refusal::OutOfRange);
    };
    let target = Duration::new(seconds, nanos as u32);
    if target < EARLIEST_TIME || target >= LATEST_TIME {
        return Correction::Refuse(Refusal::OutOfRange);
    }
    if target >= known.latest() {
        return Correction::Refuse(Refusal::TooLate);
    }
    if !answer.is_majority() {
        if target + TOLERANCE < known.earliest() {
            return Correction::Refuse(Refusal::BeforeConfirmed);
        }
        if known.plausible_hardware().is_some_and(|time| time.abs_diff(target) > MAX_LONE_DISTANCE) {
            return Correction::Refuse(Refusal::AwayFromHardware);
        }
    }
    if answer.offset.abs() <= MAX_SLEW_NS {
        Correction::Slew((answer.offset / 1000) as i64)
    } else {
        Correction::Step(target)
    }
}

/// Returns the time to set at the start; `None` if the clock is right as far as can be known. `wall` is the clock now,
/// `reached` the newest time that it had before, whoever said it.
pub(super) fn beginning(wall: Duration, reached: Duration, known: &Known) -> Option<Duration> {
    let (earliest, latest) = (known.earliest(), known.latest());
    let (start, lowest) = match known.plausible_hardware() {
        // One server may have moved the clock ahead; the hardware clock has not followed.
        Some(time) => (time.max(earliest), earliest),
        None => {
            let start = if (earliest..latest).contains(&reached) { reached } else { earliest };
            (start, start)
        }
    };
    (wall < lowest || wall >= latest).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const SECOND: i128 = 1_000_000_000;
    const DAY: Duration = Duration::from_secs(86_400);
    const YEAR: i128 = 365 * 86_400 * SECOND;
    /// A machine whose time nobody has confirmed, without a hardware clock.
    const NOTHING: Known = Known { confirmed: Duration::ZERO, hardware: None };
    const CLOCK: Known = Known { confirmed: Duration::ZERO, hardware: Some(NOW) };

    fn one(offset: i128) -> Consensus {
        Consensus { offset, agreeing: 1, answered: 1 }
    }

    fn two(offset: i128) -> Consensus {
        Consensus { offset, agreeing: 2, answered: 3 }
    }

    fn refused(why: Refusal) -> Correction {
        Correction::Refuse(why)
    }

    #[test]
    fn small_errors_are_slewed_and_large_ones_stepped() {
        assert_eq!(correct(one(-20_000_000), NOW, &NOTHING), Correction::Slew(-20_000));
        assert_eq!(correct(one(90 * SECOND), NOW, &NOTHING), Correction::Step(NOW + Duration::from_secs(90)));
        assert_eq!(correct(one(-90 * SECOND), NOW, &CLOCK), Correction::Step(NOW - Duration::from_secs(90)));
    }

    #[test]
    fn one_server_is_believed_within_a_day_of_a_plausible_hardware_clock() {
        assert_eq!(correct(one(5 * YEAR), NOW, &CLOCK), refused(Refusal::AwayFromHardware));
        assert_eq!(correct(one(-5 * YEAR / 30), NOW, &CLOCK), refused(Refusal::AwayFromHardware));
        assert_eq!(correct(two(5 * YEAR), NOW, &CLOCK), Correction::Step(NOW + 5 * 365 * DAY));
        // Not by small steps either: the hardware clock stays where it is.
        let moved = NOW + DAY - Duration::from_secs(60);
        assert_eq!(correct(one(3600 * SECOND), moved, &CLOCK), refused(Refusal::AwayFromHardware));
        assert_eq!(
            correct(one(-86_000 * SECOND), moved, &CLOCK),
            Correction::Step(moved - Duration::from_secs(86_000))
        );
    }

    #[test]
    fn wrong_hardware_clock_does_not_hold_one_honest_server_back() {
        // 1990, 1970, 2098, and a year before a time that several servers confirmed.
        let confirmed = NOW - DAY;
        for (confirmed, hardware) in [
            (Duration::ZERO, Duration::from_secs(631_152_000)),
            (Duration::ZERO, Duration::ZERO),
            (Duration::ZERO, Duration::from_secs(4_040_000_000)),
            (confirmed, confirmed - 365 * DAY),
        ] {
            let known = Known { confirmed, hardware: Some(hardware) };
            let wall = beginning(hardware, Duration::ZERO, &known).unwrap();
            assert_eq!(wall, confirmed.max(EARLIEST_TIME));
            let offset = (NOW - wall).as_nanos() as i128;
            assert_eq!(correct(one(offset), wall, &known), Correction::Step(NOW), "{hardware:?}");
        }
    }

    #[test]
    fn no_answer_is_believed_far_after_the_release() {
        for answer in [one(72 * YEAR), two(72 * YEAR), one(16 * YEAR), two(16 * YEAR)] {
            assert_eq!(correct(answer, EARLIEST_TIME, &NOTHING), refused(Refusal::TooLate));
        }
        for answer in [one(14 * YEAR), two(14 * YEAR)] {
            assert!(matches!(correct(answer, EARLIEST_TIME, &NOTHING), Correction::Step(_)));
        }
        // A machine that has run that long goes on.
        let known = Known { confirmed: EARLIEST_TIME + 14 * 365 * DAY, hardware: None };
        assert!(matches!(correct(one(16 * YEAR), EARLIEST_TIME, &known), Correction::Step(_)));
    }

    #[test]
    fn confirmed_time_is_moved_back_by_several_servers_only() {
        let known = Known { confirmed: NOW, hardware: None };
        assert_eq!(correct(one(-YEAR / 10), NOW, &known), refused(Refusal::BeforeConfirmed));
        assert!(matches!(correct(two(-YEAR / 10), NOW, &known), Correction::Step(_)));
        // Servers that are half of those that replied are no majority.
        let half = Consensus { offset: -YEAR / 10, agreeing: 2, answered: 4 };
        assert_eq!(correct(half, NOW, &known), refused(Refusal::BeforeConfirmed));
        let within = Known { confirmed: NOW + TOLERANCE, hardware: None };
        assert!(matches!(correct(one(-SECOND), NOW + Duration::from_secs(1), &within), Correction::Step(_)));
    }

    #[test]
    fn lie_of_one_server_is_corrected_by_the_next() {
        // Without a hardware clock; also after a restart, which begins at the time that was a lie.
        let lie = NOW + 9 * 365 * DAY;
        let wall = beginning(Duration::ZERO, lie, &NOTHING).unwrap();
        assert_eq!(wall, lie);
        let offset = -((lie - NOW).as_nanos() as i128);
        assert_eq!(correct(one(offset), wall, &NOTHING), Correction::Step(NOW));
    }

    #[test]
    fn impossible_times_are_refused() {
        for offset in [i128::from(i64::MIN), i128::from(i64::MAX), -60 * YEAR, 300 * YEAR] {
            for answer in [one(offset), two(offset)] {
                let correction = correct(answer, NOW, &NOTHING);
                assert_eq!(correction, refused(Refusal::OutOfRange), "{offset}");
            }
        }
    }

    #[test]
    fn every_refusal_names_the_cure() {
        let all =
            [Refusal::OutOfRange, Refusal::TooLate, Refusal::BeforeConfirmed, Refusal::AwayFromHardware];
        for refusal in all.map(|refusal| refusal.to_string()) {
            assert!(refusal.contains("; help: ") && refusal.contains("`network.ntp`"), "{refusal}");
        }
    }

    #[test]
    fn clock_begins_at_the_hardware_clock_or_the_time_reached() {
        let reached = NOW + DAY;
        assert_eq!(beginning(Duration::ZERO, reached, &NOTHING), Some(reached));
        assert_eq!(beginning(reached + DAY, reached, &NOTHING), None);
        assert_eq!(beginning(Duration::ZERO, Duration::ZERO, &NOTHING), Some(EARLIEST_TIME));
        assert_eq!(beginning(Duration::MAX, reached, &NOTHING), Some(reached));
        // The hardware clock counts, and not a later time that one server may have said.
        assert_eq!(beginning(NOW, reached, &CLOCK), None);
        assert_eq!(beginning(Duration::ZERO, reached, &CLOCK), Some(NOW));
        // What was poisoned before times were confirmed: 2099.
        assert_eq!(
            beginning(Duration::ZERO, Duration::from_secs(4_080_000_000), &NOTHING),
            Some(EARLIEST_TIME)
        );
        assert_eq!(beginning(Duration::ZERO, Duration::MAX, &NOTHING), Some(EARLIEST_TIME));
        let known = Known { confirmed: NOW, hardware: Some(NOW - Duration::from_secs(60)) };
        assert_eq!(beginning(NOW - Duration::from_secs(60), reached, &known), Some(NOW));
        let damaged = Known { confirmed: Duration::MAX, hardware: None };
        assert_eq!(beginning(NOW, Duration::ZERO, &damaged), None);
    }
}
