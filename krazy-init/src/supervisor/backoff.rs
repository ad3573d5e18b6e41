//! The pauses between restarts of a service that keeps exiting.

use std::time::Duration;

/// The pause after the first exit, and after every exit of a service that was stable.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A service that ran for this time is stable; its count of failures starts anew.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(10);

/// From this number of exits in a row without stability the service is in a crash loop.
pub(super) const CRASH_LOOP_FAILURES: u32 = 5;

/// From this number on waiting does not help: about a minute after the first exit.
pub(super) const FINAL_FAILURES: u32 = 10;

/// The pause after the `failures`th exit in a row: 100 ms, doubled each time, up to 30 s.
pub(super) fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> = (0..=11).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [100, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
