//! Wrong credentials cost time, per address: the more of them, the longer the next one waits.
//!
//! Attempts of one address are put in a row, so that sending many at once gains nothing. A right credential
//! waits in the same row, or the row would tell it apart; it is not locked out, though, unless the row is
//! longer than [`MAX_WAIT`]. Other addresses are not affected. An IPv6 client is its /64, of which it can
//! choose any address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The first wrong credentials are free: people mistype.
const FREE: u32 = 3;
/// What the next one costs; each further one costs twice as much.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The most that one costs.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The longest row.
const MAX_WAIT: Duration = Duration::from_secs(15);
/// After this time without attempts, an address starts anew.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// Addresses remembered; 48 bytes each.
const MAX_ADDRESSES: usize = 1024;

/// Who tried what; see the module.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    addresses: HashMap<IpAddr, Entry>,
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    /// When the next attempt may be looked at.
    next: Instant,
}

/// What to do with an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Look at it after this time.
    After(Duration),
    /// Refuse it; it may come back after this time.
    Refused(Duration),
}

impl Throttle {
    /// Puts an attempt from `address` in its row.
    pub(crate) fn admit(&mut self, address: IpAddr, now: Instant) -> Admission {
        let Some(entry) = self.addresses.get_mut(&network(address)) else {
            return Admission::After(Duration::ZERO);
        };
        let wait = entry.next.saturating_duration_since(now);
        if wait > MAX_WAIT {
            return Admission::Refused(wait);
        }
        entry.next = entry.next.max(now) + delay(entry.failures);
        Admission::After(wait)
    }

    /// The attempt was wrong.
    pub(crate) fn failed(&mut self, address: IpAddr, now: Instant) {
        let key = network(address);
        if !self.addresses.contains_key(&key) && self.addresses.len() >= MAX_ADDRESSES {
            self.make_room(now);
        }
        let entry = self.addresses.entry(key).or_insert(Entry { failures: 0, next: now });
        entry.failures = entry.failures.saturating_add(1);
        entry.next = entry.next.max(now + delay(entry.failures));
    }

    /// The attempt was right: the address starts anew.
    pub(crate) fn succeeded(&mut self, address: IpAddr) {
        self.addresses.remove(&network(address));
    }

    /// Drops what is forgotten; if that is nothing, the address that has been quiet for longest.
    fn make_room(&mut self, now: Instant) {
        self.addresses.retain(|_, entry| entry.next + FORGET > now);
        if self.addresses.len() >= MAX_ADDRESSES {
            let oldest = self.addresses.iter().min_by_key(|(_, entry)| entry.next).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.addresses.remove(&oldest);
            }
        }
    }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(MAX_DELAY),
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(throttle: &mut Throttle, address: IpAddr, now: Instant) -> Duration {
        let Admission::After(wait) = throttle.admit(address, now) else { panic!("refused") };
        throttle.failed(address, now + wait);
        wait
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        let (mut throttle, address) = (Throttle::default(), IpAddr::from([10, 0, 0, 1]));
        let mut now = Instant::now();
        let waits: Vec<_> = (0..12)
            .map(|_| {
                let wait = attempt(&mut throttle, address, now);
                now += wait;
                wait.as_millis()
            })
            .collect();
        assert_eq!(waits[..5], [0, 0, 0, 0, 100]);
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(waits.last(), Some(&5000));
        assert_eq!(throttle.admit(IpAddr::from([10, 0, 0, 2]), now), Admission::After(Duration::ZERO));
    }

    #[test]
    fn many_at_once_gain_nothing() {
        let (mut throttle, address) = (Throttle::default(), IpAddr::from([10, 0, 0, 1]));
        let now = Instant::now();
        (0..10).for_each(|_| throttle.failed(address, now));
        let admitted =
            (0..100).filter(|_| matches!(throttle.admit(address, now), Admission::After(_))).count();
        assert!((2..=4).contains(&admitted), "{admitted} attempts within {MAX_WAIT:?}");
        assert!(matches!(throttle.admit(address, now), Admission::Refused(wait) if wait > MAX_WAIT));
    }

    #[test]
    fn success_starts_anew() {
        let (mut throttle, address) = (Throttle::default(), IpAddr::from([10, 0, 0, 1]));
        let now = Instant::now();
        (0..10).for_each(|_| throttle.failed(address, now));
        throttle.succeeded(address);
        assert_eq!(throttle.admit(address, now), Admission::After(Duration::ZERO));
    }

    #[test]
    fn the_table_is_bounded_and_ipv6_counts_by_network() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..5000_u32 {
            throttle.failed(IpAddr::from(n.to_be_bytes()), now + Duration::from_millis(n.into()));
        }
        assert_eq!(throttle.addresses.len(), MAX_ADDRESSES);
        assert!(throttle.addresses.contains_key(&IpAddr::from(4999_u32.to_be_bytes())));
        let [one, two]: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap()];
        (0..10).for_each(|_| throttle.failed(one, now));
        assert_ne!(throttle.admit(two, now), Admission::After(Duration::ZERO));
    }
}
