//! How long a service that keeps ending has to wait.

use std::time::Duration;

/// After the first end, and after every end of a service that was stable.
pub const FIRST: Duration = Duration::from_millis(100);

/// However often it ended.
pub const LONGEST: Duration = Duration::from_secs(30);

/// A service that ran this long is stable; its count of failures starts anew.
pub const STABLE: Duration = Duration::from_secs(10);

/// From this many ends in a row without stability the service is said to be in a crash loop.
pub const CRASH_LOOP: u32 = 5;

/// From this many on there is no hope that waiting helps: about a minute after the first.
pub const FAILED: u32 = 10;

/// The pause after the `failures`th end in a row: 100 ms, doubled each time, up to 30 s.
pub fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> = (0..=11).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [100, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(pause(u32::MAX), LONGEST);
    }
}
