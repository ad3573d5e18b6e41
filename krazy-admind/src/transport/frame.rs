//! Frames: one byte that tells the kind, the length of the payload in four bytes, the most significant one first, and the
//! payload.

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes before the payload.
const HEADER_LEN: usize = 5;

/// Bytes of a body in one frame.
pub(crate) const MAX_DATA_LEN: usize = 64 << 10;

/// Bytes of the reason why a body is incomplete.
const MAX_REASON_LEN: usize = 512;

/// Bytes that a reader asks for while it does not know the length of a frame.
const READ_LEN: usize = 2 << 10;

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The head of a request.
    Request = 1,
    /// Bytes of a body.
    Data = 2,
    /// The end of a body.
    End = 3,
    /// The end of a body that is incomplete, with the reason.
    Broken = 4,
    /// A valid credential has come.
    Authenticated = 5,
    /// The body of the request is read.
    Wanted = 6,
    /// The head of a response.
    Response = 7,
    /// The settings of the front.
    Settings = 8,
    /// The certificates to present.
    Certificates = 9,
}

/// Those that the back reads.
pub(crate) const FROM_FRONT: &[Kind] = &[Kind::Request, Kind::Data, Kind::End, Kind::Broken];
/// Those that the front reads on the connection of a request.
pub(crate) const FROM_BACK: &[Kind] =
    &[Kind::Authenticated, Kind::Wanted, Kind::Response, Kind::Data, Kind::End, Kind::Broken];
/// Those that the front reads on the channel.
pub(crate) const NEWS: &[Kind] = &[Kind::Settings, Kind::Certificates];

impl Kind {
    /// The longest payload in bytes.
    fn max_len(self) -> usize {
        match self {
            // The front takes 16 KiB from the network. JSON makes more of it; the front rejects what becomes longer.
            Kind::Request | Kind::Response | Kind::Data => MAX_DATA_LEN,
            Kind::End | Kind::Authenticated | Kind::Wanted => 0,
            Kind::Broken => MAX_REASON_LEN,
            Kind::Settings => 4 << 10,
            // Two pairs, each of two files of 64 KiB, in which JSON escapes the ends of lines.
            Kind::Certificates => 512 << 10,
        }
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

/// Reads frames of some kinds. Bytes that have been received survive when a future that waits for more is dropped.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    accepted: &'static [Kind],
}

impl FrameReader {
    pub(crate) fn new(accepted: &'static [Kind]) -> Self {
        FrameReader { buffer: BytesMut::new(), accepted }
    }

    /// Returns the next frame, or `None` if the other side has closed the connection after one. Fails on a frame of
    /// another kind, and on one that is too long, before its payload is received.
    pub(crate) async fn next(&mut self, stream: &UnixStream) -> io::Result<Option<Frame>> {
        loop {
            let missing = match self.take()? {
                Ok(frame) => return Ok(Some(frame)),
                Err(missing) => missing,
            };
            let received = stream.async_io(Interest::READABLE, || self.receive(stream, missing)).await?;
            match received {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    /// Receives up to `room` bytes. Never blocks: the other process may have changed the mode of the socket, which it can
    /// share.
    fn receive(&mut self, stream: &UnixStream, room: usize) -> io::Result<usize> {
        let len = self.buffer.len();
        self.buffer.resize(len + room, 0);
        let received = recv(stream, &mut self.buffer[len..], RecvFlags::DONTWAIT);
        let count = received.map_or(0, |(count, _)| count);
        self.buffer.truncate(len + count);
        received.map_err(io::Error::from)?;
        Ok(count)
    }

    /// Splits the next frame off the buffer. Returns the number of bytes to make room for if it is incomplete.
    fn take(&mut self) -> io::Result<Result<Frame, usize>> {
        let Some((&[kind, length @ ..], rest)) = self.buffer.split_first_chunk::<HEADER_LEN>() else {
            return Ok(Err(READ_LEN));
        };
        let known = self.accepted.iter().find(|known| **known as u8 == kind);
        let kind = *known.ok_or_else(|| malformed(format!("a frame of the kind {kind}")))?;
        let length = u32::from_be_bytes(length);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > kind.max_len() {
            return Err(malformed(format!("a frame of {length} bytes")));
        }
        if rest.len() < length {
            return Ok(Err(length - rest.len()));
        }
        let mut frame = self.buffer.split_to(HEADER_LEN + length).freeze();
        let payload = frame.split_off(HEADER_LEN);
        Ok(Ok(Frame { kind, payload }))
    }
}

/// Sends one frame. Fails with `InvalidInput` if the payload is longer than its kind may be.
pub(crate) async fn send(stream: &UnixStream, kind: Kind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > kind.max_len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let [a, b, c, d] = (payload.len() as u32).to_be_bytes();
    let header = [kind as u8, a, b, c, d];
    let mut slices = [IoSlice::new(&header), IoSlice::new(payload)];
    let mut left = &mut slices[..];
    while left.iter().any(|slice| !slice.is_empty()) {
        let send = || {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(stream, left, &mut SendAncillaryBuffer::default(), flags)?)
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        IoSlice::advance_slices(&mut left, sent);
    }
    Ok(())
}

/// Sends the end of a body that is incomplete because of `error`.
pub(crate) async fn send_broken(stream: &UnixStream, error: &impl ToString) -> io::Result<()> {
    let reason = error.to_string();
    send(stream, Kind::Broken, &reason.as_bytes()[..reason.len().min(MAX_REASON_LEN)]).await
}

/// Returns the error of a body that the other process could not send as a whole.
pub(crate) fn broken(reason: &[u8]) -> io::Error {
    io::Error::other(String::from_utf8_lossy(reason).into_owned())
}

/// An error about what the other process sent.
fn malformed(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Feeds a reader these bytes, one by one or all at once, and returns the frames and the end.
    fn read(bytes: &[u8], is_slow: bool) -> (Vec<Frame>, io::Result<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (mut sender, receiver) = UnixStream::pair().unwrap();
            let bytes = bytes.to_vec();
            let sending = tokio::spawn(async move {
                for part in bytes.chunks(if is_slow { 1 } else { bytes.len().max(1) }) {
                    if sender.write_all(part).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            });
            let (mut reader, mut frames) = (FrameReader::new(FROM_FRONT), Vec::new());
            let end = loop {
                match reader.next(&receiver).await {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
                assert!(reader.buffer.capacity() <= 2 * (HEADER_LEN + MAX_DATA_LEN + READ_LEN));
            };
            drop(receiver);
            sending.await.unwrap();
            (frames, end)
        })
    }

    #[test]
    fn frames_arrive_in_any_pieces() {
        for is_slow in [false, true] {
            let (frames, end) = read(b"\x02\0\0\0\x03abc\x03\0\0\0\0", is_slow);
            let data = Frame { kind: Kind::Data, payload: Bytes::from_static(b"abc") };
            assert_eq!(frames, [data, Frame { kind: Kind::End, payload: Bytes::new() }]);
            assert!(end.is_ok());
        }
    }

    #[test]
    fn malformed_frames_end_the_reading() {
        for (bytes, kind) in [
            (&b"\x02\0\0\0\x03ab"[..], io::ErrorKind::UnexpectedEof),
            (b"\x02\0", io::ErrorKind::UnexpectedEof),
            // Longer than its kind may be, unknown, and for the other side.
            (b"\x02\0\x01\0\x01", io::ErrorKind::InvalidData),
            (b"\x02\xff\xff\xff\xff", io::ErrorKind::InvalidData),
            (b"\x03\0\0\0\x01x", io::ErrorKind::InvalidData),
            (b"\0\0\0\0\0", io::ErrorKind::InvalidData),
            (b"\x05\0\0\0\0", io::ErrorKind::InvalidData),
        ] {
            let (frames, end) = read(bytes, false);
            assert!(frames.is_empty());
            assert_eq!(end.unwrap_err().kind(), kind, "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn payload_longer_than_its_kind_is_not_sent() {
        let (one, _two) = UnixStream::pair().unwrap();
        let error = send(&one, Kind::End, b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sent_frames_are_read(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            let read = runtime.block_on(async {
                let (one, two) = UnixStream::pair().unwrap();
                let sending = async move {
                    for payload in &payloads {
                        send(&one, Kind::Data, payload).await.unwrap();
                    }
                    payloads
                };
                let receiving = async {
                    let (mut reader, mut payloads) = (FrameReader::new(FROM_FRONT), Vec::new());
                    while let Some(frame) = reader.next(&two).await.unwrap() {
                        payloads.push(frame.payload.to_vec());
                    }
                    payloads
                };
                futures_util::future::join(sending, receiving).await
            });
            prop_assert_eq!(read.0, read.1);
        }
    }
}
