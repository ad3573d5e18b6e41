//! The throttle of a service's output on the console: all of a quiet service is shown, a sample of a flood.

use std::time::Duration;

/// The most lines that are shown at once.
const BURST_LINES: u32 = 200;

/// The lines per second in the long run: what a serial line at 115200 baud carries without falling behind.
const LINES_PER_SECOND: u32 = 50;

/// A token bucket that counts what it holds back.
#[derive(Debug)]
pub(crate) struct Throttle {
    tokens: u32,
    refilled: Duration,
    held_back: u64,
}

/// The decision about a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Show it, after reporting this number of lines held back before it (0: no report).
    Show(u64),
    /// Hold it back.
    Hide,
}

impl Throttle {
    /// A full bucket.
    pub(crate) fn new(now: Duration) -> Self {
        Throttle { tokens: BURST_LINES, refilled: now, held_back: 0 }
    }

    /// Decides about one line.
    pub(crate) fn line(&mut self, now: Duration) -> Verdict {
        let elapsed = now.saturating_sub(self.refilled);
        let tokens =
            u32::try_from(elapsed.as_millis() * u128::from(LINES_PER_SECOND) / 1000).unwrap_or(u32::MAX);
        if tokens > 0 {
            self.tokens = self.tokens.saturating_add(tokens).min(BURST_LINES);
            self.refilled = now;
        }
        // After a flood, wait for a fifth of the burst: single lines of a flood make no sense.
        let enough = if self.held_back > 0 { BURST_LINES / 5 } else { 1 };
        if self.tokens < enough {
            self.held_back += 1;
            return Verdict::Hide;
        }
        self.tokens -= 1;
        Verdict::Show(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_sampled_and_counted() {
        let mut throttle = Throttle::new(Duration::ZERO);
        let mut shown = 0;
        let mut reported = 0;
        // 100,000 lines within 10 seconds.
        for i in 0..100_000u64 {
            match throttle.line(Duration::from_micros(i * 100)) {
                Verdict::Show(held_back) => {
                    shown += 1;
                    reported += held_back;
                }
                Verdict::Hide => {}
            }
        }
        assert!((500..=750).contains(&shown), "{shown}");
        assert!(reported > 90_000, "{reported}");
    }

    #[test]
    fn quiet_service_is_shown_completely() {
        let mut throttle = Throttle::new(Duration::ZERO);
        for i in 0..10_000 {
            assert_eq!(throttle.line(Duration::from_millis(i * 20)), Verdict::Show(0));
        }
    }
}
