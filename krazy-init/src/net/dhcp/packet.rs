//! DHCPv4 messages. Source: RFC 2131 section 2, RFC 2132, RFC 3442 (classless routes).
//!
//! Not supported: options in the `sname` and `file` fields (option 52), long options in several pieces (RFC 3396).

use std::net::Ipv4Addr;

/// The longest message taken; more than any Ethernet frame carries.
pub const MAX_PACKET: usize = 1500;

/// The shortest message servers must take: some drop shorter ones. Source: RFC 1542, section 2.1.
const MIN_PACKET: usize = 300;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Who has an address for me?
    Discover,
    /// I take (or keep) this address.
    Request,
}

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it says.
    pub kind: RequestKind,
    /// The transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub seconds: u16,
    /// The interface's Ethernet address.
    pub mac: [u8; 6],
    /// The address in use, while there is one.
    pub current: Option<Ipv4Addr>,
    /// The address asked for.
    pub wanted: Option<Ipv4Addr>,
    /// The server whose offer is taken.
    pub server: Option<Ipv4Addr>,
    /// The host name, for the server's table.
    pub hostname: &'a str,
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// You could have this.
    Offer,
    /// You have this.
    Ack,
    /// You do not.
    Nak,
}

/// A route to networks behind a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub network: Ipv4Addr,
    /// Its prefix length; 0 is the default route.
    pub prefix: u8,
    /// The next hop; 0.0.0.0 when the network is on the link.
    pub gateway: Ipv4Addr,
}

/// A message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub kind: ReplyKind,
    /// The transaction.
    pub xid: u32,
    /// Whom it is for.
    pub mac: [u8; 6],
    /// The address.
    pub address: Ipv4Addr,
    /// The server.
    pub server: Option<Ipv4Addr>,
    /// The subnet mask's prefix length.
    pub prefix: Option<u8>,
    /// Routes, from option 121 or else option 3.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Seconds the address may be used.
    pub lease: Option<u32>,
    /// Seconds until it should be renewed with its server.
    pub renew: Option<u32>,
    /// Seconds until it should be renewed with any server.
    pub rebind: Option<u32>,
}

impl Request<'_> {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; OPTIONS];
        bytes[0] = 1;
        bytes[1] = 1;
        bytes[2] = 6;
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        match self.current {
            Some(address) => bytes[12..16].copy_from_slice(&address.octets()),
            // Without an address only broadcasts reach an ordinary socket.
            None => bytes[10] = 0x80,
        }
        bytes[28..34].copy_from_slice(&self.mac);
        bytes[236..240].copy_from_slice(&COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            // Every value here is shorter than 256 bytes.
            bytes.extend([code, value.len() as u8]);
            bytes.extend(value);
        };
        option(53, &[if self.kind == RequestKind::Discover { 1 } else { 3 }]);
        let mut id = [1u8; 7];
        id[1..].copy_from_slice(&self.mac);
        option(61, &id);
        if let Some(address) = self.wanted {
            option(50, &address.octets());
        }
        if let Some(server) = self.server {
            option(54, &server.octets());
        }
        option(57, &(MAX_PACKET as u16).to_be_bytes());
        // Classless routes must be asked for before routers. Source: RFC 3442.
        option(55, &[1, 121, 3, 6, 42, 51, 54, 58, 59]);
        if !self.hostname.is_empty() && self.hostname.len() < 64 {
            option(12, self.hostname.as_bytes());
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(MIN_PACKET), 0);
        bytes
    }
}

/// Reads a server's message; `None` if it is none.
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    if bytes.len() < OPTIONS
        || bytes.len() > MAX_PACKET
        || bytes[..3] != [2, 1, 6]
        || bytes[236..240] != COOKIE
    {
        return None;
    }
    let mut kind = None;
    let mut classless = None;
    let mut routers = Vec::new();
    let mut reply = Reply {
        kind: ReplyKind::Nak,
        xid: u32::from_be_bytes(array(&bytes[4..8])?),
        mac: bytes[28..34].try_into().ok()?,
        address: Ipv4Addr::from(array(&bytes[16..20])?),
        server: None,
        prefix: None,
        routes: Vec::new(),
        dns: Vec::new(),
        ntp: Vec::new(),
        lease: None,
        renew: None,
        rebind: None,
    };
    let mut rest = &bytes[OPTIONS..];
    while let Some((code, tail)) = rest.split_first() {
        rest = tail;
        match code {
            0 => continue,
            255 => break,
            _ => {}
        }
        let (length, tail) = rest.split_first()?;
        let (value, tail) = tail.split_at_checked(usize::from(*length))?;
        rest = tail;
        let number = || array(value).map(u32::from_be_bytes);
        match code {
            1 => reply.prefix = prefix_of(value),
            3 => routers = addresses(value),
            6 => reply.dns = addresses(value),
            42 => reply.ntp = addresses(value),
            51 => reply.lease = number(),
            53 => {
                kind = match value {
                    [2] => Some(ReplyKind::Offer),
                    [5] => Some(ReplyKind::Ack),
                    [6] => Some(ReplyKind::Nak),
                    _ => None,
                }
            }
            54 => reply.server = array(value).map(Ipv4Addr::from),
            58 => reply.renew = number(),
            59 => reply.rebind = number(),
            121 => classless = classless_routes(value),
            _ => {}
        }
    }
    reply.kind = kind?;
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

/// The length of a contiguous mask.
fn prefix_of(value: &[u8]) -> Option<u8> {
    let mask = u32::from_be_bytes(array(value)?);
    (mask.leading_ones() + mask.trailing_zeros() == 32).then_some(mask.leading_ones() as u8)
}

/// Source: RFC 3442: prefix length, as many octets of the network as that takes, gateway.
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

/// A server's message, for tests.
#[cfg(test)]
pub fn reply_bytes(kind: u8, xid: u32, mac: [u8; 6], address: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0u8; OPTIONS];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[16..20].copy_from_slice(&address.octets());
    bytes[28..34].copy_from_slice(&mac);
    bytes[236..240].copy_from_slice(&COOKIE);
    bytes.extend([53, 1, kind]);
    for (code, value) in options {
        bytes.extend([*code, value.len() as u8]);
        bytes.extend(*value);
    }
    bytes.push(255);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    #[test]
    fn a_request_is_as_the_rfc_says() {
        let request = Request {
            kind: RequestKind::Request,
            xid: 0x1234_5678,
            seconds: 2,
            mac: MAC,
            current: None,
            wanted: Some(Ipv4Addr::new(10, 0, 2, 15)),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
            hostname: "weather",
        };
        let bytes = request.encode();
        assert!(bytes.len() >= MIN_PACKET);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 2, 0x80, 0]);
        assert_eq!(bytes[240..243], [53, 1, 3]);
        let text: Vec<u8> = [&[12u8, 7][..], b"weather"].concat();
        assert!(bytes.windows(text.len()).any(|window| window == text));
        let wanted = [50, 4, 10, 0, 2, 15];
        assert!(bytes.windows(6).any(|window| window == wanted));
    }

    #[test]
    fn an_offer_is_read() {
        let options: [(u8, &[u8]); 6] = [
            (1, &[255, 255, 255, 0]),
            (3, &[10, 0, 2, 2, 10, 0, 2, 9]),
            (6, &[10, 0, 2, 3]),
            (54, &[10, 0, 2, 2]),
            (51, &[0, 1, 81, 128]),
            (58, &[1]),
        ];
        let reply = parse(&reply_bytes(2, 7, MAC, Ipv4Addr::new(10, 0, 2, 15), &options)).unwrap();
        assert_eq!((reply.kind, reply.xid, reply.mac), (ReplyKind::Offer, 7, MAC));
        assert_eq!((reply.prefix, reply.lease, reply.renew), (Some(24), Some(86400), None));
        let gateway = Ipv4Addr::new(10, 0, 2, 2);
        assert_eq!(reply.routes, [Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway }]);
        assert_eq!(reply.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let options: [(u8, &[u8]); 2] =
            [(3, &[10, 0, 0, 1]), (121, &[0, 10, 0, 0, 2, 20, 172, 16, 16, 10, 0, 0, 3])];
        let reply = parse(&reply_bytes(5, 7, MAC, Ipv4Addr::LOCALHOST, &options)).unwrap();
        assert_eq!(reply.routes.len(), 2);
        assert_eq!(reply.routes[0].gateway, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!((reply.routes[1].network, reply.routes[1].prefix), (Ipv4Addr::new(172, 16, 16, 0), 20));
        assert_eq!(classless_routes(&[33, 1, 2, 3, 4, 5, 1, 2, 3, 4]), None);
    }

    #[test]
    fn odd_masks_are_none() {
        assert_eq!(prefix_of(&[255, 0, 255, 0]), None);
        assert_eq!(prefix_of(&[0, 0, 0, 0]), Some(0));
        assert_eq!(prefix_of(&[255, 255, 255, 255]), Some(32));
    }

    proptest! {
        #[test]
        fn reading_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            options in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = parse(&bytes);
            let mut packet = reply_bytes(2, 7, MAC, Ipv4Addr::LOCALHOST, &[]);
            packet.pop();
            packet.extend(options);
            let _ = parse(&packet);
        }
    }
}
