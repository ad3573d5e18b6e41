//! The client's state machine. Source: RFC 2131, section 4.4 and figure 5.
//!
//! Not supported: DECLINE after an ARP probe; RELEASE, because an appliance requests the same address after a restart.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::packet::{Reply, ReplyKind, Request, RequestKind, Route, parse};
use crate::net::own_addresses::is_no_other_machine;

/// The first retry interval, which doubles up to [`MAX_RETRY_INTERVAL`].
const MIN_RETRY_INTERVAL: Duration = Duration::from_secs(1);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(64);

/// Requests for an offered address before the client searches for another offer.
const MAX_REQUESTS: u32 = 4;

/// The shortest lease time in seconds. A shorter one is extended: a server that grants one second must not keep the
/// network busy.
const MIN_LEASE_TIME: u32 = 60;

/// The shortest interval between renewals. Source: RFC 2131, section 4.4.5.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// The prefix length if the server sends no subnet mask.
const DEFAULT_PREFIX: u8 = 24;

/// An address with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// Its subnet's prefix length.
    pub(crate) prefix: u8,
    /// The server that granted it.
    pub(crate) server: Ipv4Addr,
    /// Routes.
    pub(crate) routes: Vec<Route>,
    /// Name servers.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub(crate) ntp: Vec<Ipv4Addr>,
    /// The lease time.
    pub(crate) duration: Duration,
    renew: Duration,
    rebind: Duration,
}

/// An action for the owner of the socket and the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send these bytes.
    Send(Vec<u8>, Target),
    /// Configure the interface with this lease, new or renewed.
    Configure(Lease),
    /// The lease has ended: remove its address.
    Release(Lease),
}

/// The destination of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// All hosts of the link.
    Broadcast,
    /// One server.
    Server(Ipv4Addr),
}

/// A client for one interface.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    mac: [u8; 6],
    hostname: String,
    xid: u32,
    began: Duration,
    state: State,
    /// The address of the last lease, requested again after a restart.
    last: Option<Ipv4Addr>,
}

#[derive(Clone, Debug)]
enum State {
    Selecting {
        tries: u32,
        next: Duration,
    },
    Requesting {
        offer: Box<Lease>,
        tries: u32,
        next: Duration,
    },
    /// `since` is the time of the acknowledgement, `next` that of the next renewal.
    Bound {
        lease: Box<Lease>,
        since: Duration,
        next: Duration,
    },
}

impl Client {
    /// Returns a client that starts at `now`. `xid` should be random.
    pub(crate) fn new(mac: [u8; 6], hostname: &str, xid: u32, now: Duration) -> Self {
        Client {
            mac,
            hostname: hostname.to_owned(),
            xid,
            began: now,
            state: State::Selecting { tries: 0, next: now },
            last: None,
        }
    }

    /// Checks the lease after the cable was plugged in again, perhaps into another network. The lease stays in use until
    /// a server replies.
    pub(crate) fn carrier_gained(&mut self, now: Duration) {
        match &mut self.state {
            State::Bound { lease, next, since } => {
                // As after T2, any server of this link may reply.
                *next = now;
                lease.rebind = now.saturating_sub(*since);
                lease.renew = lease.rebind;
            }
            State::Selecting { .. } | State::Requesting { .. } => {
                self.began = now;
                self.state = State::Selecting { tries: 0, next: now };
            }
        }
    }

    /// Returns the lease in use.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Returns the time at which [`Client::tick`] is due.
    pub(crate) fn deadline(&self) -> Duration {
        match &self.state {
            State::Selecting { next, .. } | State::Requesting { next, .. } => *next,
            State::Bound { lease, since, next } => (*next).min(*since + lease.duration),
        }
    }

    /// Runs the timers that are due.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Output> {
        if now < self.deadline() {
            return Vec::new();
        }
        // Spreads the requests of devices that were switched on together. Source: RFC 2131, section 4.1.
        let jitter = Duration::from_millis(u64::from(self.xid % 500));
        match &mut self.state {
            State::Selecting { tries, next } => {
                *next = now + retry_interval(*tries) + jitter;
                *tries = tries.saturating_add(1);
                vec![self.discover(now)]
            }
            State::Requesting { tries, .. } if *tries >= MAX_REQUESTS => {
                self.restart(now);
                self.tick(now)
            }
            State::Requesting { tries, next, .. } => {
                *next = now + retry_interval(*tries) + jitter;
                *tries += 1;
                vec![self.request(now)]
            }
            State::Bound { lease, since, next } => {
                let end = *since + lease.duration;
                if now >= end {
                    let lease = (**lease).clone();
                    self.restart(now);
                    let mut outputs = vec![Output::Release(lease)];
                    // Searches at once: the machine has no address now.
                    outputs.extend(self.tick(now));
                    return outputs;
                }
                // Half of the time left to the next limit.
                let rebind = *since + lease.rebind;
                let limit = if now < rebind { rebind } else { end };
                *next = now + ((limit - now) / 2).max(MIN_RENEWAL_INTERVAL.min(limit - now));
                vec![self.renewal(now)]
            }
        }
    }

    /// Returns true if a message is a reply to this client.
    pub(crate) fn awaits(&self, bytes: &[u8]) -> bool {
        self.reply(bytes).is_some()
    }

    fn reply(&self, bytes: &[u8]) -> Option<Reply> {
        parse(bytes).filter(|reply| reply.xid == self.xid && reply.mac == self.mac)
    }

    /// Handles a message that the host `source` sent. Everything but a reply to this client's last request is ignored, and
    /// so is a server that is this machine by one of its `own` addresses: a service may pretend to be one.
    pub(crate) fn receive(
        &mut self,
        now: Duration,
        source: Ipv4Addr,
        bytes: &[u8],
        own: &[IpAddr],
    ) -> Vec<Output> {
        let Some(reply) = self.reply(bytes) else { return Vec::new() };
        let is_own = |server: Ipv4Addr| is_no_other_machine(server.into()) || own.contains(&server.into());
        if is_own(source) || reply.server.is_some_and(is_own) {
            return Vec::new();
        }
        match (&self.state, reply.kind) {
            (State::Selecting { .. }, ReplyKind::Offer) => match lease_of(&reply, None) {
                Some(offer) => {
                    self.state = State::Requesting { offer: Box::new(offer), tries: 0, next: now };
                    self.tick(now)
                }
                None => Vec::new(),
            },
            (State::Requesting { offer, .. }, ReplyKind::Ack) => match lease_of(&reply, Some(offer.server)) {
                Some(lease) => self.bind(now, lease),
                None => Vec::new(),
            },
            (State::Requesting { offer, .. }, ReplyKind::Nak)
                // A rejection by another server does not concern this offer.
                if reply.server.is_none_or(|server| server == offer.server) =>
            {
                self.restart(now);
                Vec::new()
            }
            (State::Bound { lease, since, next }, ReplyKind::Ack) => {
                // An acknowledgement without a request is a duplicate or forged.
                let requested = *next > *since + lease.renew || now >= *since + lease.renew;
                match lease_of(&reply, Some(lease.server)) {
                    Some(renewed) if requested && renewed.address == lease.address => self.bind(now, renewed),
                    _ => Vec::new(),
                }
            }
            // Before the first renewal no request is open, so a rejection is late or forged.
            (State::Bound { lease, since, .. }, ReplyKind::Nak) if now >= *since + lease.renew => {
                let lease = (**lease).clone();
                self.restart(now);
                vec![Output::Release(lease)]
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, now: Duration, lease: Lease) -> Vec<Output> {
        self.last = Some(lease.address);
        self.state = State::Bound { lease: Box::new(lease.clone()), since: now, next: now + lease.renew };
        vec![Output::Configure(lease)]
    }

    fn restart(&mut self, now: Duration) {
        // A new transaction number, so that late replies to the old one are ignored.
        // A linear congruential generator (Numerical Recipes): the numbers must differ, not be unpredictable.
        self.xid = self.xid.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        self.began = now;
        self.state = State::Selecting { tries: 0, next: now };
    }

    fn discover(&self, now: Duration) -> Output {
        Output::Send(self.message(now, RequestKind::Discover, None, self.last, None), Target::Broadcast)
    }

    fn request(&self, now: Duration) -> Output {
        let State::Requesting { offer, .. } = &self.state else { return self.discover(now) };
        let bytes = self.message(now, RequestKind::Request, None, Some(offer.address), Some(offer.server));
        Output::Send(bytes, Target::Broadcast)
    }

    fn renewal(&self, now: Duration) -> Output {
        let State::Bound { lease, since, .. } = &self.state else { return self.discover(now) };
        let bytes = self.message(now, RequestKind::Request, Some(lease.address), None, None);
        let rebinding = now >= *since + lease.rebind;
        Output::Send(bytes, if rebinding { Target::Broadcast } else { Target::Server(lease.server) })
    }

    fn message(
        &self,
        now: Duration,
        kind: RequestKind,
        current: Option<Ipv4Addr>,
        requested: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
    ) -> Vec<u8> {
        let seconds = now.saturating_sub(self.began).as_secs().try_into().unwrap_or(u16::MAX);
        Request {
            kind,
            xid: self.xid,
            seconds,
            mac: self.mac,
            current,
            requested,
            server,
            hostname: &self.hostname,
        }
        .encode()
    }
}

fn retry_interval(tries: u32) -> Duration {
    MIN_RETRY_INTERVAL.saturating_mul(1 << tries.min(10)).min(MAX_RETRY_INTERVAL)
}

/// Returns the lease that a reply grants, if its address is usable. `server` replaces a missing server identifier.
fn lease_of(reply: &Reply, server: Option<Ipv4Addr>) -> Option<Lease> {
    let address = reply.address;
    let server = reply.server.or(server)?;
    let usable = !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0);
    let prefix = reply.prefix.unwrap_or(DEFAULT_PREFIX);
    if !usable || !(1..=32).contains(&prefix) {
        return None;
    }
    let seconds = reply.lease?.max(MIN_LEASE_TIME);
    let duration = Duration::from_secs(seconds.into());
    let timers = reply.renew.zip(reply.rebind).filter(|(t1, t2)| 0 < *t1 && t1 < t2 && *t2 < seconds);
    let (renew, rebind) = match timers {
        // Contradictory timers count as none. The defaults are those of RFC 2131, section 4.4.5.
        Some((t1, t2)) => (Duration::from_secs(t1.into()), Duration::from_secs(t2.into())),
        None => (duration / 2, duration * 7 / 8),
    };
    Some(Lease {
        address,
        prefix,
        server,
        routes: reply.routes.clone(),
        dns: reply.dns.clone(),
        ntp: reply.ntp.clone(),
        duration,
        renew,
        rebind,
    })
}

#[cfg(test)]
mod tests;
