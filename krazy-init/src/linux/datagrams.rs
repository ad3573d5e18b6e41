//! Datagrams of local processes, with the sender that the kernel names. Source: unix(7), `SO_PASSCRED`.

use std::fs::{self, Permissions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, UCred,
};
use rustix::process::Pid;

/// Datagrams read before init's loop serves its other descriptors. A process that never stops sending must not keep the
/// loop from its other work; it waits when the kernel's queue of `net.unix.max_dgram_qlen` datagrams is full.
const MAX_BATCH: usize = 32;

/// A socket to which every process may send.
#[derive(Debug)]
pub(crate) struct Datagrams(OwnedFd);

impl Datagrams {
    /// Opens the socket at `path`. The kernel adds the sender's credentials to each datagram.
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
        Ok(Datagrams(socket))
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Reads at most [`MAX_BATCH`] datagrams and hands each on, with its sender. One that is longer than `buffer` is
    /// truncated.
    pub(crate) fn read(&self, buffer: &mut [u8], mut each: impl FnMut(UCred, &[u8])) {
        for _ in 0..MAX_BATCH {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(buffer)];
            // There is no room for descriptors that are sent along, so the kernel closes them.
            let flags = RecvFlags::CMSG_CLOEXEC;
            let length = match rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, flags) {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
            };
            let sender = ancillary.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(sender) => Some(sender),
                _ => None,
            });
            if let Some(sender) = sender {
                each(sender, &buffer[..length]);
            }
        }
    }
}

/// Returns the service whose cgroup a process is in. Source: proc_pid_cgroup(5).
pub(crate) fn service_of(pid: Pid) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/services/"))?;
    path.split('/').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn kernel_names_the_sender_of_a_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = Datagrams::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        let sender = UnixDatagram::unbound().unwrap();
        for text in ["one", "", "three and more"] {
            sender.send_to(text.as_bytes(), &path).unwrap();
        }
        let mut texts = Vec::new();
        socket.read(&mut [0; 5], |sender, text| {
            assert_eq!((sender.pid, sender.uid), (rustix::process::getpid(), rustix::process::geteuid()));
            texts.push(String::from_utf8_lossy(text).into_owned());
        });
        assert_eq!(texts, ["one", "", "three"]);
    }

    #[test]
    fn sender_that_never_stops_does_not_block_the_loop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = Datagrams::open(&path).unwrap();
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
                let mut count = 0;
                socket.read(&mut [0; 64], |_, _| count += 1);
                assert!(count <= MAX_BATCH);
            }
            stop.store(true, Relaxed);
            // Wakes senders that wait for room in the queue, which a shutdown would not.
            drop(socket);
        });
    }
}
