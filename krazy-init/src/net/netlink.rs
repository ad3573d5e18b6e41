//! The few messages of rtnetlink that addresses and routes need. Source: Linux `include/uapi/linux/rtnetlink.h`,
//! `netlink.h`; RFC 8106 for name servers in router advertisements.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const NEWNDUSEROPT: u16 = 68;
const ERROR: u16 = 2;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const REPLACE: u16 = 0x100;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;

/// Groups: links, IPv6 addresses, options of router advertisements.
const GROUPS: u32 = 1 | 0x100 | (1 << 19);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;
const ARPHRD_ETHER: u16 = 1;

/// Something the kernel told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An interface exists, or changed.
    Link(Link),
    /// An interface is gone.
    LinkGone(u32),
    /// An interface got an IPv6 address that is valid everywhere.
    GlobalAddress(u32),
    /// A router on the link offers these name servers for this long.
    NameServers(u32, Vec<Ipv6Addr>, Duration),
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its address, if it is an Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Whether it was switched on.
    pub is_up: bool,
    /// Whether a cable is plugged in.
    pub has_carrier: bool,
}

/// Two sockets: one to hear, one to ask.
#[derive(Debug)]
pub struct Netlink {
    listener: OwnedFd,
    requests: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens the sockets. Notices about what exists already come after [`Netlink::list_links`].
    pub fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, the default.
        let socket = |flags| rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
        let listener = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        rustix::net::bind(&listener, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
        let requests = socket(SocketFlags::CLOEXEC)?;
        rustix::net::bind(&requests, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Netlink { listener, requests, sequence: 0 })
    }

    /// The descriptor to wait on.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.listener
    }

    /// Asks for all interfaces; the answers are notices.
    pub fn list_links(&mut self) -> io::Result<()> {
        let message = Message::new(GETLINK, REQUEST | DUMP, &[0; 16]);
        rustix::net::send(&self.listener, &message.finish(0), SendFlags::empty())?;
        Ok(())
    }

    /// What the kernel told since the last call.
    pub fn notices(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut buffer = [0u8; 16 << 10];
        loop {
            match rustix::net::recv(&self.listener, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => return notices,
                Ok((_, length)) => parse(&buffer[..length.min(buffer.len())], &mut notices),
                Err(rustix::io::Errno::INTR) => {}
                // Some were lost: ask for everything again.
                Err(rustix::io::Errno::NOBUFS) if self.list_links().is_ok() => {}
                Err(_) => return notices,
            }
        }
    }

    /// Switches an interface on.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut body = [0u8; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        self.ask(Message::new(NEWLINK, REQUEST | ACK, &body))
    }

    /// Gives an interface an address, or a new lifetime to one it has; the kernel removes it at its end.
    pub fn add_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        prefix: u8,
        lifetime: Option<Duration>,
    ) -> io::Result<()> {
        let mut message = address_message(NEWADDR, REQUEST | ACK | CREATE | REPLACE, index, address, prefix);
        let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        if prefix < 31 {
            message.attribute(4, &(u32::from(address) | host_bits).to_be_bytes());
        }
        let seconds = lifetime.map_or(u32::MAX, |time| time.as_secs().try_into().unwrap_or(u32::MAX));
        let mut cache = [0u8; 16];
        cache[..4].copy_from_slice(&seconds.to_ne_bytes());
        cache[4..8].copy_from_slice(&seconds.to_ne_bytes());
        message.attribute(6, &cache);
        self.ask(message)
    }

    /// Takes an address away, and its routes with it.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.ask(address_message(DELADDR, REQUEST | ACK, index, address, prefix))
    }

    /// Adds a route. Interfaces with lower numbers are preferred when several lead to the same place.
    pub fn add_route(
        &mut self,
        index: u32,
        network: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
        source: Ipv4Addr,
    ) -> io::Result<()> {
        // Main table, protocol DHCP, unicast; a network on the link has link scope.
        let scope = if gateway.is_unspecified() { 253 } else { 0 };
        let body = [AF_INET, prefix, 0, 0, 254, 16, scope, 1, 0, 0, 0, 0];
        let mut message = Message::new(NEWROUTE, REQUEST | ACK | CREATE | REPLACE, &body);
        if prefix > 0 {
            message.attribute(1, &network.octets());
        }
        message.attribute(4, &index.to_ne_bytes());
        if !gateway.is_unspecified() {
            message.attribute(5, &gateway.octets());
        }
        message.attribute(6, &(1000 + index).to_ne_bytes());
        message.attribute(7, &source.octets());
        self.ask(message)
    }

    /// Sends a request and waits for the kernel's verdict, which comes at once.
    fn ask(&mut self, message: Message) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        rustix::net::send(&self.requests, &message.finish(self.sequence), SendFlags::empty())?;
        let mut buffer = [0u8; 4096];
        loop {
            let (_, length) = rustix::net::recv(&self.requests, &mut buffer[..], RecvFlags::empty())?;
            for (kind, sequence, body) in messages(&buffer[..length.min(buffer.len())]) {
                if kind == ERROR && sequence == self.sequence {
                    let code = body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
            }
        }
    }
}

fn address_message(kind: u16, flags: u16, index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    let mut body = [AF_INET, prefix, 0, 0, 0, 0, 0, 0];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(kind, flags, &body);
    message.attribute(2, &address.octets());
    message.attribute(1, &address.octets());
    message
}

/// A message under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0u8; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend(body);
        Message(bytes)
    }

    /// Values here are a few bytes, so the 16-bit length holds them.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Splits a datagram: type, sequence number and body of each message.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 4)?;
        let sequence = u32_at(bytes, 8)?;
        let body = bytes.get(16..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

/// Splits attributes: type and value of each.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn parse(bytes: &[u8], notices: &mut Vec<Notice>) {
    for (kind, _, body) in messages(bytes) {
        let notice = match kind {
            NEWLINK => parse_link(body),
            DELLINK => u32_at(body, 4).map(Notice::LinkGone),
            NEWADDR => parse_address(body),
            NEWNDUSEROPT => parse_name_servers(body),
            _ => None,
        };
        notices.extend(notice);
    }
}

fn parse_link(body: &[u8]) -> Option<Notice> {
    let ethernet = u16_at(body, 2)? == ARPHRD_ETHER;
    let index = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let mut link = Link {
        index,
        name: String::new(),
        mac: None,
        is_up: flags & IFF_UP != 0,
        has_carrier: flags & IFF_LOWER_UP != 0,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            1 if ethernet => link.mac = value.try_into().ok(),
            3 => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            _ => {}
        }
    }
    Some(Notice::Link(link))
}

fn parse_address(body: &[u8]) -> Option<Notice> {
    let (family, scope) = (*body.first()?, *body.get(3)?);
    (family == AF_INET6 && scope == 0).then_some(Notice::GlobalAddress(u32_at(body, 4)?))
}

/// Source: RFC 8106, section 5.1.
fn parse_name_servers(body: &[u8]) -> Option<Notice> {
    let index = u32_at(body, 4)?;
    let option = body.get(16..)?;
    let length = usize::from(*option.get(1)?) * 8;
    if option.first() != Some(&25) || length < 24 {
        return None;
    }
    let seconds = u32::from_be_bytes(option.get(4..8)?.try_into().ok()?);
    let servers = option
        .get(8..length)?
        .chunks_exact(16)
        .filter_map(|chunk| <[u8; 16]>::try_from(chunk).ok().map(Ipv6Addr::from))
        .collect();
    Some(Notice::NameServers(index, servers, Duration::from_secs(seconds.into())))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// How a name server is written in `resolv.conf`: link-local ones need their interface.
pub fn name_server(address: IpAddr, interface: &str) -> String {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => format!("{v6}%{interface}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_lists_its_loopback() {
        let mut netlink = Netlink::open().unwrap();
        netlink.list_links().unwrap();
        let mut links = Vec::new();
        for _ in 0..100 {
            links.extend(netlink.notices());
            if !links.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let is_loopback =
            |notice: &Notice| matches!(notice, Notice::Link(l) if l.name == "lo" && l.mac.is_none());
        assert!(links.iter().any(is_loopback), "{links:?}");
    }

    #[test]
    fn a_refusal_of_the_kernel_is_an_error() {
        let mut netlink = Netlink::open().unwrap();
        let error = netlink.add_address(0x7fff_fff0, Ipv4Addr::new(192, 0, 2, 1), 24, None).unwrap_err();
        assert!([Some(libc::ENODEV), Some(libc::EPERM)].contains(&error.raw_os_error()), "{error}");
    }

    #[test]
    fn name_servers_of_routers() {
        let mut body = vec![AF_INET6, 0, 24, 0];
        body.extend(3u32.to_ne_bytes());
        body.extend([134, 0, 0, 0, 0, 0, 0, 0]);
        body.extend([25, 3, 0, 0, 0, 0, 7, 8]);
        body.extend(Ipv6Addr::LOCALHOST.octets());
        let servers = Notice::NameServers(3, vec![Ipv6Addr::LOCALHOST], Duration::from_secs(1800));
        assert_eq!(parse_name_servers(&body), Some(servers));
        assert_eq!(name_server("fe80::1".parse().unwrap(), "eth0"), "fe80::1%eth0");
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u16..70) {
            let mut notices = Vec::new();
            parse(&bytes, &mut notices);
            parse(&Message::new(kind, 0, &bytes).finish(0), &mut notices);
        }
    }
}
