//! How many connections there are, from where, and which of them do nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;

/// The connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    /// A place for a connection from `address`; `None` if there are too many already.
    pub(crate) fn seat(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Seat> {
        let address = address.to_canonical();
        let mut table = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        if table.values().sum::<usize>() >= limits.connections {
            return None;
        }
        let own = table.entry(address).or_default();
        // The entry of an address with the limit exhausted was there before, so none is left behind empty.
        if *own >= limits.connections_per_address {
            return None;
        }
        *own += 1;
        Some(Seat { connections: Arc::clone(self), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.connections.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = table.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                table.remove(&self.address);
            }
        }
    }
}

/// What a connection is doing: how many requests are being answered, and since when there is none.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    requests: usize,
    /// Requests ever seen.
    seen: bool,
    since: Instant,
}

/// A request being answered, until its answer has been handed to the connection as a whole.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl Activity {
    pub(crate) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Activity(Mutex::new(State { requests: 0, seen: false, since: now })))
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests += 1;
        state.seen = true;
        InFlight(Arc::clone(self))
    }

    /// When to look again; `None` if the connection has been idle for too long.
    pub(crate) fn idle_until(&self, now: Instant, limits: &Limits) -> Option<Duration> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A request may come and go during the wait, after which the other limit counts.
        let shortest = limits.idle.min(limits.header);
        let allowed = if state.seen { limits.idle } else { limits.header };
        if state.requests > 0 {
            return Some(shortest);
        }
        let left = allowed.checked_sub(now.duration_since(state.since)).filter(|left| !left.is_zero())?;
        Some(left.min(shortest))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests -= 1;
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_seat() {
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        let connections = Arc::new(Connections::default());
        let [greedy, other]: [IpAddr; 2] = ["::ffff:10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let first = connections.seat(greedy, &limits).unwrap();
        let second = connections.seat("10.0.0.1".parse().unwrap(), &limits).unwrap();
        assert!(connections.seat(greedy, &limits).is_none());
        let third = connections.seat(other, &limits).unwrap();
        assert!(connections.seat(other, &limits).is_none(), "there are three seats in all");
        drop(second);
        assert!(connections.seat(other, &limits).is_some());
        drop((first, third));
        assert!(connections.per_address.lock().unwrap().is_empty());
    }

    #[test]
    fn idle_connections_are_found() {
        let limits =
            Limits { header: Duration::from_secs(1), idle: Duration::from_secs(10), ..Limits::default() };
        let start = Instant::now();
        let activity = Activity::new(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(activity.idle_until(start, &limits), Some(limits.header));
        assert_eq!(activity.idle_until(after(1), &limits), None);
        let request = activity.begin();
        assert_eq!(activity.idle_until(after(99), &limits), Some(limits.header));
        drop(request);
        assert!(activity.idle_until(after(5), &limits).is_some());
        assert_eq!(activity.idle_until(after(99), &limits), None);
    }
}
