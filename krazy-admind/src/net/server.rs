//! The listening socket, and the limits that keep clients from exhausting the device.
//!
//! | stage | bounded by |
//! |---|---|
//! | connections | [`Limits::connections`] and [`Limits::connections_per_client`]; a further one takes the place of one without a credential, or is closed at once |
//! | TLS handshake | [`Limits::handshake`] |
//! | bytes without a valid credential | [`pace`](super::pace) |
//! | header of a request | 16 KiB, 64 fields, [`Limits::header`] |
//! | upload | the windows of HTTP/2 until it is read; [`Limits::idle`] between two chunks; for an update, [`Limits::update_idle`] between two requests |
//! | download | `TCP_USER_TIMEOUT`: the kernel gives up when the client acknowledges nothing for [`Limits::idle`] |
//! | between requests | [`Limits::idle`] |

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use krazy_boot::api::control::SOCKET;
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::announcement::{Announcement, AnnouncementError};
use super::connection;
use super::limiter::ConnectionLimiter;
use crate::api::{Admin, LiveLogs};
use crate::config::{Config, Limits};
use crate::control::Control;
use crate::device::{CredentialStore, Device};
use crate::identity::auth::Auth;
use crate::identity::certificate::Certificates;
use crate::identity::credentials::{Credentials, CredentialsError};
use crate::identity::tokens::Tokens;

/// Pause after a failure to accept: running out of descriptors or memory takes a while to pass.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// A failure to start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No credentials, or unusable ones.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The root directory cannot be opened.
    #[error("failed to open the root {}: {source}", path.display())]
    Root {
        /// The configured root.
        path: std::path::PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No address could be bound.
    #[error("failed to listen on {address}: {source}")]
    Listen {
        /// The last address tried.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The configuration has no address.
    #[error("no address to listen on is configured")]
    NoAddress,
    /// The event loop did not start.
    #[error("failed to start the event loop: {0}")]
    Runtime(io::Error),
}

/// A server with its credentials loaded and its socket bound.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    pub(super) admin: Arc<Admin>,
    limiter: ConnectionLimiter,
    limits: Limits,
}

impl Server {
    /// Reads the credentials and binds the socket.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let root = config
            .root
            .canonicalize()
            .map_err(|source| StartError::Root { path: config.root.clone(), source })?;
        let store = CredentialStore::of(&root);
        let credentials = Credentials::load(&store, config.tls12)?;
        let (listener, address) = listen(&config.listen).await?;
        let control = Control::new(root.join(SOCKET.trim_start_matches('/')));
        let admin = Admin {
            auth: Auth::new(Arc::new(Tokens::new(store.clone(), credentials.tokens))),
            certificates: Arc::new(Certificates::new(
                store,
                config.tls12,
                config.limits.certificate_trial,
                credentials.pair,
            )),
            device: Device::new(root, control.clone(), config.limits.update_idle, config.signed_only),
            control,
            live_logs: LiveLogs::new(&config.limits),
        };
        Ok(Server {
            listener,
            address,
            admin: Arc::new(admin),
            limiter: ConnectionLimiter::new(config.limits),
            limits: config.limits,
        })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Announces the device on its local network for as long as the returned value lives.
    pub(crate) async fn announce(&self) -> Result<Announcement, AnnouncementError> {
        let manifest = self.admin.device.manifest().await.map_err(AnnouncementError::Manifest)?;
        Announcement::start(&manifest, self.address.port())
    }

    /// Serves forever.
    pub async fn run(self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let client = self.admin.auth.client(peer.ip());
                    if let Some(permit) = self.limiter.admit(client) {
                        let admin = Arc::clone(&self.admin);
                        tokio::spawn(connection::serve(stream, peer, admin, self.limits, permit));
                        // A connection that has lost its seat frees its memory before the next one needs some.
                        yield_now().await;
                    }
                }
                Err(error) => {
                    // The client disconnected before it was accepted.
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        crate::log::write(format_args!("failed to accept a connection: {error}"));
                        sleep(ACCEPT_RETRY_INTERVAL).await;
                    }
                }
            }
        }
    }
}

/// Binds the first of `addresses` that can be bound.
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
