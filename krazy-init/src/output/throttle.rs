//! How much of a service's output the console shows: all of a quiet one, a sample of a flood.

use std::time::Duration;

/// Lines that may come at once.
const BURST: u32 = 200;

/// Lines a second in the long run: what a serial line at 115200 baud carries without falling behind.
const RATE: u32 = 50;

/// A token bucket that counts what it holds back.
#[derive(Debug)]
pub struct Throttle {
    tokens: u32,
    refilled: Duration,
    held_back: u64,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Show it, after saying how many were held back before it (0: say nothing).
    Show(u64),
    /// Hold it back.
    Hide,
}

impl Throttle {
    /// A full bucket.
    pub fn new(now: Duration) -> Self {
        Throttle { tokens: BURST, refilled: now, held_back: 0 }
    }

    /// Decides about one line.
    pub fn line(&mut self, now: Duration) -> Verdict {
        let elapsed = now.saturating_sub(self.refilled);
        let tokens = u32::try_from(elapsed.as_millis() * u128::from(RATE) / 1000).unwrap_or(u32::MAX);
        if tokens > 0 {
            self.tokens = self.tokens.saturating_add(tokens).min(BURST);
            self.refilled = now;
        }
        // After a flood, wait for a fifth of the burst: a line now and then would tell nothing.
        let enough = if self.held_back > 0 { BURST / 5 } else { 1 };
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
    fn a_flood_is_sampled_and_counted() {
        let mut throttle = Throttle::new(Duration::ZERO);
        let mut shown = 0;
        let mut told = 0;
        // 100,000 lines within 10 seconds.
        for i in 0..100_000u64 {
            match throttle.line(Duration::from_micros(i * 100)) {
                Verdict::Show(held_back) => {
                    shown += 1;
                    told += held_back;
                }
                Verdict::Hide => {}
            }
        }
        assert!((500..=750).contains(&shown), "{shown}");
        assert!(told > 90_000, "{told}");
    }

    #[test]
    fn a_quiet_service_is_shown_whole() {
        let mut throttle = Throttle::new(Duration::ZERO);
        for i in 0..10_000 {
            assert_eq!(throttle.line(Duration::from_millis(i * 20)), Verdict::Show(0));
        }
    }
}
