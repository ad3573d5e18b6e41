//! How many connections there are, from where, and which of them do nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clients::Client;
use crate::config::Limits;
use crate::seats::{Seat, Seats};

/// The connections of a server.
pub(crate) type Connections = Seats<Client>;

/// A place for a connection of `client`; `None` if there are too many already.
pub(crate) fn seat(connections: &Arc<Connections>, client: Client, limits: &Limits) -> Option<Seat<Client>> {
    let total = match client {
        Client::Familiar(_) => limits.connections,
        Client::Strangers(_) => limits.connections.saturating_sub(limits.connections_kept),
    };
    connections.take(client, limits.connections_per_client, total)
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
    fn strangers_leave_seats_for_those_who_were_here() {
        let limits =
            Limits { connections: 4, connections_kept: 1, connections_per_client: 2, ..Limits::default() };
        let connections = Arc::new(Connections::default());
        let [one, two, three] =
            [1, 2, 3].map(|last| Client::Strangers(std::net::IpAddr::from([10, 0, 0, last])));
        let held = [one, one, two].map(|client| seat(&connections, client, &limits).unwrap());
        assert!(seat(&connections, three, &limits).is_none());
        let familiar = Client::Familiar([10, 0, 0, 3].into());
        assert!(seat(&connections, familiar, &limits).is_some());
        drop(held);
        assert!(seat(&connections, three, &limits).is_some());
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
