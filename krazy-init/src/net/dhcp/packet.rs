//! DHCPv4 messages. Source: RFC 2131 section 2, RFC 2132, RFC 3442 (classless routes).
//!
//! Not supported: options in the `sname` and `file` fields (option 52), long options in several pieces (RFC 3396).

use std::net::Ipv4Addr;

use super::domains;

/// The longest message accepted, which is what an Ethernet frame carries. Sent as option 57.
pub(crate) const MAX_PACKET: usize = 1500;

/// The shortest message that servers must accept; some drop shorter ones. Source: RFC 1542, section 2.1.
const MIN_PACKET: usize = 300;

/// Offsets of the fixed fields. Source: RFC 2131, figure 1.
mod offset {
    pub(super) const OP: usize = 0;
    pub(super) const HTYPE: usize = 1;
    pub(super) const HLEN: usize = 2;
    pub(super) const XID: usize = 4;
    pub(super) const SECS: usize = 8;
    pub(super) const FLAGS: usize = 10;
    pub(super) const CIADDR: usize = 12;
    pub(super) const YIADDR: usize = 16;
    pub(super) const CHADDR: usize = 28;
    pub(super) const COOKIE: usize = 236;
    pub(super) const OPTIONS: usize = 240;
}

/// Option numbers. Source: RFC 2132, section 9.6 and elsewhere; RFC 3442 for classless routes, RFC 3397 for domains.
mod option {
    pub(super) const PAD: u8 = 0;
    pub(super) const SUBNET_MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DOMAIN_NAME_SERVER: u8 = 6;
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const DOMAIN_NAME: u8 = 15;
    pub(super) const INTERFACE_MTU: u8 = 26;
    pub(super) const NTP_SERVERS: u8 = 42;
    pub(super) const REQUESTED_ADDRESS: u8 = 50;
    pub(super) const LEASE_TIME: u8 = 51;
    pub(super) const MESSAGE_TYPE: u8 = 53;
    pub(super) const SERVER_IDENTIFIER: u8 = 54;
    pub(super) const PARAMETER_REQUEST_LIST: u8 = 55;
    pub(super) const MAX_MESSAGE_SIZE: u8 = 57;
    pub(super) const RENEWAL_TIME: u8 = 58;
    pub(super) const REBINDING_TIME: u8 = 59;
    pub(super) const CLIENT_IDENTIFIER: u8 = 61;
    pub(super) const DOMAIN_SEARCH: u8 = 119;
    pub(super) const CLASSLESS_ROUTES: u8 = 121;
    pub(super) const END: u8 = 255;
}

const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;

/// Hardware type and address length of Ethernet. Source: IANA, "Address Resolution Protocol Parameters".
const ETHERNET: u8 = 1;
const MAC_LEN: u8 = 6;

/// The high byte of the flags: the reply is to be broadcast.
const BROADCAST: u8 = 0x80;

/// Marks the start of options. Source: RFC 2131, section 3.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// The longest label of a host name. Source: RFC 1035, section 2.3.4.
const MAX_HOST_NAME: usize = 63;

/// The shortest packet that every host must accept, and so the least sensible MTU. Source: RFC 791, section 3.1.
const MIN_MTU: u16 = 576;

/// The parameters requested from a server. Classless routes must precede routers. Source: RFC 3442.
const REQUESTED: [u8; 12] = [
    option::SUBNET_MASK,
    option::CLASSLESS_ROUTES,
    option::ROUTER,
    option::DOMAIN_NAME_SERVER,
    option::DOMAIN_NAME,
    option::DOMAIN_SEARCH,
    option::INTERFACE_MTU,
    option::NTP_SERVERS,
    option::LEASE_TIME,
    option::SERVER_IDENTIFIER,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
];

/// Message types that a client sends, by their numbers in option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RequestKind {
    /// Searches for servers.
    Discover = 1,
    /// Accepts an offer, or renews a lease.
    Request = 3,
}

/// A message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// The message type.
    pub(super) kind: RequestKind,
    /// The transaction's number.
    pub(super) xid: u32,
    /// Seconds since the client began.
    pub(super) seconds: u16,
    /// The interface's MAC address.
    pub(super) mac: [u8; 6],
    /// The address in use, if any.
    pub(super) current: Option<Ipv4Addr>,
    /// The address requested.
    pub(super) requested: Option<Ipv4Addr>,
    /// The server whose offer is accepted.
    pub(super) server: Option<Ipv4Addr>,
    /// The host name, for the server's table.
    pub(super) hostname: &'a str,
}

/// Message types that a server sends, by their numbers in option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ReplyKind {
    /// Offers an address.
    Offer = 2,
    /// Grants the lease.
    Ack = 5,
    /// Rejects the request.
    Nak = 6,
}

impl ReplyKind {
    fn from_option(value: &[u8]) -> Option<Self> {
        [ReplyKind::Offer, ReplyKind::Ack, ReplyKind::Nak].into_iter().find(|kind| value == [*kind as u8])
    }
}

/// A route to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The network.
    pub(crate) network: Ipv4Addr,
    /// Its prefix length; 0 is the default route.
    pub(crate) prefix: u8,
    /// The next hop; 0.0.0.0 if the network is on the link.
    pub(crate) gateway: Ipv4Addr,
}

/// A message from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The message type.
    pub(super) kind: ReplyKind,
    /// The transaction's number.
    pub(super) xid: u32,
    /// The MAC address of the client.
    pub(super) mac: [u8; 6],
    /// The client's address.
    pub(super) address: Ipv4Addr,
    /// The server's identifier.
    pub(super) server: Option<Ipv4Addr>,
    /// The prefix length of the subnet mask.
    pub(super) prefix: Option<u8>,
    /// Routes, from option 121 or else from option 3.
    pub(super) routes: Vec<Route>,
    /// Name servers.
    pub(super) dns: Vec<Ipv4Addr>,
    /// Domains for names without a dot, from option 119 or else from option 15.
    pub(super) domains: Vec<String>,
    /// Time servers.
    pub(super) ntp: Vec<Ipv4Addr>,
    /// The longest packet of the link in bytes, at least [`MIN_MTU`].
    pub(super) mtu: Option<u16>,
    /// The lease time in seconds.
    pub(super) lease: Option<u32>,
    /// T1: seconds until the client renews the lease with its server.
    pub(super) renew: Option<u32>,
    /// T2: seconds until the client renews the lease with any server.
    pub(super) rebind: Option<u32>,
}

impl Request<'_> {
    /// Returns the bytes to send.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; offset::OPTIONS];
        let mut field = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        field(offset::OP, &[BOOTREQUEST]);
        field(offset::HTYPE, &[ETHERNET]);
        field(offset::HLEN, &[MAC_LEN]);
        field(offset::XID, &self.xid.to_be_bytes());
        field(offset::SECS, &self.seconds.to_be_bytes());
        match self.current {
            Some(address) => field(offset::CIADDR, &address.octets()),
            // Without an address only broadcasts reach an ordinary socket.
            None => field(offset::FLAGS, &[BROADCAST]),
        }
        field(offset::CHADDR, &self.mac);
        field(offset::COOKIE, &COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            // Every value here is shorter than 256 bytes.
            bytes.extend([code, value.len() as u8]);
            bytes.extend(value);
        };
        option(option::MESSAGE_TYPE, &[self.kind as u8]);
        // The identifier's type is the hardware type. Source: RFC 2132, section 9.14.
        option(option::CLIENT_IDENTIFIER, &[&[ETHERNET], &self.mac[..]].concat());
        if let Some(address) = self.requested {
            option(option::REQUESTED_ADDRESS, &address.octets());
        }
        if let Some(server) = self.server {
            option(option::SERVER_IDENTIFIER, &server.octets());
        }
        option(option::MAX_MESSAGE_SIZE, &(MAX_PACKET as u16).to_be_bytes());
        option(option::PARAMETER_REQUEST_LIST, &REQUESTED);
        if !self.hostname.is_empty() && self.hostname.len() <= MAX_HOST_NAME {
            option(option::HOST_NAME, self.hostname.as_bytes());
        }
        bytes.push(option::END);
        bytes.resize(bytes.len().max(MIN_PACKET), option::PAD);
        bytes
    }
}

/// Returns the address that a client's message says it has; 0.0.0.0 if none.
pub(in crate::net) fn client_address(bytes: &[u8]) -> Ipv4Addr {
    let field = bytes.get(offset::CIADDR..).and_then(|rest| rest.first_chunk::<4>());
    field.map_or(Ipv4Addr::UNSPECIFIED, |octets| Ipv4Addr::from(*octets))
}

/// Decodes a server's message; `None` if it is not one. A malformed option is skipped, because servers in use send
/// such; a truncated one invalidates the message.
pub(super) fn parse(bytes: &[u8]) -> Option<Reply> {
    if bytes.len() > MAX_PACKET
        || bytes.get(offset::OP..=offset::HLEN)? != [BOOTREPLY, ETHERNET, MAC_LEN]
        || bytes.get(offset::COOKIE..offset::OPTIONS)? != COOKIE
    {
        return None;
    }
    let mut kind = None;
    let mut classless = None;
    let mut routers = Vec::new();
    let mut searched = Vec::new();
    let mut reply = Reply {
        kind: ReplyKind::Nak,
        xid: u32::from_be_bytes(*bytes[offset::XID..].first_chunk()?),
        mac: *bytes[offset::CHADDR..].first_chunk()?,
        address: Ipv4Addr::from(*bytes[offset::YIADDR..].first_chunk::<4>()?),
        server: None,
        prefix: None,
        routes: Vec::new(),
        dns: Vec::new(),
        domains: Vec::new(),
        ntp: Vec::new(),
        mtu: None,
        lease: None,
        renew: None,
        rebind: None,
    };
    let mut rest = &bytes[offset::OPTIONS..];
    while let Some((code, tail)) = rest.split_first() {
        rest = tail;
        match *code {
            option::PAD => continue,
            option::END => break,
            _ => {}
        }
        let (length, tail) = rest.split_first()?;
        let (value, tail) = tail.split_at_checked(usize::from(*length))?;
        rest = tail;
        let number = || array(value).map(u32::from_be_bytes);
        match *code {
            option::SUBNET_MASK => reply.prefix = prefix_of(value),
            option::ROUTER => routers = addresses(value),
            option::DOMAIN_NAME_SERVER => reply.dns = addresses(value),
            option::DOMAIN_NAME => reply.domains = domains::of_text(value),
            option::DOMAIN_SEARCH => searched = domains::of_list(value),
            option::INTERFACE_MTU => {
                reply.mtu = value.try_into().ok().map(u16::from_be_bytes).filter(|mtu| *mtu >= MIN_MTU);
            }
            option::NTP_SERVERS => reply.ntp = addresses(value),
            option::LEASE_TIME => reply.lease = number(),
            option::MESSAGE_TYPE => kind = ReplyKind::from_option(value),
            option::SERVER_IDENTIFIER => reply.server = array(value).map(Ipv4Addr::from),
            option::RENEWAL_TIME => reply.renew = number(),
            option::REBINDING_TIME => reply.rebind = number(),
            option::CLASSLESS_ROUTES => classless = classless_routes(value),
            _ => {}
        }
    }
    reply.kind = kind?;
    if !searched.is_empty() {
        reply.domains = searched;
    }
    let default = |gateway: Ipv4Addr| Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway };
    reply.routes = classless.unwrap_or_else(|| routers.into_iter().take(1).map(default).collect());
    Some(reply)
}

fn array(bytes: &[u8]) -> Option<[u8; 4]> {
    bytes.try_into().ok()
}

fn addresses(value: &[u8]) -> Vec<Ipv4Addr> {
    value.chunks_exact(4).filter_map(array).map(Ipv4Addr::from).filter(|a| !a.is_unspecified()).collect()
}

/// Returns the prefix length of a contiguous mask.
fn prefix_of(value: &[u8]) -> Option<u8> {
    let mask = u32::from_be_bytes(array(value)?);
    (mask.leading_ones() + mask.trailing_zeros() == 32).then_some(mask.leading_ones() as u8)
}

/// Decodes option 121: for each route the prefix length, the octets of the network that it covers, and the gateway.
fn classless_routes(mut value: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((prefix, tail)) = value.split_first() {
        let (octets, tail) = tail.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (gateway, tail) = tail.split_at_checked(4)?;
        let mut network = [0u8; 4];
        network.get_mut(..octets.len())?.copy_from_slice(octets);
        routes.push(Route {
            network: network.into(),
            prefix: *prefix,
            gateway: Ipv4Addr::from(array(gateway)?),
        });
        value = tail;
    }
    routes.iter().all(|route| route.prefix <= 32).then_some(routes)
}

/// Returns the bytes of a server's message, for tests.
#[cfg(test)]
pub(super) fn reply_bytes(
    kind: u8,
    xid: u32,
    mac: [u8; 6],
    address: Ipv4Addr,
    options: &[(u8, &[u8])],
) -> Vec<u8> {
    let mut bytes = vec![0u8; offset::OPTIONS];
    let mut field = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    field(offset::OP, &[BOOTREPLY, ETHERNET, MAC_LEN]);
    field(offset::XID, &xid.to_be_bytes());
    field(offset::YIADDR, &address.octets());
    field(offset::CHADDR, &mac);
    field(offset::COOKIE, &COOKIE);
    bytes.extend([option::MESSAGE_TYPE, 1, kind]);
    for (code, value) in options {
        bytes.extend([*code, value.len() as u8]);
        bytes.extend(*value);
    }
    bytes.push(option::END);
    bytes
}

#[cfg(test)]
mod tests;
