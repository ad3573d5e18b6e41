//! The speed at which a connection is read before a valid credential has come on it. A client may fill a connection with
//! frames that cost more to read than to send; the kernel's buffer and TCP's flow control hold back what is not read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes per second. A frame of HTTP/2 has at least nine, so there are 15,000 of them.
const RATE: u32 = 128 << 10;
/// Bytes that are read at once.
const BURST: u32 = 128 << 10;

/// A connection whose input is slowed down until `authenticated` is set.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    authenticated: Arc<AtomicBool>,
    bucket: Bucket,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, authenticated: Arc<AtomicBool>) -> Self {
        Paced { stream, authenticated, bucket: Bucket { level: 0, at: Instant::now() }, pause: None }
    }
}

/// The bytes that were read and have not run off yet.
#[derive(Debug)]
struct Bucket {
    level: u64,
    at: Instant,
}

impl Bucket {
    /// Adds bytes. Returns the time at which more may be read, if that is later than `now`.
    fn add(&mut self, read: usize, now: Instant) -> Option<Instant> {
        let run_off = now.duration_since(self.at).as_micros() * u128::from(RATE) / 1_000_000;
        self.level = self.level.saturating_sub(u64::try_from(run_off).unwrap_or(u64::MAX)) + read as u64;
        self.at = now;
        let excess = self.level.saturating_sub(u64::from(BURST));
        (excess > 0).then(|| now + Duration::from_micros(excess * 1_000_000 / u64::from(RATE)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.authenticated.load(Ordering::Relaxed) {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let next = this.bucket.add(buffer.filled().len() - before, Instant::now());
        this.pause = next.map(|next| Box::pin(sleep_until(next)));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const READ: usize = 32 << 10;

    #[test]
    fn bucket_lets_a_burst_through_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket { level: 0, at: start };
        for _ in 0..4 {
            assert_eq!(bucket.add(READ, start), None);
        }
        assert_eq!(bucket.add(READ, start), Some(start + Duration::from_millis(250)));
        // What ran off may be read again.
        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.add(READ, later), None);
        assert_eq!(bucket.add(2 * READ, later), None);
        assert!(bucket.add(1, later).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn reading_is_slow_until_a_credential_has_come() {
        let authenticated = Arc::new(AtomicBool::new(false));
        let (mut client, server) = duplex(1 << 20);
        let mut server = Paced::new(server, Arc::clone(&authenticated));
        client.write_all(&vec![0; 1 << 20]).await.unwrap();
        let mut part = vec![0; READ];
        let start = Instant::now();
        for _ in 0..16 {
            server.read_exact(&mut part).await.unwrap();
        }
        let slow = start.elapsed();
        assert!(slow > Duration::from_millis(2500) && slow < Duration::from_millis(3500), "{slow:?}");
        authenticated.store(true, Ordering::Relaxed);
        let start = Instant::now();
        for _ in 0..16 {
            server.read_exact(&mut part).await.unwrap();
        }
        assert!(start.elapsed() < Duration::from_millis(500));
    }
}
