//! Rules by which the wall clock is set, without side effects.
//!
//! Until the milestone `clock` the clock is set to the time from the network, in either direction: a service that needs
//! the right time waits for the milestone. After it small errors are slewed and larger ones stepped, and a step
//! is always reported.

use std::time::Duration;

use crate::net::sntp::{Consensus, EARLIEST_TIME, LATEST_TIME};

/// The largest error that is slewed, in nanoseconds: half a second, the most that the kernel's `adjtime` is meant for.
const MAX_SLEW_NS: i128 = 500_000_000;

/// The largest error in nanoseconds about which a single server is accepted, when the machine has a plausible hardware
/// clock.
const MAX_LONE_OFFSET_NS: i128 = 86_400 * 1_000_000_000;

/// The time that a machine with a hardware clock waits for time servers before it trusts that clock.
pub(super) const TIME_SERVER_TIMEOUT: Duration = Duration::from_secs(15);

/// The consequence of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Correction {
    /// Set the clock to this time.
    Step(Duration),
    /// Let the kernel drift there, by this many microseconds.
    Slew(i64),
    /// Reject it.
    Refuse(&'static str),
}

/// Decides about an answer. `wall` is the clock now, `saved` the newest time known to have been reached,
/// `hardware` whether the machine has a clock that runs while it is off.
pub(super) fn correct(answer: Consensus, wall: Duration, saved: Duration, hardware: bool) -> Correction {
    let target = wall.as_nanos() as i128 + answer.offset;
    let (Ok(seconds), nanos) =
        (u64::try_from(target.div_euclid(1_000_000_000)), target.rem_euclid(1_000_000_000))
    else {
        return Correction::Refuse("it is before 1970");
    };
    let target = Duration::new(seconds, nanos as u32);
    if target < EARLIEST_TIME || target >= LATEST_TIME {
        return Correction::Refuse("it is outside 2026 to 2099");
    }
    // With an hour of tolerance: the saved time may come from a clock that ran fast.
    if target + Duration::from_secs(3600) < saved {
        return Correction::Refuse("this machine has already been running later than that");
    }
    let is_plausible = hardware && wall >= EARLIEST_TIME.max(saved) && wall < LATEST_TIME;
    if is_plausible && answer.agreeing < 2 && answer.offset.abs() > MAX_LONE_OFFSET_NS {
        return Correction::Refuse("one server alone is more than a day away from the hardware clock");
    }
    if answer.offset.abs() <= MAX_SLEW_NS {
        Correction::Slew((answer.offset / 1000) as i64)
    } else {
        Correction::Step(target)
    }
}

/// Returns the time to set at the start; `None` if the hardware clock's is plausible. It is not if it is before `saved`,
/// the newest time known to have been reached.
pub(super) fn beginning(wall: Duration, saved: Duration) -> Option<Duration> {
    let earliest = if saved < LATEST_TIME { saved.max(EARLIEST_TIME) } else { EARLIEST_TIME };
    (wall < earliest || wall >= LATEST_TIME).then_some(earliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const SECOND: i128 = 1_000_000_000;

    fn one(offset: i128) -> Consensus {
        Consensus { offset, agreeing: 1 }
    }

    #[test]
    fn small_errors_are_slewed_and_large_ones_stepped() {
        assert_eq!(correct(one(-20_000_000), NOW, EARLIEST_TIME, false), Correction::Slew(-20_000));
        assert_eq!(
            correct(one(90 * SECOND), NOW, EARLIEST_TIME, false),
            Correction::Step(NOW + Duration::from_secs(90))
        );
        assert_eq!(
            correct(one(-90 * SECOND), NOW, EARLIEST_TIME, true),
            Correction::Step(NOW - Duration::from_secs(90))
        );
    }

    #[test]
    fn implausible_answers_are_refused() {
        let years = 5 * 365 * 86_400 * SECOND;
        assert!(matches!(correct(one(years), NOW, EARLIEST_TIME, true), Correction::Refuse(_)));
        assert!(matches!(
            correct(Consensus { offset: years, agreeing: 2 }, NOW, EARLIEST_TIME, true),
            Correction::Step(_)
        ));
        assert!(matches!(correct(one(years), EARLIEST_TIME, EARLIEST_TIME, false), Correction::Step(_)));
        assert!(matches!(correct(one(-90 * 86_400 * SECOND), NOW, NOW, false), Correction::Refuse(_)));
        for offset in [i128::from(i64::MIN), i128::from(i64::MAX), -60 * 365 * 86_400 * SECOND] {
            assert!(
                matches!(correct(one(offset), NOW, EARLIEST_TIME, false), Correction::Refuse(_)),
                "{offset}"
            );
        }
    }

    #[test]
    fn clock_begins_no_earlier_than_the_saved_time() {
        assert_eq!(beginning(Duration::ZERO, NOW), Some(NOW));
        assert_eq!(beginning(NOW, Duration::ZERO), None);
        assert_eq!(beginning(Duration::ZERO, Duration::ZERO), Some(EARLIEST_TIME));
        assert_eq!(beginning(NOW, Duration::MAX), None);
        assert_eq!(beginning(Duration::MAX, NOW), Some(NOW));
    }
}
