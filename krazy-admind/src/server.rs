//! Sockets, TLS, and the limits that keep strangers from using the device up.
//!
//! | stage | ends by |
//! |---|---|
//! | connections | [`Limits::connections`], and of one client; further ones are closed at once |
//! | TLS handshake | [`Limits::handshake`] |
//! | header of a request | 16 KiB, 64 fields, [`Limits::header`] |
//! | upload | unread, by the windows of HTTP/2; [`Limits::idle`] between two pieces; of an update, [`Limits::update_idle`] between two requests |
//! | download | the kernel, when the client acknowledges nothing for [`Limits::idle`] (`TCP_USER_TIMEOUT`) |
//! | between requests | [`Limits::idle`] |

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use krazy_boot::digest::Sha256Hash;
use krazy_init::control::SOCKET;
use rustix::net::sockopt;
use rustls::server::Acceptor;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use warp::Filter;
use warp::http::{Request, Response};

use crate::api::{self, Admin, Call, LiveLogs};
use crate::auth::Auth;
use crate::body::Body;
use crate::certificate::Certificates;
use crate::clients::Client;
use crate::config::{Config, Limits};
use crate::connections::{self, Activity, Connections};
use crate::control::Control;
use crate::credentials::{Credentials, CredentialsError};
use crate::seats::Seat;
use crate::update::Updates;

/// The longest header of a request, in bytes.
const MAX_HEADER: usize = 16 * 1024;
/// The most fields in it.
const MAX_FIELDS: usize = 64;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 16;
/// Bytes that an HTTP/2 client may send ahead, per stream and in all, if a right credential has come from its address.
/// 1 MiB keeps a 100 Mbit/s link of 80 ms busy.
const WINDOW: u32 = 1 << 20;
/// The same for strangers, who have it in memory before they are asked who they are.
const STRANGERS_WINDOW: u32 = 256 << 10;

/// Bytes read from the kernel at a time. rustls asks for 4 KiB, which makes four system calls of every TLS record.
const READ_AHEAD: usize = 32 << 10;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No credentials, or unusable ones.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The root is not there.
    #[error("failed to open the root {}: {source}", path.display())]
    Root {
        /// Where it should be.
        path: std::path::PathBuf,
        /// Why it is not usable.
        source: io::Error,
    },
    /// The address is taken, or not ours.
    #[error("failed to listen on {address}: {source}")]
    Listen {
        /// The last address tried.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Nowhere to listen.
    #[error("no address to listen on is configured")]
    NoAddress,
    /// The kernel lacks something.
    #[error("failed to start the event loop: {0}")]
    Runtime(io::Error),
}

/// A server that has its credentials and its socket.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    admin: Arc<Admin>,
    connections: Arc<Connections>,
    limits: Limits,
}

impl Server {
    /// Reads the credentials and opens the socket.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let root = config
            .root
            .canonicalize()
            .map_err(|source| StartError::Root { path: config.root.clone(), source })?;
        let data = root.join("data");
        let credentials = Credentials::load(&data, config.tls12)?;
        let (listener, address) = listen(&config.listen).await?;
        let control = Control::new(root.join(SOCKET.trim_start_matches('/')));
        let admin = Admin {
            auth: Auth::new(credentials.tokens),
            certificates: Arc::new(Certificates::new(
                data,
                config.tls12,
                config.limits.certificate_trial,
                credentials.pair,
            )),
            updates: Arc::new(Updates::new(root.clone(), control.clone(), config.limits.update_idle)),
            control,
            root,
            live_logs: LiveLogs::new(&config.limits),
            upload_pause: config.limits.idle,
        };
        Ok(Server {
            listener,
            address,
            admin: Arc::new(admin),
            connections: Arc::default(),
            limits: config.limits,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub async fn run(self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let client = self.admin.auth.client(peer.ip());
                    if let Some(seat) = connections::seat(&self.connections, client, &self.limits) {
                        let connection = serve(stream, peer, Arc::clone(&self.admin), self.limits, seat);
                        tokio::spawn(connection);
                    }
                }
                Err(error) => {
                    // A client that has gone already is nothing; out of descriptors or memory takes a while.
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        crate::log::write(format_args!("failed to accept a connection: {error}"));
                        sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }
    }
}

/// Opens the first address that works.
async fn listen(addresses: &[SocketAddr]) -> Result<(TcpListener, SocketAddr), StartError> {
    let mut last = StartError::NoAddress;
    for &address in addresses {
        let bound = match TcpListener::bind(address).await {
            Ok(listener) => listener.local_addr().map(|address| (listener, address)),
            Err(source) => Err(source),
        };
        match bound {
            Ok(listener) => return Ok(listener),
            Err(source) => last = StartError::Listen { address, source },
        }
    }
    Err(last)
}

/// Serves one connection. Whatever its client does wrong ends it and concerns nobody else.
async fn serve(stream: TcpStream, peer: SocketAddr, admin: Arc<Admin>, limits: Limits, seat: Seat<Client>) {
    let patience = limits.idle.as_millis().try_into().unwrap_or(u32::MAX);
    if sockopt::set_tcp_user_timeout(&stream, patience).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let handshake = timeout(
        limits.handshake,
        handshake(BufReader::with_capacity(READ_AHEAD, stream), &admin.certificates),
    );
    let Ok(Ok((stream, certificate))) = handshake.await else { return };
    let activity = Activity::new(Instant::now());
    let service = TowerToHyperService::new(Counted {
        inner: service(admin, peer, certificate),
        activity: Arc::clone(&activity),
    });
    let builder = protocol(&limits, seat.holder());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    while let Some(pause) = activity.idle_until(Instant::now(), &limits) {
        match select(connection.as_mut(), pin!(sleep(pause))).await {
            // How a connection ended is of no use to anybody.
            Either::Left((_ended, _)) => return,
            Either::Right(_) => {}
        }
    }
}

/// TLS with the certificate that the client asks for, and that certificate's hash.
async fn handshake(
    stream: BufReader<TcpStream>,
    certificates: &Certificates,
) -> io::Result<(TlsStream<BufReader<TcpStream>>, Sha256Hash)> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let pair = certificates.choose(start.client_hello().server_name());
    Ok((start.into_stream(Arc::clone(&pair.tls)).await?, pair.sha256))
}

/// The windows stay what they are in the beginning: hyper only changes them by what the line can take, up to 16 MiB.
fn protocol(limits: &Limits, client: Client) -> auto::Builder<TokioExecutor> {
    let window = match client {
        Client::Familiar(_) => WINDOW,
        Client::Strangers(_) => STRANGERS_WINDOW,
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEADER)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_send_buf_size(128 * 1024)
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.idle / 2);
    builder
}

/// One warp filter takes the request apart; the route table does the rest.
fn service(
    admin: Arc<Admin>,
    peer: SocketAddr,
    certificate: Sha256Hash,
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
    warp::service(parts.then(
        move |method,
              path: warp::path::FullPath,
              query,
              host: Option<warp::host::Authority>,
              headers,
              body| {
            let call = Call {
                method,
                path: path.as_str().to_owned(),
                query,
                host: host.map(|host| host.to_string()),
                headers,
                peer,
                certificate,
                body: pieces(body),
            };
            api::answer(Arc::clone(&admin), call)
        },
    ))
}

fn pieces<B: Buf>(body: impl futures_util::Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Body {
    Box::pin(body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))))
}

/// Counts requests until their answers have been handed over as a whole.
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
        let in_flight = self.activity.begin();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // The body owns the count, and is dropped after its last piece or when the client has gone.
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
