//! One connection: TLS, HTTP, and the end of both.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::future::{Either, select};
use futures_util::stream::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use krazy_boot::digest::Sha256Hash;
use rustix::net::sockopt;
use rustls::server::Acceptor;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use warp::Filter;
use warp::http::{HeaderMap, Method, Request, Response, Uri};
use warp::path::FullPath;

use super::activity::Activity;
use super::exchange::exchange;
use super::front::Front;
use super::limiter::Permit;
use super::pace::Paced;
use crate::config::{Limits, MAX_STREAMS};
use crate::identity::clients::Client;
use crate::transport::{RequestHead, list};

/// Bytes of a request's header.
const MAX_HEADER_LEN: usize = 16 * 1024;
/// Fields of a request's header.
const MAX_HEADER_FIELDS: usize = 64;
/// Bytes of response data that one HTTP/2 stream may buffer.
const MAX_SEND_BUFFER_LEN: usize = 128 * 1024;

/// Flow-control window of HTTP/2, per stream and per connection, for known clients. 1 MiB keeps a 100 Mbit/s link with a
/// round trip of 80 ms busy.
const KNOWN_CLIENT_WINDOW: u32 = 1 << 20;
/// The same for unknown clients, whose data is in memory before their credential is checked.
const UNKNOWN_CLIENT_WINDOW: u32 = 256 << 10;

/// Bytes read from the kernel at a time. rustls asks for 4 KiB, which makes four system calls of every TLS record.
const READ_BUFFER_LEN: usize = 32 << 10;

/// Serves one connection until it ends or loses its seat. Errors end this connection only.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, front: Arc<Front>, mut permit: Permit) {
    let served = serve_to_end(stream, peer, front, permit.client(), permit.authenticated());
    select(pin!(served), pin!(permit.lost())).await;
}

async fn serve_to_end(
    stream: TcpStream,
    peer: SocketAddr,
    front: Arc<Front>,
    client: Client,
    authenticated: Arc<AtomicBool>,
) {
    let limits = front.limits;
    // The kernel ends a download whose client acknowledges nothing: hyper has no timeout for writing.
    let unacknowledged = limits.idle.as_millis().try_into().unwrap_or(u32::MAX);
    if sockopt::set_tcp_user_timeout(&stream, unacknowledged).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let stream = Paced::new(stream, Arc::clone(&authenticated));
    let handshake =
        timeout(limits.handshake, handshake(BufReader::with_capacity(READ_BUFFER_LEN, stream), &front));
    let Ok(Ok((stream, certificate))) = handshake.await else { return };
    let activity = Activity::new(Instant::now());
    let service = TowerToHyperService::new(Counted {
        inner: service(front, peer, certificate, authenticated),
        activity: Arc::clone(&activity),
    });
    let builder = protocol(&limits, client);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    while let Some(pause) = activity.next_check(Instant::now(), &limits) {
        match select(connection.as_mut(), pin!(sleep(pause))).await {
            // Protocol errors and disconnects are not logged: any client could fill the log with them.
            Either::Left((_result, _)) => return,
            Either::Right(_) => {}
        }
    }
}

/// Accepts TLS with the certificate for the server name that the client asks for. Returns that certificate's hash too.
async fn handshake(
    stream: BufReader<Paced<TcpStream>>,
    front: &Front,
) -> io::Result<(TlsStream<BufReader<Paced<TcpStream>>>, Sha256Hash)> {
    // Lazily: the certificate depends on the server name, which the first message carries.
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let pair = front.certificates.choose(start.client_hello().server_name());
    Ok((start.into_stream(Arc::clone(&pair.tls)).await?, pair.sha256))
}

/// Returns the HTTP settings for `client`.
///
/// The windows are fixed: hyper's adaptive window would grow to 16 MiB with the speed of the line.
pub(super) fn protocol(limits: &Limits, client: Client) -> auto::Builder<TokioExecutor> {
    let window = match client {
        Client::Known(_) => KNOWN_CLIENT_WINDOW,
        Client::Unknown(_) => UNKNOWN_CLIENT_WINDOW,
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(MAX_HEADER_FIELDS)
        .max_buf_size(MAX_HEADER_LEN)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_LEN as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_send_buf_size(MAX_SEND_BUFFER_LEN)
        // Together they take the idle timeout to detect a client that has vanished.
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.idle / 2);
    builder
}

/// Returns the service that has requests answered by the back. One warp filter takes each apart; the route table of the
/// back does the rest.
pub(super) fn service(
    front: Arc<Front>,
    peer: SocketAddr,
    certificate: Sha256Hash,
    authenticated: Arc<AtomicBool>,
) -> impl tower_service::Service<
    Request<hyper::body::Incoming>,
    Response = warp::reply::Response,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let host = warp::host::optional();
    let parts = warp::any()
        .and(warp::method())
        .and(warp::path::full())
        .and(query)
        .and(host)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream());
    WithPath(warp::service(parts.then(
        move |method: Method,
              path: FullPath,
              query,
              host: Option<warp::host::Authority>,
              headers: HeaderMap,
              body| {
            let head = RequestHead {
                method: method.as_str().to_owned(),
                path: path.as_str().to_owned(),
                query,
                host: host.map(|host| host.to_string()),
                headers: list(&headers),
                peer,
                certificate,
            };
            exchange(Arc::clone(&front), head, chunks(body), Arc::clone(&authenticated))
        },
    )))
}

/// Returns `body` with its buffers as [`Bytes`].
fn chunks<B: Buf>(
    body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, warp::Error>> + Send + 'static {
    body.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining())))
}

/// A service whose requests all have a path. A URI like `host:443`, which is meant for `CONNECT` (RFC 9112, section 3.2.3),
/// has none, and warp's filters panic on it.
#[derive(Clone)]
struct WithPath<S>(S);

impl<S, B> tower_service::Service<Request<B>> for WithPath<S>
where
    S: tower_service::Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if request.uri().path_and_query().is_none() {
            // The target of `OPTIONS *`, which is no resource.
            *request.uri_mut() = Uri::from_static("*");
        }
        self.0.call(request)
    }
}

/// A service that counts each request until its response has been handed over as a whole.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S, B> tower_service::Service<Request<hyper::body::Incoming>> for Counted<S>
where
    S: tower_service::Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: hyper::body::Body + Send + 'static,
{
    type Response = Response<http_body_util::combinators::UnsyncBoxBody<B::Data, B::Error>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let in_flight = self.activity.begin_request();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            // The body owns the guard. It is dropped after its last frame, or when the client disconnects.
            Ok(response.map(|body| {
                body.map_frame(move |frame| {
                    let _counted = &in_flight;
                    frame
                })
                .boxed_unsync()
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::fuzzing::Http;
    use crate::fuzzing::device::create;

    #[test]
    fn request_without_a_path_is_answered() {
        let root = tempfile::tempdir().unwrap();
        create(root.path());
        let token = "07".repeat(32);
        let mut server = Http::new(root.path().to_owned()).unwrap();
        for method in ["CONNECT", "GET"] {
            let request =
                format!("{method} d:443 HTTP/1.1\r\nHost: d\r\nAuthorization: Bearer krz_{token}\r\n\r\n");
            let answer = server.answer(request.as_bytes(), Duration::from_secs(20));
            assert!(answer.starts_with(b"HTTP/1.1 404 "), "{}", answer.escape_ascii());
        }
    }
}
