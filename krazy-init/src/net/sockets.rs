//! UDP sockets for DHCP, which work before an interface has an address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::dhcp::{CLIENT_PORT, SERVER_PORT, Target};

/// Opens a socket on port 68 of interface `name`.
///
/// An ordinary UDP socket is enough: requests ask for broadcast replies, and Linux delivers those to a socket that is
/// bound to the device even if that has no address. Not supported: servers that send to the new address all the same.
pub(crate) fn open(name: &str) -> io::Result<UdpSocket> {
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::sockopt::set_socket_broadcast(&socket, true)?;
    let length = libc::socklen_t::try_from(name.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and length are those of `name`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::net::bind(&socket, &SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT)))?;
    Ok(socket.into())
}

/// Sends a message.
pub(crate) fn send(socket: &UdpSocket, bytes: &[u8], target: Target) -> io::Result<()> {
    let address = match target {
        Target::Broadcast => Ipv4Addr::BROADCAST,
        Target::Server(server) => server,
    };
    socket.send_to(bytes, (address, SERVER_PORT)).map(drop)
}

/// Receives a message; `None` if the queue is empty. A message from another port than a server's becomes an empty one.
pub(crate) fn receive<'a>(socket: &UdpSocket, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    loop {
        match socket.recv_from(buffer) {
            Ok((length, sender)) if sender.port() == SERVER_PORT => return Some(&buffer[..length]),
            Ok(_) => return Some(&[]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
