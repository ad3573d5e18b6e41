//! The hardware watchdog as a part of the loop: armed when its driver is there, fed on time, handed over at the end.

use std::io;
use std::time::Duration;

use super::effect::Effects;
use crate::linux::watchdog::{Feeder, INTERVAL, Watchdog};

/// The watchdog of the machine, armed or not yet.
#[derive(Debug)]
pub(super) struct WatchdogTimer {
    is_enabled: bool,
    armed: Option<Watchdog>,
    next_feed: Duration,
}

impl WatchdogTimer {
    /// A watchdog that is not armed yet. One that is not enabled is left alone for good.
    pub(super) fn new(is_enabled: bool, now: Duration) -> Self {
        WatchdogTimer { is_enabled, armed: None, next_feed: now }
    }

    /// A watchdog that is armed.
    #[cfg(test)]
    pub(super) fn armed(watchdog: Watchdog, now: Duration) -> Self {
        WatchdogTimer { is_enabled: true, armed: Some(watchdog), next_feed: now }
    }

    /// Arms it unless it is armed. Without hardware nothing happens: its driver may be a module that comes later.
    pub(super) fn arm(&mut self, effects: &mut Effects) {
        if self.is_enabled && self.armed.is_none() {
            match Watchdog::arm() {
                Ok(watchdog) => self.armed = watchdog,
                Err(error) => effects.degrade(format!("the watchdog cannot be armed: {error}")),
            }
        }
    }

    /// The time of the next [`WatchdogTimer::tick`]. There is always one: the loop turns at least that often.
    pub(super) fn deadline(&self) -> Duration {
        self.next_feed
    }

    /// Feeds it if that is due.
    pub(super) fn tick(&mut self, now: Duration, effects: &mut Effects) {
        if now < self.next_feed {
            return;
        }
        // From now and not from the planned time: a loop that was late must not feed several times in a row.
        self.next_feed = now + INTERVAL;
        if let Some(watchdog) = &mut self.armed
            && let Err(error) = watchdog.feed()
        {
            // It stays armed: the hardware goes on counting, and the next attempt may still reach it.
            effects.degrade(format!("the watchdog is not fed: {error}"));
        }
    }

    /// Has a thread feed it from now on, at most for `limit`; `None` if it is not armed.
    pub(super) fn feed_for(&mut self, limit: Duration) -> Option<io::Result<Feeder>> {
        self.armed.take().map(|watchdog| watchdog.feed_for(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disabled_watchdog_stays_alone_and_the_loop_turns_all_the_same() {
        let now = Duration::from_secs(3);
        let mut watchdog = WatchdogTimer::new(false, now);
        let mut effects = Effects::default();
        watchdog.arm(&mut effects);
        watchdog.tick(now, &mut effects);
        assert_eq!(watchdog.deadline(), now + INTERVAL);
        watchdog.tick(now + INTERVAL / 2, &mut effects);
        assert_eq!(watchdog.deadline(), now + INTERVAL, "not due yet");
        assert!(watchdog.feed_for(Duration::ZERO).is_none());
        assert_eq!(effects.into_iter().count(), 0);
    }
}
