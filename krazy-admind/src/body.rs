//! The body of a request, and the failures of reading it.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use headers::HeaderMap;
use tokio::time::timeout;
use warp::http::header;

use crate::problem::{Kind, Problem};

/// The chunks of a body, in the sizes in which they arrive.
type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The body of a request.
pub(crate) struct Body {
    chunks: Chunks,
    len: Option<u64>,
    pause: Duration,
}

/// A body that was not received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client sent nothing for too long.
    #[error("no data came for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The connection or the stream broke.
    #[error("the upload broke off: {0}")]
    Broken(io::Error),
    /// The body is longer than the operation reads.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
}

impl Body {
    /// The body that `chunks` bring. Reading fails when none comes for `pause`.
    pub(crate) fn new(
        headers: &HeaderMap,
        chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        pause: Duration,
    ) -> Self {
        let len = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Body { chunks: Box::pin(chunks), len, pause }
    }

    /// The length that the client announced (`Content-Length`), if it did.
    pub(crate) fn len(&self) -> Option<u64> {
        self.len
    }

    /// Appends to `buffer` until it holds at least `len` bytes. Returns true at the end of the body.
    ///
    /// After a failure, and when the returned future is dropped, `buffer` holds everything received so far.
    pub(crate) async fn fill(&mut self, buffer: &mut Vec<u8>, len: usize) -> Result<bool, BodyError> {
        while buffer.len() < len {
            let chunk = timeout(self.pause, self.chunks.next())
                .await
                .map_err(|_| BodyError::Stalled(self.pause))?
                .transpose()
                .map_err(BodyError::Broken)?;
            match chunk {
                Some(chunk) => buffer.extend_from_slice(&chunk),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Reads a body of at most `limit` bytes into memory.
    pub(crate) async fn read(mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let mut bytes = Vec::new();
        match self.fill(&mut bytes, limit + 1).await? {
            true if bytes.len() <= limit => Ok(bytes),
            _ => Err(BodyError::TooLong(limit)),
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::Stalled(_) => Kind::Timeout,
            BodyError::Broken(_) => Kind::BadRequest,
            BodyError::TooLong(_) => Kind::BodyTooLarge,
        };
        Problem::new(kind, error.to_string())
    }
}
