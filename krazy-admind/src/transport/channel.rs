//! The channel: single bytes from the front, one kind with a descriptor, and frames from the back.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A request; its descriptor comes with it.
const REQUEST: u8 = b'r';
/// The front accepts connections.
const SERVING: u8 = b's';
/// The front presents the certificates of the last message.
const INSTALLED: u8 = b'c';

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
}

/// A byte from the front.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A request, with the connection for it.
    Request(UnixStream),
    /// The front accepts connections.
    Serving,
    /// It presents the certificates of one message more.
    Installed,
    /// Nothing that the protocol has.
    Unknown,
}

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, two) = UnixStream::pair()?;
        Ok((Channel { socket: one }, Channel { socket: two }))
    }

    /// The end that is `descriptor`.
    pub(crate) fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(descriptor);
        socket.set_nonblocking(true)?;
        Ok(Channel { socket: UnixStream::from_std(socket)? })
    }

    /// The descriptor of this end, for the process that gets it.
    pub(crate) fn into_descriptor(self) -> io::Result<OwnedFd> {
        Ok(self.socket.into_std()?.into())
    }

    /// The connection, for frames.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.socket
    }

    /// Opens a connection for one request. Waits while the back accepts none.
    pub(crate) async fn open(&self) -> io::Result<UnixStream> {
        let (own, other) = UnixStream::pair()?;
        let other = other.into_std()?;
        let descriptors = [other.as_fd()];
        self.socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                let byte = [IoSlice::new(&[REQUEST])];
                Ok(sendmsg(&self.socket, &byte, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
            })
            .await?;
        Ok(own)
    }

    /// Tells the back that connections are accepted.
    pub(crate) async fn tell_serving(&self) -> io::Result<()> {
        self.tell(SERVING).await
    }

    /// Tells the back that the certificates of a message are in use.
    pub(crate) async fn tell_installed(&self) -> io::Result<()> {
        self.tell(INSTALLED).await
    }

    async fn tell(&self, byte: u8) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, || self.socket.try_write(&[byte])).await.map(drop)
    }

    /// Returns the next byte of the front, or `None` if that has closed its end.
    pub(crate) async fn receive(&self) -> io::Result<Option<Signal>> {
        self.socket.async_io(Interest::READABLE, || self.try_receive()).await
    }

    fn try_receive(&self) -> io::Result<Option<Signal>> {
        let (mut byte, mut space) = ([0], [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))]);
        // The kernel closes descriptors for which there is no space, and does not join bytes that came with descriptors.
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(&self.socket, &mut buffers, &mut control, flags)?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Ok(Some(match (byte, descriptor) {
            ([REQUEST], Some(descriptor)) => connection(descriptor).map_or(Signal::Unknown, Signal::Request),
            ([SERVING], None) => Signal::Serving,
            ([INSTALLED], None) => Signal::Installed,
            _ => Signal::Unknown,
        }))
    }
}

/// Returns the connection that `descriptor` is, if it is the end of a pair of Unix stream sockets. Anything else, such as
/// a file that blocks or a socket that listens, could hold the back up.
fn connection(descriptor: OwnedFd) -> Option<UnixStream> {
    use rustix::net::{AddressFamily, SocketType, sockopt};

    if sockopt::socket_type(&descriptor) != Ok(SocketType::STREAM)
        || sockopt::socket_domain(&descriptor) != Ok(AddressFamily::UNIX)
        || sockopt::socket_acceptconn(&descriptor) != Ok(false)
    {
        return None;
    }
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn connections_and_signals_pass_in_order() {
        let (back, front) = Channel::pair().unwrap();
        front.tell_serving().await.unwrap();
        let mut own = front.open().await.unwrap();
        front.tell_installed().await.unwrap();
        assert!(matches!(back.receive().await.unwrap(), Some(Signal::Serving)));
        let Some(Signal::Request(mut other)) = back.receive().await.unwrap() else { panic!("no request") };
        own.write_all(b"x").await.unwrap();
        assert_eq!(other.read_u8().await.unwrap(), b'x');
        assert!(matches!(back.receive().await.unwrap(), Some(Signal::Installed)));
        drop(front);
        assert!(back.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn other_descriptors_and_bytes_are_no_requests() {
        let (back, front) = Channel::pair().unwrap();
        let send = |descriptors: &[std::os::fd::BorrowedFd<'_>]| {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
            sendmsg(&front.socket, &[IoSlice::new(&[REQUEST])], &mut control, SendFlags::empty()).unwrap();
        };
        let file = tempfile::tempfile().unwrap();
        let datagrams = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let others = [file.as_fd(), datagrams.as_fd(), listener.as_fd(), network.as_fd()];
        for other in others {
            send(&[other]);
            assert!(matches!(back.receive().await.unwrap(), Some(Signal::Unknown)));
        }
        // More than the protocol has: the rest is closed.
        send(&others[..3]);
        assert!(matches!(back.receive().await.unwrap(), Some(Signal::Unknown)));
        for byte in [REQUEST, 0, 255] {
            front.tell(byte).await.unwrap();
            assert!(matches!(back.receive().await.unwrap(), Some(Signal::Unknown)));
        }
    }
}
