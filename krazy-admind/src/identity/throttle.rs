//! Wrong credentials cost time, per client: the more of them, the longer the next answer takes.
//!
//! A credential is looked at when it comes, and a right one passes: a neighbour's mistakes are not its own. The
//! answers to wrong ones are put in a row, so that sending many at once gains nothing. When the row is longer than
//! [`MAX_WAIT`], what comes is looked at no sooner than after that time, right or wrong: nobody learns from a quick
//! answer, or from its absence, about more guesses than fit in the row. A right one passes then, too.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::identity::clients::Client;

/// The first wrong credentials are free: people mistype.
const FREE: u32 = 3;
/// What the next one costs; each further one costs twice as much.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The most that one costs.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The longest row.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(15);
/// After this time without attempts, a client starts anew.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// Clients remembered; 48 bytes each.
const MAX_CLIENTS: usize = 1024;

/// Who tried what; see the module.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    clients: HashMap<Client, Entry>,
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    /// When the row ends.
    next: Instant,
}

impl Throttle {
    /// How long the row of `client` is, if it is too long to look at once at what comes.
    pub(crate) fn overfull(&self, client: Client, now: Instant) -> Option<Duration> {
        let wait = self.clients.get(&client)?.next.saturating_duration_since(now);
        (wait > MAX_WAIT).then_some(wait)
    }

    /// A credential was wrong; returns after which time to say so.
    pub(crate) fn failed(&mut self, client: Client, now: Instant) -> Duration {
        if !self.clients.contains_key(&client) && self.clients.len() >= MAX_CLIENTS {
            self.make_room(now);
        }
        let entry = self.clients.entry(client).or_insert(Entry { failures: 0, next: now });
        if entry.is_forgotten(now) {
            entry.failures = 0;
        }
        let turn = entry.next.max(now);
        entry.failures = entry.failures.saturating_add(1);
        entry.next = turn + delay(entry.failures);
        turn.saturating_duration_since(now)
    }

    /// Drops what is forgotten; if that is nothing, the client that has been quiet for longest.
    fn make_room(&mut self, now: Instant) {
        self.clients.retain(|_, entry| !entry.is_forgotten(now));
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, entry)| entry.next).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.clients.remove(&oldest);
            }
        }
    }
}

impl Entry {
    fn is_forgotten(&self, now: Instant) -> bool {
        self.next + FORGET <= now
    }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE + 1) {
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
    fn waits_double_up_to_the_limit() {
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
        // Its last answer is due, and one more delay: then the time to forget begins.
        let later = now + MAX_DELAY + FORGET;
        assert_eq!(throttle.failed(client(1), later - Duration::from_millis(1)), Duration::ZERO);
        assert_eq!(throttle.failed(client(1), later), MAX_DELAY - Duration::from_millis(1));
        let anew = later + 2 * MAX_DELAY + FORGET;
        for _ in 0..=FREE {
            assert_eq!(throttle.failed(client(1), anew), Duration::ZERO);
        }
    }

    #[test]
    fn many_at_once_gain_nothing() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let mut answers = 0;
        while throttle.overfull(client(1), now).is_none() {
            assert!(throttle.failed(client(1), now) <= MAX_WAIT);
            answers += 1;
        }
        assert!((8..=12).contains(&answers), "{answers} answers within {MAX_WAIT:?}");
        assert!(throttle.overfull(client(2), now).is_none());
        let wait = throttle.overfull(client(1), now).unwrap();
        assert!(wait <= MAX_WAIT + MAX_DELAY);
        assert_eq!(throttle.overfull(client(1), now + MAX_DELAY), None);
    }

    #[test]
    fn the_table_is_bounded() {
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
