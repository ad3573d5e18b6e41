//! One request on its connection to the front.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select;
use futures_util::{Stream, stream};
use headers::HeaderValue;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;
use warp::http::{Method, StatusCode, header};
use warp::reply::Response;

use crate::api::{self, Admin, Call};
use crate::body::Body;
use crate::transport::{
    FROM_FRONT, Frame, FrameReader, Kind, MAX_DATA_LEN, RequestHead, ResponseHead, broken, headers, list,
    send, send_broken,
};

/// Time within which the front sends the head, which it has before it opens the connection.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells the front that the credential of a request is valid.
#[derive(Debug)]
pub(crate) struct Authenticated(Arc<UnixStream>);

impl Authenticated {
    pub(crate) async fn tell(&self) {
        // A front that has closed the connection ends the request elsewhere.
        let _closed = send(&self.0, Kind::Authenticated, &[]).await;
    }
}

/// Answers the request that comes over `stream`, unless the front closes that first. Reading its body fails when nothing
/// of it comes for `pause`.
pub(super) async fn serve(admin: Arc<Admin>, stream: UnixStream, pause: Duration) {
    let stream = Arc::new(stream);
    // The front is told nothing about malformed frames: it sends none.
    select(pin!(exchange(admin, &stream, pause)), pin!(closed(&stream))).await;
}

/// Waits until the other side has closed its end, also while bytes of it are left to read.
async fn closed(stream: &UnixStream) {
    // The end counts as a readiness for priority data, of which the protocol has none.
    let _closed = stream.ready(Interest::PRIORITY).await;
}

async fn exchange(admin: Arc<Admin>, stream: &Arc<UnixStream>, pause: Duration) -> io::Result<()> {
    let mut reader = FrameReader::new(FROM_FRONT);
    let Ok(head) = timeout(HEAD_TIMEOUT, reader.next(stream)).await else { return Ok(()) };
    let Some(call) = head?.and_then(|head| call(&head, reader, stream, pause)) else { return Ok(()) };
    respond(stream, api::answer(admin, call).await).await
}

/// Returns the call whose head is in `frame`, or `None` if that is malformed.
fn call(frame: &Frame, reader: FrameReader, stream: &Arc<UnixStream>, pause: Duration) -> Option<Call> {
    let head = Some(frame).filter(|frame| frame.kind == Kind::Request)?;
    let head: RequestHead = serde_json::from_slice(&head.payload).ok()?;
    let headers = headers(&head.headers)?;
    Some(Call {
        method: Method::from_bytes(head.method.as_bytes()).ok()?,
        path: head.path,
        query: head.query,
        host: head.host,
        body: Body::new(&headers, chunks(Arc::clone(stream), reader), pause),
        headers,
        peer: head.peer,
        certificate: head.certificate,
        authenticated: Authenticated(Arc::clone(stream)),
    })
}

/// The body of a request. The front sends none of it before this is read.
fn chunks(
    stream: Arc<UnixStream>,
    reader: FrameReader,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((stream, reader, false), |(stream, mut reader, is_wanted)| async move {
        if !is_wanted {
            send(&stream, Kind::Wanted, &[]).await?;
        }
        match reader.next(&stream).await? {
            Some(Frame { kind: Kind::Data, payload }) => Ok(Some((payload, (stream, reader, true)))),
            Some(Frame { kind: Kind::End, .. }) => Ok(None),
            Some(Frame { kind: Kind::Broken, payload }) => Err(broken(&payload)),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    })
}

/// Sends the response.
async fn respond(stream: &UnixStream, response: Response) -> io::Result<()> {
    let (mut parts, mut body) = response.into_parts();
    // The front does not know how long the body will be.
    let length = body.size_hint().exact().filter(|_| has_length(parts.status));
    if let Some(length) = length {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    let has_body = !body.is_end_stream();
    let head = ResponseHead { status: parts.status.as_u16(), headers: list(&parts.headers), has_body };
    send(stream, Kind::Response, &serde_json::to_vec(&head)?).await?;
    if !has_body {
        return Ok(());
    }
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => {
                for part in data.chunks(MAX_DATA_LEN) {
                    send(stream, Kind::Data, part).await?;
                }
            }
            // Trailers, of which operations have none.
            Ok(Err(_)) => {}
            Err(error) => return send_broken(stream, &error).await,
        }
    }
    send(stream, Kind::End, &[]).await
}

/// Returns true if a response with this status has a `Content-Length` (RFC 9110, section 8.6).
fn has_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}
