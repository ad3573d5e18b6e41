//! Readiness of services: notifications, and ports that they listen on. Source: sd_notify(3); proc_pid_cgroup(5); Linux
//! `Documentation/networking/proc_net_tcp.rst`.

use std::fs::{self, Permissions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use rustix::process::Pid;

/// The path in `NOTIFY_SOCKET`.
pub(crate) const SOCKET: &str = "/run/notify.sock";

/// The longest message read; a longer one is truncated.
const MAX_MESSAGE: usize = 4096;

/// Messages read before init's loop serves its other descriptors.
const MAX_BATCH: usize = 32;

/// The state of listening sockets in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The socket that services send to.
#[derive(Debug)]
pub(crate) struct NotifySocket(OwnedFd);

impl NotifySocket {
    /// Opens the socket, to which every process may send. The kernel adds the sender's credentials.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        Ok(NotifySocket(socket))
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Reads at most [`MAX_BATCH`] messages and returns the processes that are ready. A process that never stops sending
    /// must not keep the loop from its other work.
    pub(crate) fn take(&self) -> Vec<Pid> {
        let mut ready = Vec::new();
        let mut bytes = [0u8; MAX_MESSAGE];
        for _ in 0..MAX_BATCH {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            // There is no room for descriptors that are sent along, so the kernel closes them.
            let flags = RecvFlags::CMSG_CLOEXEC;
            let length = match rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, flags) {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
            };
            let sender = ancillary.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
                _ => None,
            });
            if says_ready(&bytes[..length])
                && let Some(sender) = sender
                && !ready.contains(&sender)
            {
                ready.push(sender);
            }
        }
        ready
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// Returns the service whose cgroup a process is in.
pub(crate) fn service_of(pid: Pid) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/services/"))?;
    path.split('/').next().map(str::to_owned)
}

/// Returns true if a process listens on TCP port `port`, on any address.
pub(crate) fn is_listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|table| fs::read_to_string(table).is_ok_and(|text| has_listener(&text, port)))
}

fn has_listener(table: &str, port: u16) -> bool {
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
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

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
        assert_eq!(socket.take(), [rustix::process::getpid()]);
        assert!(socket.take().is_empty());
    }

    #[test]
    fn sender_that_never_stops_does_not_block_the_loop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::open(&path).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let sender = UnixDatagram::unbound().unwrap();
                    while !stop.load(Relaxed) && sender.send_to(b"WATCHDOG=1", &path).is_ok() {
                        std::hint::spin_loop();
                    }
                });
            }
            for _ in 0..100 {
                assert!(socket.take().is_empty());
            }
            stop.store(true, Relaxed);
            // Wakes senders that wait for room in the queue.
            rustix::net::shutdown(&socket.0, rustix::net::Shutdown::Both).unwrap();
        });
    }
}
