//! The throttle of invalid credentials, per client: each one delays the next response more than the one before.
//!
//! A credential is checked when it comes, and a valid one is accepted at once, so that a client does not suffer from its
//! neighbours. Responses to invalid ones are queued, so that sending many at once gains nothing. While the queue is longer
//! than [`MAX_QUEUE`], every credential of the client is checked only after that time, valid or not: otherwise an
//! attacker could send a guess, and take the absence of a quick acceptance for the response.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::clients::Client;

/// Invalid credentials without a delay, for people who mistype.
const FREE_ATTEMPTS: u32 = 3;
/// The delay of the next one. Each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The limit of the delay.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The length of the queue up to which credentials are checked at once.
pub(super) const MAX_QUEUE: Duration = Duration::from_secs(15);
/// Time without attempts after which a client's failures are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// Clients remembered; 48 bytes each.
const MAX_CLIENTS: usize = 1024;

/// The failures of clients.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    clients: HashMap<Client, Entry>,
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    /// The end of the queue of responses.
    queue_end: Instant,
}

impl Throttle {
    /// Returns the length of the queue of `client` if it exceeds [`MAX_QUEUE`].
    pub(super) fn overlong_queue(&self, client: Client, now: Instant) -> Option<Duration> {
        let wait = self.clients.get(&client)?.queue_end.saturating_duration_since(now);
        (wait > MAX_QUEUE).then_some(wait)
    }

    /// Records an invalid credential. Returns the delay of the response.
    pub(super) fn failed(&mut self, client: Client, now: Instant) -> Duration {
        if !self.clients.contains_key(&client) && self.clients.len() >= MAX_CLIENTS {
            self.evict(now);
        }
        let entry = self.clients.entry(client).or_insert(Entry { failures: 0, queue_end: now });
        if entry.is_forgotten(now) {
            entry.failures = 0;
        }
        let turn = entry.queue_end.max(now);
        entry.failures = entry.failures.saturating_add(1);
        entry.queue_end = turn + delay(entry.failures);
        turn.saturating_duration_since(now)
    }

    /// Removes forgotten clients; if there are none, the one that has been inactive for longest.
    fn evict(&mut self, now: Instant) {
        self.clients.retain(|_, entry| !entry.is_forgotten(now));
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, entry)| entry.queue_end).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.clients.remove(&oldest);
            }
        }
    }
}

impl Entry {
    fn is_forgotten(&self, now: Instant) -> bool {
        self.queue_end + FORGET_AFTER <= now
    }
}

/// Returns the delay that the `failures`th failure adds.
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE_ATTEMPTS + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(MAX_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> Client {
        Client::Unknown(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        let mut throttle = Throttle::default();
        let mut now = Instant::now();
        let waits: Vec<_> = (0..12)
            .map(|_| {
                let wait = throttle.failed(client(1), now);
                now += wait;
                wait.as_millis()
            })
            .collect();
        assert_eq!(waits[..5], [0, 0, 0, 0, 100]);
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(waits.last(), Some(&5000));
        assert_eq!(throttle.failed(client(2), now), Duration::ZERO);
        // The time to forget starts when the queue ends, one delay after the last response.
        let later = now + MAX_DELAY + FORGET_AFTER;
        assert_eq!(throttle.failed(client(1), later - Duration::from_millis(1)), Duration::ZERO);
        assert_eq!(throttle.failed(client(1), later), MAX_DELAY - Duration::from_millis(1));
        let anew = later + 2 * MAX_DELAY + FORGET_AFTER;
        for _ in 0..=FREE_ATTEMPTS {
            assert_eq!(throttle.failed(client(1), anew), Duration::ZERO);
        }
    }

    #[test]
    fn concurrent_attempts_gain_nothing() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let mut responses = 0;
        while throttle.overlong_queue(client(1), now).is_none() {
            assert!(throttle.failed(client(1), now) <= MAX_QUEUE);
            responses += 1;
        }
        assert!((8..=12).contains(&responses), "{responses} responses within {MAX_QUEUE:?}");
        assert!(throttle.overlong_queue(client(2), now).is_none());
        let wait = throttle.overlong_queue(client(1), now).unwrap();
        assert!(wait <= MAX_QUEUE + MAX_DELAY);
        assert_eq!(throttle.overlong_queue(client(1), now + MAX_DELAY), None);
    }

    #[test]
    fn table_of_clients_is_bounded() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let client = |n: u32| Client::Unknown(IpAddr::from(n.to_be_bytes()));
        for n in 0..5000_u32 {
            throttle.failed(client(n), now + Duration::from_millis(n.into()));
        }
        assert_eq!(throttle.clients.len(), MAX_CLIENTS);
        assert!(throttle.clients.contains_key(&client(4999)));
    }
}
