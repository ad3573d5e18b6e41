//! Readiness of services: notifications, and ports that they listen on. Source: sd_notify(3); Linux
//! `Documentation/networking/proc_net_tcp.rst`.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::Pid;

use super::datagrams::Datagrams;

/// The path in `NOTIFY_SOCKET`.
pub(crate) const SOCKET: &str = "/run/notify.sock";

/// The longest message read; a longer one is truncated.
const MAX_MESSAGE: usize = 4096;

/// The state of listening sockets in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The socket that services send to.
#[derive(Debug)]
pub(crate) struct NotifySocket(Datagrams);

impl NotifySocket {
    /// Opens the socket.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Datagrams::open(path).map(NotifySocket)
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        self.0.descriptor()
    }

    /// Reads what has come, with the senders. Repeated messages of one sender are one.
    pub(crate) fn take(&self) -> Vec<(Pid, Notification)> {
        let mut all: Vec<(Pid, Notification)> = Vec::new();
        self.0.read(&mut [0; MAX_MESSAGE], |sender, message| {
            let new = Notification::parse(message);
            match all.iter_mut().find(|(pid, _)| *pid == sender.pid) {
                Some((_, known)) => known.merge(new),
                None if new == Notification::default() => {}
                None => all.push((sender.pid, new)),
            }
        });
        all
    }
}

/// The assignments of a message that init acts on. Source: sd_notify(3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notification {
    /// `READY=1`.
    pub(crate) ready: bool,
    /// `WATCHDOG=1`.
    pub(crate) alive: bool,
    /// `WATCHDOG=trigger`: the sender wants to be treated as if it had sent nothing for too long.
    pub(crate) trigger: bool,
}

impl Notification {
    /// Parses a message: one assignment a line. Others are ignored.
    pub(crate) fn parse(message: &[u8]) -> Self {
        let mut all = Notification::default();
        for line in message.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => all.ready = true,
                b"WATCHDOG=1" => all.alive = true,
                b"WATCHDOG=trigger" => all.trigger = true,
                _ => {}
            }
        }
        all
    }

    fn merge(&mut self, other: Notification) {
        self.ready |= other.ready;
        self.alive |= other.alive;
        self.trigger |= other.trigger;
    }
}

/// Returns true if a process listens on TCP port `port`, on any address.
pub(crate) fn is_listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|table| fs::read_to_string(table).is_ok_and(|text| has_listener(&text, port)))
}

pub(crate) fn has_listener(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn listening_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(port));
        drop(listener);
        assert!(!is_listening(port));
        let connected = "  sl local rem st\n 0: 0100007F:0050 0100007F:9C40 01 0\n";
        assert!(!has_listener(connected, 80) && has_listener(&connected.replace(" 01 ", " 0A "), 80));
    }

    #[test]
    fn kernel_names_the_sender_of_readiness() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::open(&path).unwrap();
        assert!(socket.take().is_empty());
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=READY=1", &path).unwrap();
        sender.send_to(b"STATUS=fine\nREADY=1\n", &path).unwrap();
        sender.send_to(b"WATCHDOG=1", &path).unwrap();
        let expected = Notification { ready: true, alive: true, trigger: false };
        assert_eq!(socket.take(), [(rustix::process::getpid(), expected)]);
        assert!(socket.take().is_empty());
        assert!(Notification::parse(b"X=1\nWATCHDOG=trigger").trigger);
        assert_eq!(Notification::parse(b"WATCHDOG=10\nREADY=0\n"), Notification::default());
    }
}
