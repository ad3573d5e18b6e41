//! The lease that a server grants.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::packet::{Reply, Route};

/// The lease time in seconds of a server that sends none, as udhcpc has it.
const DEFAULT_LEASE_TIME: u32 = 3600;

/// The shortest lease time in seconds. A shorter one is extended: a server that grants one second must not keep the
/// network busy.
const MIN_LEASE_TIME: u32 = 60;

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
    /// Domains in which programs look names up.
    pub(crate) domains: Vec<String>,
    /// Time servers.
    pub(crate) ntp: Vec<Ipv4Addr>,
    /// The longest packet of the link in bytes.
    pub(crate) mtu: Option<u16>,
    /// The lease time.
    pub(crate) duration: Duration,
    /// T1: the time until it is renewed with its server.
    pub(super) renew: Duration,
    /// T2: the time until it is renewed with any server.
    pub(super) rebind: Duration,
}

/// Returns the lease that a reply grants, if its address is usable. `server` replaces a missing server identifier.
pub(super) fn lease_of(reply: &Reply, server: Option<Ipv4Addr>) -> Option<Lease> {
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
    let seconds = reply.lease.unwrap_or(DEFAULT_LEASE_TIME).max(MIN_LEASE_TIME);
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
        domains: reply.domains.clone(),
        ntp: reply.ntp.clone(),
        mtu: reply.mtu,
        duration,
        renew,
        rebind,
    })
}
