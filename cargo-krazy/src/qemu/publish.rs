//! `--publish`: ports of the guest on the host.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::str::FromStr;

use serde::Serialize;

use crate::failure::{Exit, Explain, Result};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP, written `/udp`.
    Udp,
}

/// A forwarded port, written `[ADDR:]HOST:GUEST[/udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    /// The address the host listens on; port 0 until [`settle`] has found a free one.
    pub(crate) host: SocketAddrV4,
    /// The port in the guest.
    pub(crate) guest: u16,
    /// The transport.
    pub(crate) protocol: Protocol,
}

/// A forwarded port as a JSON message.
#[derive(Serialize)]
pub(crate) struct Published {
    host: SocketAddrV4,
    guest: u16,
    protocol: Protocol,
}

impl Publish {
    /// Returns the message that announces the port.
    pub(crate) fn message(&self) -> Published {
        Published { host: self.host, guest: self.guest, protocol: self.protocol }
    }

    /// Returns true if it leads to the guest's TCP `port`.
    pub(crate) fn is_for(&self, port: u16) -> bool {
        self.protocol == Protocol::Tcp && self.guest == port
    }

    /// Returns the address that a program on this machine connects to.
    pub(crate) fn reachable(&self) -> Ipv4Addr {
        if self.host.ip().is_unspecified() { Ipv4Addr::LOCALHOST } else { *self.host.ip() }
    }

    /// QEMU's `hostfwd` value. Source: qemu(1), `-netdev user`.
    pub(crate) fn hostfwd(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        format!("{protocol}:{}:{}-:{}", self.host.ip(), self.host.port(), self.guest)
    }
}

/// Prints as `127.0.0.1:8080 -> guest port 80`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let udp = if self.protocol == Protocol::Udp { "/udp" } else { "" };
        write!(f, "{} -> guest port {}{udp}", self.host, self.guest)
    }
}

/// A text that is no forwarded port.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    /// Another transport.
    #[error("`{0}` is neither tcp nor udp; {FORM}")]
    Protocol(String),
    /// Not a number below 65536.
    #[error("`{0}` is not a port; {FORM}")]
    Port(String),
    /// Not an IPv4 address.
    #[error("`{0}` is not an IPv4 address; {FORM}")]
    Address(String),
    /// Other than two or three parts.
    #[error("`{0}` is not a pair of ports; {FORM}")]
    Form(String),
    /// Port 0 in the guest.
    #[error("the guest has no port 0; {FORM}")]
    GuestPort,
}

/// The form of a forwarded port, for messages.
const FORM: &str = "write [ADDRESS:]HOST_PORT:GUEST_PORT[/udp], such as 8080:80";

/// Reads `8080:80`, `0.0.0.0:8080:80`, `5353:53/udp`. Host port 0 asks for any free port.
impl FromStr for Publish {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Self, PublishError> {
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => return Err(PublishError::Protocol(other.to_owned())),
        };
        let port = |text: &str| text.parse::<u16>().map_err(|_| PublishError::Port(text.to_owned()));
        let (address, host, guest) = match ports.split(':').collect::<Vec<_>>()[..] {
            [host, guest] => (Ipv4Addr::LOCALHOST, host, guest),
            [address, host, guest] => {
                // QEMU's user networking forwards from IPv4 addresses only.
                let parsed = address.parse().map_err(|_| PublishError::Address(address.to_owned()))?;
                (parsed, host, guest)
            }
            _ => return Err(PublishError::Form(text.to_owned())),
        };
        let publish =
            Publish { host: SocketAddrV4::new(address, port(host)?), guest: port(guest)?, protocol };
        if publish.guest == 0 {
            return Err(PublishError::GuestPort);
        }
        Ok(publish)
    }
}

/// Adds the guest's TCP `port` on any free loopback port, unless it is published already.
pub(crate) fn ensure(ports: &mut Vec<Publish>, port: u16) {
    if !ports.iter().any(|publish| publish.is_for(port)) {
        let host = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        ports.push(Publish { host, guest: port, protocol: Protocol::Tcp });
    }
}

/// Checks that every host port is free, and replaces port 0 by a free one. Nothing is listening afterwards;
/// QEMU does once it runs.
pub(crate) fn settle(ports: &mut [Publish]) -> Result<()> {
    // All are held until the end, so that a port asked for twice is found out, too.
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for publish in ports {
        let bound = match publish.protocol {
            Protocol::Tcp => TcpListener::bind(publish.host).and_then(|listener| {
                let address = listener.local_addr();
                tcp.push(listener);
                address
            }),
            Protocol::Udp => UdpSocket::bind(publish.host).and_then(|socket| {
                let address = socket.local_addr();
                udp.push(socket);
                address
            }),
        };
        publish.host.set_port(bound.map_err(|error| refused(publish, error))?.port());
    }
    Ok(())
}

fn refused(publish: &Publish, error: io::Error) -> ListenError {
    let Publish { host, guest, .. } = *publish;
    match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { host },
        io::ErrorKind::PermissionDenied => ListenError::Forbidden { host, guest },
        io::ErrorKind::AddrNotAvailable => ListenError::NoAddress { address: *host.ip() },
        _ => ListenError::Other { host, error },
    }
}

/// A host port that QEMU could not listen on.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("{host} is already in use")]
    InUse { host: SocketAddrV4 },
    #[error("this user may not listen on {host}")]
    Forbidden { host: SocketAddrV4, guest: u16 },
    #[error("this machine does not have the address {address}")]
    NoAddress { address: Ipv4Addr },
    #[error("failed to listen on {host}: {error}")]
    Other { host: SocketAddrV4, error: io::Error },
}

impl Explain for ListenError {
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    fn help(&self) -> Option<String> {
        match self {
            ListenError::InUse { .. } => {
                Some("choose another host port with `--publish`, or 0 for any free one".to_owned())
            }
            ListenError::Forbidden { host, guest } => {
                // Users may listen on ports from 1024 on; 80 becomes 8080, 443 becomes 8443.
                let port = host.port().wrapping_add(8000);
                Some(format!("choose another host port: `--publish {port}:{guest}`"))
            }
            ListenError::NoAddress { .. } => {
                Some("leave it out for 127.0.0.1, or give 0.0.0.0 for all".to_owned())
            }
            ListenError::Other { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for (text, hostfwd, shown) in [
            ("8080:80", "tcp:127.0.0.1:8080-:80", "127.0.0.1:8080 -> guest port 80"),
            ("8080:80/tcp", "tcp:127.0.0.1:8080-:80", "127.0.0.1:8080 -> guest port 80"),
            ("0.0.0.0:8443:443", "tcp:0.0.0.0:8443-:443", "0.0.0.0:8443 -> guest port 443"),
            ("5353:53/udp", "udp:127.0.0.1:5353-:53", "127.0.0.1:5353 -> guest port 53/udp"),
        ] {
            let publish: Publish = text.parse().unwrap();
            assert_eq!((publish.hostfwd().as_str(), publish.to_string().as_str()), (hostfwd, shown));
        }
    }

    #[test]
    fn malformed_port_is_named() {
        for (text, start) in [
            ("80", "`80` is not a pair of ports; write"),
            ("99999:80", "`99999` is not a port;"),
            ("8080:http", "`http` is not a port;"),
            ("8080:0", "the guest has no port 0;"),
            ("nowhere:1:2", "`nowhere` is not an IPv4 address;"),
            ("::1:1:2", "`::1:1:2` is not a pair of ports;"),
            ("1:2/sctp", "`sctp` is neither tcp nor udp;"),
        ] {
            let error = text.parse::<Publish>().unwrap_err();
            assert!(error.to_string().starts_with(start), "{error}");
        }
    }

    #[test]
    fn taken_port_is_named_and_zero_finds_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut ports = [format!("{}:80", address.port()).parse().unwrap()];
        let error = settle(&mut ports).unwrap_err();
        assert_eq!(error.to_string(), format!("{address} is already in use"));
        let mut ports = ["0:80".parse().unwrap(), "0:53/udp".parse().unwrap()];
        settle(&mut ports).unwrap();
        assert!(ports.iter().all(|publish| publish.host.port() != 0));
        let twice = ports[0];
        assert!(settle(&mut [twice, twice]).unwrap_err().to_string().ends_with("is already in use"));
    }
}
