//! The limit on connections, in all and per client.
//!
//! A full limit does not keep anybody out who has a token: a new connection takes the place of the oldest one over which
//! no valid credential has come. After a restart every client is unknown, and the owner, who then confirms an update,
//! may have the same address as an attacker.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::config::Limits;
use crate::identity::clients::Client;

/// Admits connections up to [`Limits::connections`] and [`Limits::connections_per_client`].
pub(super) struct ConnectionLimiter {
    seats: Arc<Mutex<Seats>>,
    limits: Limits,
}

/// The open connections, the oldest first.
#[derive(Debug, Default)]
struct Seats {
    next: u64,
    open: BTreeMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    client: Client,
    authenticated: Arc<AtomicBool>,
    /// Tells the connection, when dropped, that it has lost its seat.
    _lost: oneshot::Sender<Infallible>,
}

/// The seat of one connection; returned when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    seats: Arc<Mutex<Seats>>,
    number: u64,
    client: Client,
    authenticated: Arc<AtomicBool>,
    lost: oneshot::Receiver<Infallible>,
}

impl ConnectionLimiter {
    pub(super) fn new(limits: Limits) -> Self {
        ConnectionLimiter { seats: Arc::default(), limits }
    }

    /// Returns a permit for one connection of `client`, which may take the seat of another connection. Returns `None` if
    /// the limit is reached and a valid credential has come over every connection that could end.
    ///
    /// Unknown clients cannot use the last [`Limits::connections_kept`].
    pub(super) fn admit(&self, client: Client) -> Option<Permit> {
        let Limits { connections, connections_kept, connections_per_client, .. } = self.limits;
        let total = match client {
            Client::Known(_) => connections,
            Client::Unknown(_) => connections.saturating_sub(connections_kept),
        };
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.of(client).count() >= connections_per_client {
            seats.end_oldest(client)?;
        } else if seats.open.len() >= total {
            let greediest = seats.greediest()?;
            seats.end_oldest(greediest)?;
        }
        let (sender, lost) = oneshot::channel();
        let authenticated = Arc::new(AtomicBool::new(false));
        let number = seats.next;
        seats.next += 1;
        let seat = Seat { client, authenticated: Arc::clone(&authenticated), _lost: sender };
        seats.open.insert(number, seat);
        Some(Permit { seats: Arc::clone(&self.seats), number, client, authenticated, lost })
    }
}

impl Seats {
    fn of(&self, client: Client) -> impl Iterator<Item = (&u64, &Seat)> {
        self.open.iter().filter(move |(_, seat)| seat.client == client)
    }

    /// Returns the client with the most connections that can end; of several, the one with the oldest connection.
    fn greediest(&self) -> Option<Client> {
        let endable = |client| self.of(client).filter(|(_, seat)| seat.can_end()).count();
        // `max_by_key` returns the last of equals.
        let newest_first = self.open.values().rev().filter(|seat| seat.can_end());
        newest_first.map(|seat| seat.client).max_by_key(|client| endable(*client))
    }

    /// Takes the seat of the oldest connection of `client` that can end.
    fn end_oldest(&mut self, client: Client) -> Option<()> {
        let number = *self.of(client).find(|(_, seat)| seat.can_end())?.0;
        self.open.remove(&number).map(drop)
    }
}

impl Seat {
    fn can_end(&self) -> bool {
        !self.authenticated.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// The client it was issued to.
    pub(super) fn client(&self) -> Client {
        self.client
    }

    /// To be set once a valid credential has come over the connection, which then keeps its seat.
    pub(super) fn authenticated(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.authenticated)
    }

    /// Waits until another connection has taken the seat.
    pub(super) async fn lost(&mut self) {
        // The sender is only ever dropped.
        let Err(_dropped) = (&mut self.lost).await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn limiter() -> ConnectionLimiter {
        ConnectionLimiter::new(Limits {
            connections: 4,
            connections_kept: 1,
            connections_per_client: 2,
            ..Limits::default()
        })
    }

    fn clients() -> [Client; 4] {
        [1, 2, 3, 4].map(|last| Client::Unknown([10, 0, 0, last].into()))
    }

    fn authenticated(permit: Permit) -> Permit {
        permit.authenticated().store(true, Ordering::Relaxed);
        permit
    }

    /// Returns for each permit true if it has lost its seat.
    fn lost<const N: usize>(permits: &mut [Permit; N]) -> [bool; N] {
        permits.each_mut().map(|permit| permit.lost.try_recv() == Err(TryRecvError::Closed))
    }

    #[test]
    fn authenticated_connections_leave_seats_to_known_clients() {
        let limiter = limiter();
        let [one, two, three, _] = clients();
        let held = [one, one, two].map(|client| authenticated(limiter.admit(client).unwrap()));
        assert!(limiter.admit(one).is_none() && limiter.admit(three).is_none());
        assert!(limiter.admit(Client::Known([10, 0, 0, 3].into())).is_some());
        drop(held);
        assert!(limiter.admit(three).is_some());
        assert!(limiter.seats.lock().unwrap().open.is_empty());
    }

    #[test]
    fn client_over_its_limit_loses_its_own_oldest_connection() {
        let limiter = limiter();
        let [one, two, ..] = clients();
        let mut held = [two, one, one].map(|client| limiter.admit(client).unwrap());
        let _newest = limiter.admit(one).unwrap();
        assert_eq!(lost(&mut held), [false, true, false]);
        drop(held);
        assert_eq!(limiter.seats.lock().unwrap().open.len(), 1, "a lost seat is returned once");
    }

    #[test]
    fn newcomer_takes_a_seat_of_the_client_with_the_most() {
        let limiter = limiter();
        let [one, two, three, four] = clients();
        let mut held = [one, two, two].map(|client| limiter.admit(client).unwrap());
        let owner = authenticated(limiter.admit(three).unwrap());
        assert_eq!(lost(&mut held), [false, true, false]);
        // The others have one each. The oldest that is not authenticated makes way.
        let _newest = limiter.admit(four).unwrap();
        assert_eq!(lost(&mut held), [true, true, false]);
        assert_eq!(lost(&mut [owner]), [false]);
    }
}
