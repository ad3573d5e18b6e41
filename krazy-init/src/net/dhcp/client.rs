//! The client's state machine. Source: RFC 2131, section 4.4 and figure 5.
//!
//! Not supported: DECLINE after an ARP probe; RELEASE, because an appliance requests the same address after a restart.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::lease::{Lease, lease_of};
use super::packet::{Reply, ReplyKind, Request, RequestKind, parse};
use crate::net::own_addresses::is_no_other_machine;

/// The first retry interval, which doubles up to [`MAX_RETRY_INTERVAL`].
const MIN_RETRY_INTERVAL: Duration = Duration::from_secs(1);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(64);

/// Requests for an offered address before the client searches for another offer.
const MAX_REQUESTS: u32 = 4;

/// The shortest interval between renewals. Source: RFC 2131, section 4.4.5.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

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
    /// The lease in use. It stays in use while another one is searched for, until its end.
    granted: Option<Box<Granted>>,
    /// The address of the last lease, requested again after a restart.
    last: Option<Ipv4Addr>,
    /// Rejected requests since the last lease.
    rejections: u32,
}

/// A lease with the time of its acknowledgement.
#[derive(Clone, Debug)]
struct Granted {
    lease: Lease,
    since: Duration,
}

impl Granted {
    fn renew(&self) -> Duration {
        self.since + self.lease.renew
    }

    fn rebind(&self) -> Duration {
        self.since + self.lease.rebind
    }

    fn end(&self) -> Duration {
        self.since + self.lease.duration
    }
}

/// `next` is the time of the next message.
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
    /// The cable was plugged in again: a server of this network has to say whether the lease still holds.
    Rebooting {
        tries: u32,
        next: Duration,
    },
    Bound {
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
            granted: None,
            last: None,
            rejections: 0,
        }
    }

    /// Checks the lease after the cable was plugged in again, perhaps into another network. The lease stays in use until
    /// a server says otherwise, or grants another one.
    pub(crate) fn carrier_gained(&mut self, now: Duration) {
        self.restart(now);
        if self.granted.is_some() {
            self.state = State::Rebooting { tries: 0, next: now };
        }
    }

    /// Returns the lease in use.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.granted.as_ref().map(|granted| &granted.lease)
    }

    /// Returns the time at which [`Client::tick`] is due.
    pub(crate) fn deadline(&self) -> Duration {
        let next = match &self.state {
            State::Selecting { next, .. }
            | State::Requesting { next, .. }
            | State::Rebooting { next, .. }
            | State::Bound { next } => *next,
        };
        self.granted.as_ref().map_or(next, |granted| next.min(granted.end()))
    }

    /// Runs the timers that are due.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Output> {
        if now < self.deadline() {
            return Vec::new();
        }
        if let Some(ended) = self.granted.take_if(|granted| now >= granted.end()) {
            // Searches at once: the machine has no address now.
            if !matches!(self.state, State::Requesting { .. }) {
                self.restart(now);
            }
            let mut outputs = vec![Output::Release(ended.lease)];
            outputs.extend(self.tick(now));
            return outputs;
        }
        // Spreads the requests of devices that were switched on together. Source: RFC 2131, section 4.1.
        let jitter = Duration::from_millis(u64::from(self.xid % 500));
        match (&mut self.state, &self.granted) {
            (State::Selecting { tries, next }, _) => {
                *next = now + retry_interval(*tries) + jitter;
                *tries = tries.saturating_add(1);
                vec![self.discover(now)]
            }
            (State::Requesting { tries, next, .. } | State::Rebooting { tries, next }, _)
                if *tries < MAX_REQUESTS =>
            {
                *next = now + retry_interval(*tries) + jitter;
                *tries += 1;
                vec![self.request(now)]
            }
            (State::Bound { next }, Some(granted)) => {
                // Half of the time left to the next limit.
                let limit = if now < granted.rebind() { granted.rebind() } else { granted.end() };
                *next = now + ((limit - now) / 2).max(MIN_RENEWAL_INTERVAL.min(limit - now));
                vec![self.request(now)]
            }
            // Nobody replies: another server may.
            (State::Requesting { .. } | State::Rebooting { .. } | State::Bound { .. }, _) => {
                self.restart(now);
                self.tick(now)
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
                // A server that offers and rejects for ever must not keep the machine and the network busy.
                let next = now + retry_interval(self.rejections);
                self.state = State::Selecting { tries: 0, next };
                self.rejections = self.rejections.saturating_add(1);
                self.last = None;
                Vec::new()
            }
            // Without a request, an acknowledgement is a duplicate or forged, and so is a rejection.
            (_, ReplyKind::Ack) if self.has_asked(now) => {
                let Some(granted) = &self.granted else { return Vec::new() };
                match lease_of(&reply, Some(granted.lease.server)) {
                    Some(renewed) if renewed.address == granted.lease.address => self.bind(now, renewed),
                    _ => Vec::new(),
                }
            }
            (_, ReplyKind::Nak) if self.has_asked(now) => {
                let Some(rejected) = self.granted.take() else { return Vec::new() };
                self.restart(now);
                self.last = None;
                vec![Output::Release(rejected.lease)]
            }
            _ => Vec::new(),
        }
    }

    /// Returns true while a request about the lease in use is open.
    fn has_asked(&self, now: Duration) -> bool {
        match (&self.state, &self.granted) {
            (State::Rebooting { tries, .. }, Some(_)) => *tries > 0,
            (State::Bound { next }, Some(granted)) => *next > granted.renew() || now >= granted.renew(),
            _ => false,
        }
    }

    fn bind(&mut self, now: Duration, lease: Lease) -> Vec<Output> {
        let mut outputs = Vec::new();
        // First: the kernel removes further addresses of a network together with its first one.
        if let Some(old) = self.granted.take()
            && old.lease.address != lease.address
        {
            outputs.push(Output::Release(old.lease));
        }
        self.last = Some(lease.address);
        self.rejections = 0;
        self.state = State::Bound { next: now + lease.renew };
        self.granted = Some(Box::new(Granted { lease: lease.clone(), since: now }));
        outputs.push(Output::Configure(lease));
        outputs
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

    /// Returns the request of the present state. Source: RFC 2131, section 4.3.2.
    fn request(&self, now: Duration) -> Output {
        let request =
            |current, requested, server| self.message(now, RequestKind::Request, current, requested, server);
        match (&self.state, &self.granted) {
            (State::Requesting { offer, .. }, _) => {
                Output::Send(request(None, Some(offer.address), Some(offer.server)), Target::Broadcast)
            }
            (State::Rebooting { .. }, Some(granted)) => {
                Output::Send(request(None, Some(granted.lease.address), None), Target::Broadcast)
            }
            (State::Bound { .. }, Some(granted)) => {
                let target = match now >= granted.rebind() {
                    true => Target::Broadcast,
                    false => Target::Server(granted.lease.server),
                };
                Output::Send(request(Some(granted.lease.address), None, None), target)
            }
            _ => self.discover(now),
        }
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

#[cfg(test)]
mod tests;
