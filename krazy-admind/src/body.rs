//! The content of a request.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

/// The content of a request, in the pieces it arrives in.
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// Reads a body of at most `limit` bytes into memory. Fails if no piece arrives for `pause`.
pub(crate) async fn read(mut body: Body, limit: usize, pause: Duration) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    loop {
        let piece = timeout(pause, body.next())
            .await
            .map_err(|_| Problem::new(Kind::Timeout, format!("nothing came for {} s", pause.as_secs())))?;
        let Some(piece) = piece else { return Ok(bytes) };
        let piece = piece
            .map_err(|error| Problem::new(Kind::BadRequest, format!("the upload broke off: {error}")))?;
        if bytes.len() + piece.len() > limit {
            return Err(Problem::new(Kind::BodyTooLarge, format!("at most {limit} bytes are expected")));
        }
        bytes.extend_from_slice(&piece);
    }
}
