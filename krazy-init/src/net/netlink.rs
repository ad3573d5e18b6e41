//! The rtnetlink messages that addresses and routes need. Source: Linux `include/uapi/linux/rtnetlink.h`, `netlink.h`;
//! RFC 8106 for name servers in router advertisements.
//!
//! `netlink-packet-route` lays the messages out. Of a link only the header and two attributes are decoded: its own
//! decoder reads all of some sixty attributes, fails on one of unknown length, and makes init 25 % larger.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use krazy_boot::manifest::network::Cidr;
use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NlasIterator,
};
use netlink_packet_route::AddressFamily as Family;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::dhcp::Route;

/// Links, IPv6 addresses, and options of router advertisements.
const GROUPS: u32 =
    (libc::RTMGRP_LINK | libc::RTMGRP_IPV6_IFADDR) as u32 | 1 << (libc::RTNLGRP_ND_USEROPT - 1);

/// Attributes of a link, after its header. Source: Linux `include/uapi/linux/if_link.h`.
const LINK_HEADER_LEN: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;

/// `struct nduseroptmsg` of rtnetlink.h: its length, and the offsets of the options' length and the interface's index. An
/// attribute with the router's address follows the options.
const USER_OPTION_HEADER_LEN: usize = 16;
const USER_OPTIONS_LEN: usize = 2;
const USER_OPTION_INDEX: usize = 4;
const NDUSEROPT_SRCADDR: u16 = 1;

/// The recursive DNS server option, whose length counts units of eight bytes. Source: RFC 8106, section 5.1.
const RDNSS: u8 = 25;
const RDNSS_UNIT: usize = 8;
const RDNSS_MIN_LEN: usize = 24;

/// The metric of the first interface's routes; each further interface gets a higher one.
const BASE_METRIC: u32 = 1000;

/// A prefix this long leaves no broadcast address. Source: RFC 3021.
const POINT_TO_POINT_PREFIX: u8 = 31;

/// A change that the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notification {
    /// An interface exists, or changed.
    Link(Link),
    /// The interface with this index is gone.
    LinkGone(u32),
    /// The interface with this index got an IPv6 address of global scope.
    GlobalAddress(u32),
    /// A router on the link of an interface offers name servers.
    NameServers(NameServers),
}

/// An offer of name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameServers {
    /// The index of the interface.
    pub(crate) index: u32,
    /// The address of the router.
    pub(crate) router: Ipv6Addr,
    /// Their addresses.
    pub(crate) servers: Vec<Ipv6Addr>,
    /// The time for which they may be used.
    pub(crate) lifetime: Duration,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its index.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// The MAC address of an Ethernet interface.
    pub(crate) mac: Option<[u8; 6]>,
    /// Set when it is administratively up.
    pub(crate) is_up: bool,
    /// Set when a cable is plugged in.
    pub(crate) has_carrier: bool,
}

/// Two rtnetlink sockets: one for notifications, one for requests.
#[derive(Debug)]
pub(crate) struct Netlink {
    listener: OwnedFd,
    requests: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens the sockets. Existing interfaces are reported after [`Netlink::list_links`].
    pub(crate) fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, the default.
        let socket = |flags| rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
        let listener = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        rustix::net::bind(&listener, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
        let requests = socket(SocketFlags::CLOEXEC)?;
        rustix::net::bind(&requests, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Netlink { listener, requests, sequence: 0 })
    }

    /// The descriptor to poll for notifications.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.listener
    }

    /// Requests a list of all interfaces, which arrives as notifications.
    pub(crate) fn list_links(&mut self) -> io::Result<()> {
        let message = encode(libc::RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 0, &LinkHeader::default());
        rustix::net::send(&self.listener, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Returns the notifications since the last call.
    pub(crate) fn notifications(&mut self) -> Vec<Notification> {
        let mut notifications = Vec::new();
        let mut buffer = [0u8; 16 << 10];
        loop {
            match rustix::net::recv(&self.listener, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => return notifications,
                Ok((_, length)) => parse(&buffer[..length.min(buffer.len())], &mut notifications),
                Err(rustix::io::Errno::INTR) => {}
                // The queue overflowed, so the state of every interface must be read again.
                Err(rustix::io::Errno::NOBUFS) if self.list_links().is_ok() => {}
                Err(_) => return notifications,
            }
        }
    }

    /// Sets an interface administratively up.
    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.request(libc::RTM_NEWLINK, 0, &link_up(index))
    }

    /// Sets the longest packet of an interface, in bytes.
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u16) -> io::Result<()> {
        self.request(libc::RTM_NEWLINK, 0, &LinkMtu { index, mtu: mtu.into() })
    }

    /// Adds an address to an interface, or renews the lifetime of an existing one. The kernel removes the address when
    /// its lifetime ends.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        prefix: u8,
        lifetime: Option<Duration>,
    ) -> io::Result<()> {
        let message = address_with_lifetime(index, address, prefix, lifetime);
        self.request(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message)
    }

    /// Removes an address and the routes that use it as their source.
    pub(crate) fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.request(libc::RTM_DELADDR, 0, &address_message(index, address, prefix))
    }

    /// Adds a route of the interface with this index, whose source is `address`. Among routes to the same network, that of the
    /// interface with the lowest index is preferred. A gateway outside of the address's network is taken to be on the link,
    /// as clouds have it.
    pub(crate) fn add_route(&mut self, index: u32, route: Route, address: Cidr) -> io::Result<()> {
        let message = route_message(index, route, address);
        self.request(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &message)
    }

    /// Removes a route that was added with the same arguments.
    pub(crate) fn remove_route(&mut self, index: u32, route: Route, address: Cidr) -> io::Result<()> {
        self.request(libc::RTM_DELROUTE, 0, &route_message(index, route, address))
    }

    /// Sends a request and waits for the kernel's acknowledgement, which it sends before `send` returns.
    fn request(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = encode(kind, NLM_F_REQUEST | NLM_F_ACK | flags, self.sequence, body);
        rustix::net::send(&self.requests, &message, SendFlags::empty())?;
        let mut buffer = [0u8; 4096];
        loop {
            let (_, length) = rustix::net::recv(&self.requests, &mut buffer[..], RecvFlags::empty())?;
            for message in messages(&buffer[..length.min(buffer.len())]) {
                if message.message_type() == NLMSG_ERROR && message.sequence_number() == self.sequence {
                    let code = message.payload().first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
            }
        }
    }
}

fn link_up(index: u32) -> LinkHeader {
    LinkHeader { index, flags: LinkFlags::Up, change_mask: LinkFlags::Up, ..LinkHeader::default() }
}

/// A request to set [`IFLA_MTU`]. The attributes of `netlink-packet-route` make init larger than this one.
struct LinkMtu {
    index: u32,
    mtu: u32,
}

impl Emitable for LinkMtu {
    fn buffer_len(&self) -> usize {
        LINK_HEADER_LEN + 8
    }

    fn emit(&self, buffer: &mut [u8]) {
        let header = LinkHeader { index: self.index, ..LinkHeader::default() };
        header.emit(&mut buffer[..LINK_HEADER_LEN]);
        let attribute = &mut buffer[LINK_HEADER_LEN..LINK_HEADER_LEN + 8];
        attribute[..2].copy_from_slice(&8u16.to_ne_bytes());
        attribute[2..4].copy_from_slice(&IFLA_MTU.to_ne_bytes());
        attribute[4..].copy_from_slice(&self.mtu.to_ne_bytes());
    }
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = Family::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    message
}

fn address_with_lifetime(
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
    lifetime: Option<Duration>,
) -> AddressMessage {
    let mut message = address_message(index, address, prefix);
    if prefix < POINT_TO_POINT_PREFIX {
        let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        message.attributes.push(AddressAttribute::Broadcast((u32::from(address) | host_bits).into()));
    }
    let mut cache = CacheInfo::default();
    // The kernel takes `u32::MAX` for an address without an end.
    cache.ifa_valid = lifetime.map_or(u32::MAX, |time| time.as_secs().try_into().unwrap_or(u32::MAX));
    cache.ifa_preferred = cache.ifa_valid;
    message.attributes.push(AddressAttribute::CacheInfo(cache));
    message
}

fn route_message(index: u32, route: Route, address: Cidr) -> RouteMessage {
    let Route { network, prefix, gateway } = route;
    let is_on_link = gateway.is_unspecified();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: Family::Inet,
        destination_prefix_length: prefix,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Dhcp,
        scope: if is_on_link { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        flags: if is_on_link || address.contains(gateway) { RouteFlags::empty() } else { RouteFlags::Onlink },
        ..RouteHeader::default()
    };
    let destination = (prefix > 0).then_some(RouteAttribute::Destination(RouteAddress::Inet(network)));
    let next_hop = (!is_on_link).then_some(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    message.attributes.extend(destination);
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.extend(next_hop);
    message.attributes.push(RouteAttribute::Priority(BASE_METRIC + index));
    message.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(address.0)));
    message
}

/// Returns the bytes of a message with its header.
fn encode(kind: u16, flags: u16, sequence: u32, body: &impl Emitable) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    let length = header.buffer_len() + body.buffer_len();
    // Requests are far below the 4 GiB that the field can count.
    header.length = length as u32;
    header.message_type = kind;
    header.flags = flags;
    header.sequence_number = sequence;
    let mut bytes = vec![0; length];
    header.emit(&mut bytes);
    body.emit(&mut bytes[header.buffer_len()..]);
    bytes
}

/// Splits a datagram into its messages, up to the first malformed one.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        bytes = bytes.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

pub(crate) fn parse(bytes: &[u8], notifications: &mut Vec<Notification>) {
    for message in messages(bytes) {
        let body = message.payload();
        let notification = match message.message_type() {
            libc::RTM_NEWLINK => parse_link(body),
            libc::RTM_DELLINK => {
                LinkHeader::parse(body).ok().map(|header| Notification::LinkGone(header.index))
            }
            libc::RTM_NEWADDR => parse_address(body),
            libc::RTM_NEWNDUSEROPT => parse_name_servers(body),
            _ => None,
        };
        notifications.extend(notification);
    }
}

fn parse_link(body: &[u8]) -> Option<Notification> {
    let header = LinkHeader::parse(body).ok()?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        is_up: header.flags.contains(LinkFlags::Up),
        has_carrier: header.flags.contains(LinkFlags::LowerUp),
    };
    for attribute in NlasIterator::new(body.get(LINK_HEADER_LEN..)?).map_while(Result::ok) {
        match attribute.kind() {
            IFLA_ADDRESS if header.link_layer_type == LinkLayerType::Ether => {
                link.mac = attribute.value().try_into().ok();
            }
            IFLA_IFNAME => {
                link.name = String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned();
            }
            _ => {}
        }
    }
    Some(Notification::Link(link))
}

fn parse_address(body: &[u8]) -> Option<Notification> {
    let header = AddressHeader::parse(body).ok()?;
    let is_global = header.family == Family::Inet6 && header.scope == AddressScope::Universe;
    is_global.then_some(Notification::GlobalAddress(header.index))
}

/// Decodes a message that `netlink-packet-route` does not support: `RTM_NEWNDUSEROPT` with a [`RDNSS`] option.
fn parse_name_servers(body: &[u8]) -> Option<Notification> {
    let index = u32::from_ne_bytes(*body.get(USER_OPTION_INDEX..)?.first_chunk()?);
    let options_len = u16::from_ne_bytes(*body.get(USER_OPTIONS_LEN..)?.first_chunk()?);
    let (option, attributes) = body.get(USER_OPTION_HEADER_LEN..)?.split_at_checked(options_len.into())?;
    let [kind, units, _, _, lifetime @ ..] = *option.first_chunk::<8>()?;
    let length = usize::from(units) * RDNSS_UNIT;
    if kind != RDNSS || length < RDNSS_MIN_LEN {
        return None;
    }
    let (servers, _) = option.get(RDNSS_UNIT..length)?.as_chunks::<16>();
    let servers = servers.iter().map(|server| Ipv6Addr::from(*server)).collect();
    let lifetime = Duration::from_secs(u32::from_be_bytes(lifetime).into());
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let router = attributes.find(|attribute| attribute.kind() == NDUSEROPT_SRCADDR)?;
    let router = Ipv6Addr::from(*router.value().first_chunk::<16>()?);
    Some(Notification::NameServers(NameServers { index, router, servers, lifetime }))
}

#[cfg(test)]
mod tests;
