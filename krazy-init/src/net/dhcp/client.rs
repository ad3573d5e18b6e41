//! The client's states. Source: RFC 2131, section 4.4 and figure 5. Not done: DECLINE after an ARP probe, RELEASE
//! (an appliance that restarts wants the same address again).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::packet::{Reply, ReplyKind, Request, RequestKind, Route, parse};

/// The first pause between tries; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// Tries to get an offered address before looking for another offer.
const MAX_REQUESTS: u32 = 4;

/// Shorter leases are taken for this long: a server that says 1 must not keep the network busy.
const SHORTEST_LEASE: u32 = 60;

/// How often renewal is tried at the least. Source: RFC 2131, section 4.4.5.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(60);

/// An address and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Its subnet's prefix length.
    pub prefix: u8,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Routes.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// How long it may be used from when it was given.
    pub duration: Duration,
    renew: Duration,
    rebind: Duration,
}

/// What the client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes.
    Send(Vec<u8>, Target),
    /// Use this lease, new or renewed.
    Configure(Lease),
    /// The lease is over: stop using its address.
    Release(Lease),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everyone on the link.
    Broadcast,
    /// A server.
    Server(Ipv4Addr),
}

/// A client for one interface.
#[derive(Clone, Debug)]
pub struct Client {
    mac: [u8; 6],
    hostname: String,
    xid: u32,
    began: Duration,
    state: State,
    /// The last address, asked for again.
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
    /// `since`: when the request that got the lease was sent. `next`: when to ask for renewal.
    Bound {
        lease: Box<Lease>,
        since: Duration,
        next: Duration,
    },
}

impl Client {
    /// A client that begins at `now`. `xid` should be random.
    pub fn new(mac: [u8; 6], hostname: &str, xid: u32, now: Duration) -> Self {
        Client {
            mac,
            hostname: hostname.to_owned(),
            xid,
            began: now,
            state: State::Selecting { tries: 0, next: now },
            last: None,
        }
    }

    /// The cable was plugged in again, perhaps elsewhere: asks anew, for the same address if possible. A lease
    /// stays in use until the answer.
    pub fn replugged(&mut self, now: Duration) {
        match &mut self.state {
            State::Bound { lease, next, since } => {
                // As after T2: whoever serves this link now answers.
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

    /// The lease in use.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// When [`Client::tick`] is due.
    pub fn deadline(&self) -> Duration {
        match &self.state {
            State::Selecting { next, .. } | State::Requesting { next, .. } => *next,
            State::Bound { lease, since, next } => (*next).min(*since + lease.duration),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) -> Vec<Output> {
        if now < self.deadline() {
            return Vec::new();
        }
        let jitter = Duration::from_millis(u64::from(self.xid % 500));
        match &mut self.state {
            State::Selecting { tries, next } => {
                *next = now + pause(*tries) + jitter;
                *tries = tries.saturating_add(1);
                vec![self.discover(now)]
            }
            State::Requesting { tries, .. } if *tries >= MAX_REQUESTS => {
                self.restart(now);
                self.tick(now)
            }
            State::Requesting { tries, next, .. } => {
                *next = now + pause(*tries) + jitter;
                *tries += 1;
                vec![self.request(now)]
            }
            State::Bound { lease, since, next } => {
                let end = *since + lease.duration;
                if now >= end {
                    let lease = (**lease).clone();
                    self.restart(now);
                    let mut outputs = vec![Output::Release(lease)];
                    outputs.extend(self.tick(now));
                    return outputs;
                }
                // Half of the time left to the next limit.
                let rebind = *since + lease.rebind;
                let limit = if now < rebind { rebind } else { end };
                *next = now + ((limit - now) / 2).max(SHORTEST_RENEWAL.min(limit - now));
                vec![self.renewal(now)]
            }
        }
    }

    /// Takes a message from the link. Anything that is not an answer to this client's question is ignored.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) -> Vec<Output> {
        let Some(reply) = parse(bytes).filter(|reply| reply.xid == self.xid && reply.mac == self.mac) else {
            return Vec::new();
        };
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
                if reply.server.is_none_or(|server| server == offer.server) =>
            {
                self.restart(now);
                Vec::new()
            }
            (State::Bound { lease, since, next }, ReplyKind::Ack) => {
                // An answer nobody asked for is a duplicate, or someone's try.
                let asked = *next > *since + lease.renew || now >= *since + lease.renew;
                match lease_of(&reply, Some(lease.server)) {
                    Some(renewed) if asked && renewed.address == lease.address => self.bind(now, renewed),
                    _ => Vec::new(),
                }
            }
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
        // Another transaction, so that late answers to this one are not taken for its.
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
        wanted: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
    ) -> Vec<u8> {
        let seconds = now.saturating_sub(self.began).as_secs().try_into().unwrap_or(u16::MAX);
        Request {
            kind,
            xid: self.xid,
            seconds,
            mac: self.mac,
            current,
            wanted,
            server,
            hostname: &self.hostname,
        }
        .encode()
    }
}

fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE)
}

/// A lease from a server's answer, if it makes sense. `server` stands in for one the answer does not name.
fn lease_of(reply: &Reply, server: Option<Ipv4Addr>) -> Option<Lease> {
    let address = reply.address;
    let server = reply.server.or(server)?;
    let usable = !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0);
    let prefix = reply.prefix.unwrap_or(24);
    if !usable || !(1..=32).contains(&prefix) {
        return None;
    }
    let seconds = reply.lease?.max(SHORTEST_LEASE);
    let duration = Duration::from_secs(seconds.into());
    let given = reply.renew.zip(reply.rebind).filter(|(t1, t2)| 0 < *t1 && t1 < t2 && *t2 < seconds);
    let (renew, rebind) = match given {
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
#[path = "client_tests.rs"]
mod tests;
