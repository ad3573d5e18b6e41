//! Device events of the kernel. Source: Linux `lib/kobject_uevent.c`: `ACTION@DEVPATH` and then `KEY=VALUE`, each
//! terminated by NUL.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};

/// The kernel's own limit is 2048 bytes of variables.
const MAX_MESSAGE: usize = 8192;

/// A socket that receives device events.
#[derive(Debug)]
pub(crate) struct Uevents(OwnedFd);

/// The variables of a device event that init uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uevent {
    /// `add`, `remove`, `change`, `bind`…
    pub(crate) action: String,
    /// The device's name in its subsystem.
    pub(crate) device: String,
    /// `block`, `net`, `input`, `watchdog`…
    pub(crate) subsystem: String,
    /// The name below `/dev`.
    pub(crate) devname: Option<String>,
    /// The alias that a module must match to drive the device.
    pub(crate) modalias: Option<String>,
}

impl Uevents {
    /// Subscribes, non-blocking.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )?;
        // Large enough for the burst at boot; if it overflows, the kernel drops events and reports ENOBUFS.
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20)?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 1))?;
        Ok(Uevents(socket))
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Returns the next event; `None` if the queue is empty.
    pub(crate) fn next(&self) -> Option<Uevent> {
        let mut buffer = [0u8; MAX_MESSAGE];
        loop {
            match rustix::net::recvfrom(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _, sender)) => {
                    // Programs can send to the group, too; only the kernel has port 0.
                    let port = sender
                        .and_then(|address| netlink::SocketAddrNetlink::try_from(address).ok())
                        .map(|address| address.pid());
                    if port == Some(0)
                        && let Some(event) = parse(&buffer[..length])
                    {
                        return Some(event);
                    }
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::NOBUFS) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Parses a message; `None` if it does not have the kernel's form.
pub(crate) fn parse(message: &[u8]) -> Option<Uevent> {
    let mut parts = message.split(|byte| *byte == 0);
    let header = std::str::from_utf8(parts.next()?).ok()?;
    let (action, path) = header.split_once('@')?;
    let device = path.rsplit('/').next().unwrap_or(path).to_owned();
    let mut event = Uevent { action: action.to_owned(), device, ..Uevent::default() };
    for part in parts {
        let Some((key, value)) = std::str::from_utf8(part).ok().and_then(|text| text.split_once('=')) else {
            continue;
        };
        match key {
            "SUBSYSTEM" => value.clone_into(&mut event.subsystem),
            "DEVNAME" => event.devname = Some(value.to_owned()),
            "MODALIAS" => event.modalias = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn event_is_parsed() {
        let message =
            b"add@/devices/x\0ACTION=add\0SUBSYSTEM=input\0DEVNAME=input/event0\0MODALIAS=input:b0\0";
        let event = parse(message).unwrap();
        assert_eq!((event.action.as_str(), event.device.as_str()), ("add", "x"));
        assert_eq!(event.subsystem, "input");
        assert_eq!(event.devname.as_deref(), Some("input/event0"));
        assert_eq!(event.modalias.as_deref(), Some("input:b0"));
        assert_eq!(parse(b"libudev\0\xfe\xed"), None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(message in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&message);
        }
    }
}
