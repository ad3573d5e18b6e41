//! Sockets for DHCP, which work before an interface has an address.
//!
//! Messages are received by a packet socket. The kernel delivers to it only what comes from outside: a copy of this
//! machine's own broadcasts reaches every UDP socket, so a service could answer as a server. It also hears a reply to an
//! address that the interface does not have yet. Sources: packet(7), Linux `net/packet/af_packet.c`.
//!
//! Broadcasts are sent by it, too: for a UDP socket of an interface without an address, the kernel takes that of another
//! interface as the source. Messages to a server are sent by a UDP socket on port 68, which keeps the port from others; what
//! it would receive is dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::dhcp::{CLIENT_PORT, MAX_PACKET, SERVER_PORT, Target, client_address};
use super::ipv4::{self, MAX_HEADERS_LEN};

/// The longest packet of interest, with its headers.
pub(crate) const BUFFER_LEN: usize = MAX_PACKET + MAX_HEADERS_LEN;

/// IPv4 in Ethernet. Source: IANA, "IEEE 802 Numbers".
const ETHERTYPE_IPV4: u16 = 0x0800;

/// The flag of a packet whose checksum the sender left to its network card. Source: Linux
/// `include/uapi/linux/if_packet.h`, `TP_STATUS_CSUMNOTREADY`.
const CHECKSUM_NOT_READY: u32 = 1 << 3;

/// A filter that takes no packet.
const NOTHING: [libc::sock_filter; 1] = [statement(libc::BPF_RET | libc::BPF_K, 0)];

/// A filter that takes unfragmented UDP to port 68. Offsets are those of the IPv4 header. Source: Linux
/// `Documentation/networking/filter.rst`.
const TO_CLIENT_PORT: [libc::sock_filter; 9] = [
    statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 9),
    jump(libc::BPF_JEQ, 17, 0, 6),
    statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 6),
    jump(libc::BPF_JSET, 0x3fff, 4, 0),
    statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
    statement(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 2),
    jump(libc::BPF_JEQ, CLIENT_PORT as u32, 0, 1),
    statement(libc::BPF_RET | libc::BPF_K, BUFFER_LEN as u32),
    statement(libc::BPF_RET | libc::BPF_K, 0),
];

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(test: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt, jf, k }
}

/// The sockets of one interface.
#[derive(Debug)]
pub(crate) struct DhcpSockets {
    index: i32,
    packets: OwnedFd,
    sender: UdpSocket,
    mac: [u8; 6],
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// The message of a host that sent it from the port of servers, with its address.
    Message(Ipv4Addr, &'a [u8]),
    /// A packet that is none.
    Other,
}

impl DhcpSockets {
    /// Opens the sockets of the interface with this name, index and address.
    pub(crate) fn open(name: &str, index: u32, mac: [u8; 6]) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let sender = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        attach(&sender, &NOTHING)?;
        set_option(&sender, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_bytes())?;
        rustix::net::bind(&sender, &SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT)))
            .map_err(|error| io::Error::other(format!("port {CLIENT_PORT}: {error}")))?;
        let index = index.try_into().map_err(io::Error::other)?;
        Ok(DhcpSockets { index, packets: open_packet_socket(index)?, sender: sender.into(), mac })
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.packets
    }

    /// Sends a message, whose sender is the client's address in it.
    pub(crate) fn send(&self, bytes: &[u8], target: Target) -> io::Result<()> {
        match target {
            Target::Server(server) => self.sender.send_to(bytes, (server, SERVER_PORT)).map(drop),
            Target::Broadcast => {
                let source = client_address(bytes);
                let packet = ipv4::packet(source, Ipv4Addr::BROADCAST, (CLIENT_PORT, SERVER_PORT), bytes);
                broadcast(&self.packets, self.index, &packet)
            }
        }
    }

    /// Receives a packet; `None` if the queue is empty.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8; BUFFER_LEN]) -> Option<Received<'a>> {
        let (length, origin) = loop {
            match receive(&self.packets, buffer) {
                Ok(received) => break received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        };
        if !origin.is_from_outside(self.mac) {
            return Some(Received::Other);
        }
        let datagram = buffer.get(..length).and_then(|packet| ipv4::datagram(packet, origin.has_checksum));
        Some(match datagram {
            Some(datagram) if (datagram.source_port, datagram.target_port) == (SERVER_PORT, CLIENT_PORT) => {
                Received::Message(datagram.source, datagram.payload)
            }
            _ => Received::Other,
        })
    }
}

/// The kernel's description of a packet.
#[derive(Clone, Copy, Debug)]
struct Origin {
    /// `sll_pkttype`.
    kind: u8,
    /// The hardware address of the sender.
    mac: [u8; 6],
    has_checksum: bool,
}

impl Origin {
    /// Returns true for a packet that is for this machine and that another one sent.
    fn is_from_outside(&self, own: [u8; 6]) -> bool {
        [libc::PACKET_HOST, libc::PACKET_BROADCAST].contains(&self.kind) && self.mac != own
    }
}

/// Opens a packet socket of the interface with this index, which receives what [`TO_CLIENT_PORT`] takes.
fn open_packet_socket(index: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a system call on integers. Without a protocol nothing is received before the filter is there.
    let descriptor = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    attach(&socket, &TO_CLIENT_PORT)?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32.to_ne_bytes())?;
    let address = link_address(index);
    // SAFETY: pointer and length are those of the address, which outlives the call.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// Returns the address of IPv4 on an interface.
fn link_address(index: i32) -> libc::sockaddr_ll {
    // SAFETY: zero is a valid value of every field.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETHERTYPE_IPV4.to_be();
    address.sll_ifindex = index;
    address
}

/// Sends a packet to all hosts of an Ethernet link.
fn broadcast(socket: &OwnedFd, index: i32, packet: &[u8]) -> io::Result<()> {
    let mut address = link_address(index);
    address.sll_halen = 6;
    address.sll_addr[..6].fill(0xff);
    // SAFETY: pointers and lengths are those of the packet and the address, which outlive the call.
    let sent = unsafe {
        let target = (&raw const address).cast();
        let length = size_of_val(&address) as libc::socklen_t;
        libc::sendto(socket.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, target, length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches a filter to a socket.
fn attach(socket: &OwnedFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the structure is plain data, which the kernel only reads.
    let bytes =
        unsafe { std::slice::from_raw_parts((&raw const program).cast::<u8>(), size_of_val(&program)) };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, bytes)
}

fn set_option(socket: &OwnedFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: pointer and length are those of `value`, which outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a packet with its sender and the state of its checksum.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Origin)> {
    #[repr(align(8))]
    struct Control([u8; 128]);
    let mut control = Control([0; 128]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: zero is a valid value of every field of both.
    let (mut sender, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut sender).cast();
    message.msg_namelen = size_of_val(&sender) as libc::socklen_t;
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in the message is that of a buffer of the given length, which outlives the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut mac = [0; 6];
    mac.copy_from_slice(&sender.sll_addr[..6]);
    // SAFETY: the kernel has filled the control data, and the macros stay within its length.
    let has_checksum = unsafe {
        let mut has_checksum = true;
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while let Some(data) = header.as_ref() {
            if (data.cmsg_level, data.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                // The first field of `struct tpacket_auxdata`.
                let status = libc::CMSG_DATA(header).cast::<u32>().read_unaligned();
                has_checksum = status & CHECKSUM_NOT_READY == 0;
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
        has_checksum
    };
    Ok((length, Origin { kind: sender.sll_pkttype, mac, has_checksum }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn packets_of_this_machine_are_not_from_outside() {
        let is_from_outside = |kind, mac| Origin { kind, mac, has_checksum: true }.is_from_outside(OWN);
        assert!(is_from_outside(libc::PACKET_HOST, OTHER) && is_from_outside(libc::PACKET_BROADCAST, OTHER));
        for kind in
            [libc::PACKET_OUTGOING, libc::PACKET_LOOPBACK, libc::PACKET_OTHERHOST, libc::PACKET_MULTICAST]
        {
            assert!(!is_from_outside(kind, OTHER), "{kind}");
        }
        assert!(!is_from_outside(libc::PACKET_BROADCAST, OWN));
    }

    #[test]
    fn filter_takes_udp_to_the_client_port() {
        // Without a network of its own only root can try the filter, on the packets of the loopback interface.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let receiver = open_packet_socket(1).unwrap();
        let port = |port| (Ipv4Addr::LOCALHOST, port);
        let sender = UdpSocket::bind(port(0)).unwrap();
        let source = sender.local_addr().unwrap().port();
        for target in [69, CLIENT_PORT] {
            sender.send_to(b"offer", port(target)).unwrap();
        }
        let mut buffer = [0; BUFFER_LEN];
        let (length, origin) = receive(&receiver, &mut buffer).unwrap();
        let datagram = ipv4::datagram(&buffer[..length], origin.has_checksum).unwrap();
        assert_eq!((datagram.source, datagram.source_port), (Ipv4Addr::LOCALHOST, source));
        assert_eq!((datagram.target_port, datagram.payload), (CLIENT_PORT, &b"offer"[..]));
        assert_eq!(receive(&receiver, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
