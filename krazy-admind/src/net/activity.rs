//! The requests in flight on a connection, and the time since the last one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;

/// The activity of one connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    in_flight: usize,
    /// Set once a request has come.
    requested: bool,
    idle_since: Instant,
}

/// A request in flight, until its response has been handed over to the connection as a whole.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Activity(Mutex::new(State { in_flight: 0, requested: false, idle_since: now })))
    }

    /// Counts a request until the returned value is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> InFlight {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight += 1;
        state.requested = true;
        InFlight(Arc::clone(self))
    }

    /// Returns the time until the next check, or `None` if the connection has been idle for too long.
    pub(super) fn next_check(&self, now: Instant, limits: &Limits) -> Option<Duration> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A request may come and go before the next check, after which the other limit applies.
        let shortest = limits.idle.min(limits.header);
        let allowed = if state.requested { limits.idle } else { limits.header };
        if state.in_flight > 0 {
            return Some(shortest);
        }
        let left =
            allowed.checked_sub(now.duration_since(state.idle_since)).filter(|left| !left.is_zero())?;
        Some(left.min(shortest))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight -= 1;
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_without_a_request_in_flight_becomes_idle() {
        let limits =
            Limits { header: Duration::from_secs(1), idle: Duration::from_secs(10), ..Limits::default() };
        let start = Instant::now();
        let activity = Activity::new(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(activity.next_check(start, &limits), Some(limits.header));
        assert_eq!(activity.next_check(after(1), &limits), None);
        let request = activity.begin_request();
        assert_eq!(activity.next_check(after(99), &limits), Some(limits.header));
        drop(request);
        assert!(activity.next_check(after(5), &limits).is_some());
        assert_eq!(activity.next_check(after(99), &limits), None);
    }
}
