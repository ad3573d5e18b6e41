//! A request's way to the back, and the response's way back.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::{Either, Fuse, FutureExt, select};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::net::UnixStream;
use warp::Reply;
use warp::http::StatusCode;
use warp::reply::Response;

use super::front::Front;
use crate::problem::{Kind as ProblemKind, Problem};
use crate::transport::{
    FROM_BACK, Frame, FrameReader, Kind, MAX_DATA_LEN, RequestHead, ResponseHead, broken, headers, send,
    send_broken,
};

/// Has the back answer a request. Sets `authenticated` once the back has accepted its credential. Dropping the returned
/// future, and the body of the response, cancels the request.
pub(super) async fn exchange(
    front: Arc<Front>,
    head: RequestHead,
    body: impl Stream<Item = Result<Bytes, warp::Error>> + Send,
    authenticated: Arc<AtomicBool>,
) -> Response {
    let accept = || {
        authenticated.store(true, Ordering::Relaxed);
        front.known_clients.remember(head.peer.ip());
    };
    match request(&front, &head, body, accept).await {
        Ok(response) => response,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Problem::new(ProblemKind::BadRequest, "the head of the request is too long").into_response()
        }
        Err(error) => {
            let text = format!("the request was not answered: {error}");
            Problem::new(ProblemKind::Internal, text).into_response()
        }
    }
}

async fn request(
    front: &Front,
    head: &RequestHead,
    body: impl Stream<Item = Result<Bytes, warp::Error>> + Send,
    accept: impl Fn(),
) -> io::Result<Response> {
    let head = serde_json::to_vec(head)?;
    let stream = front.channel.open().await?;
    send(&stream, Kind::Request, &head).await?;
    drop(head);
    let mut reader = FrameReader::new(FROM_BACK);
    let head = response_head(&stream, &mut reader, body, accept).await?;
    response(&head, stream, reader)
}

/// Sends the body if the back asks for it, and returns the head of the response.
async fn response_head(
    stream: &UnixStream,
    reader: &mut FrameReader,
    body: impl Stream<Item = Result<Bytes, warp::Error>> + Send,
    accept: impl Fn(),
) -> io::Result<ResponseHead> {
    let mut body = Some(body);
    let mut upload = pin!(Fuse::terminated());
    loop {
        let frame = match select(pin!(reader.next(stream)), upload.as_mut()).await {
            Either::Left((frame, _)) => frame?.ok_or(io::ErrorKind::UnexpectedEof)?,
            // The back tells what became of it.
            Either::Right(_) => continue,
        };
        match frame.kind {
            Kind::Authenticated => accept(),
            Kind::Wanted => {
                if let Some(body) = body.take() {
                    upload.set(send_body(stream, body).fuse());
                }
            }
            // Its operation is done: the rest of the request is of no use.
            Kind::Response => return Ok(serde_json::from_slice(&frame.payload)?),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Sends the body of a request. The back may close the connection before it has read everything.
async fn send_body(
    stream: &UnixStream,
    body: impl Stream<Item = Result<Bytes, warp::Error>> + Send,
) -> io::Result<()> {
    let mut body = pin!(body);
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => {
                for part in chunk.chunks(MAX_DATA_LEN) {
                    send(stream, Kind::Data, part).await?;
                }
            }
            Err(error) => return send_broken(stream, &error).await,
        }
    }
    send(stream, Kind::End, &[]).await
}

/// Returns the response with this head.
fn response(head: &ResponseHead, stream: UnixStream, reader: FrameReader) -> io::Result<Response> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut response = match head.has_body {
        true => warp::reply::stream(chunks(stream, reader)).into_response(),
        false => Response::new(Bytes::new().into()),
    };
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(|_| invalid())?;
    *response.headers_mut() = headers(&head.headers).ok_or_else(invalid)?;
    Ok(response)
}

/// The body of a response.
fn chunks(
    stream: UnixStream,
    reader: FrameReader,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
    stream::try_unfold((stream, reader), |(stream, mut reader)| async move {
        match reader.next(&stream).await? {
            Some(Frame { kind: Kind::Data, payload }) => Ok(Some((payload, (stream, reader)))),
            Some(Frame { kind: Kind::End, .. }) => Ok(None),
            Some(Frame { kind: Kind::Broken, payload }) => Err(broken(&payload)),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    })
}
