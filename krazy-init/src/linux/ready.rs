//! How services say that they are ready. Source: sd_notify(3); proc_pid_cgroup(5); Linux
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

/// What `NOTIFY_SOCKET` says.
pub const SOCKET: &str = "/run/notify.sock";

/// The longest message read; the rest is cut off.
const MAX_MESSAGE: usize = 4096;

/// Listening state in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The socket services send to.
#[derive(Debug)]
pub struct NotifySocket(OwnedFd);

impl NotifySocket {
    /// Opens it for everyone to write; who wrote is told by the kernel.
    pub fn open(path: &Path) -> io::Result<Self> {
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

    /// The descriptor to wait on.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// The next process that says it is ready; `None` when there is none for now.
    pub fn next(&self) -> Option<Pid> {
        let mut bytes = [0u8; MAX_MESSAGE];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            // Descriptors sent along are not made room for, so the kernel closes them.
            let flags = RecvFlags::CMSG_CLOEXEC;
            let length = match rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, flags) {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return None,
            };
            let sender = ancillary.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
                _ => None,
            });
            if says_ready(&bytes[..length])
                && let Some(sender) = sender
            {
                return Some(sender);
            }
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// The service whose cgroup a process is in.
pub fn service_of(pid: Pid) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/services/"))?;
    path.split('/').next().map(str::to_owned)
}

/// Whether something listens on TCP port `port`, on any address.
pub fn is_listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|table| fs::read_to_string(table).is_ok_and(|text| lists(&text, port)))
}

fn lists(table: &str, port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_listener_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(port));
        drop(listener);
        assert!(!is_listening(port));
        let connected = "  sl local rem st\n 0: 0100007F:0050 0100007F:9C40 01 0\n";
        assert!(!lists(connected, 80) && lists(&connected.replace(" 01 ", " 0A "), 80));
    }

    #[test]
    fn who_is_ready_is_told_by_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::open(&path).unwrap();
        assert_eq!(socket.next(), None);
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=READY=1", &path).unwrap();
        sender.send_to(b"STATUS=fine\nREADY=1\n", &path).unwrap();
        assert_eq!(socket.next(), Some(rustix::process::getpid()));
        assert_eq!(socket.next(), None);
    }
}
