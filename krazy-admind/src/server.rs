//! The server: its listening socket, its back, and the channel to its front.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use krazy_boot::api::control::SOCKET;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::api::{Admin, LiveLogs};
use crate::back::{Back, News};
use crate::config::Config;
use crate::control::Control;
use crate::device::{CredentialStore, Device};
use crate::identity::auth::Auth;
use crate::identity::certificate::Certificates;
use crate::identity::credentials::{Credentials, CredentialsError};
use crate::identity::tokens::Tokens;
use crate::net::Front;
use crate::transport::{Announced, Channel, Settings};

/// Time that an address which is in use has to become free, and the pause between two tries.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
const ADDRESS_POLL_INTERVAL: Duration = Duration::from_millis(20);

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
    /// The connection between the two processes could not be made.
    #[error("failed to connect the two processes: {0}")]
    Channel(io::Error),
    /// The process that faces the network did not start.
    #[error("failed to start the network process: {0}")]
    Front(io::Error),
}

/// A server with its credentials loaded and its socket bound.
pub struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) back: Back,
    /// The front's end of the channel.
    pub(crate) front: Channel,
    address: SocketAddr,
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
        let (own, front) = Channel::pair().map_err(StartError::Channel)?;
        let admin = Admin {
            auth: Auth::new(Arc::new(Tokens::new(store.clone(), credentials.tokens))),
            certificates: Arc::new(Certificates::new(
                store,
                config.tls12,
                config.limits.certificate_trial,
                credentials.pair,
            )),
            device: Device::new(root, control.clone(), config.limits.update_idle, config.policy),
            control,
            live_logs: LiveLogs::new(&config.limits),
            news: News::new(own),
        };
        let announced = if config.announce { announced(&admin, address.port()).await } else { None };
        let settings = Settings { tls12: config.tls12, limits: config.limits, announced };
        Ok(Server { listener, back: Back { admin: Arc::new(admin), settings }, front, address })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves forever, with the front in the same process. It passes every request through the channel like one in a
    /// process of its own.
    pub async fn run(self) {
        let Server { listener, back, front, .. } = self;
        let front = async {
            match Front::new(front).await {
                Ok(front) => front.serve(listener).await,
                Err(error) => error,
            }
        };
        select(pin!(back.run(|| ())), pin!(front)).await;
    }
}

/// Returns the content of the announcement. A failure is only logged: clients that know the address need no announcement.
async fn announced(admin: &Admin, port: u16) -> Option<Announced> {
    match admin.device.manifest().await {
        Ok(manifest) => {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            Some(Announced { host, port, appliance: manifest.name, version: manifest.version })
        }
        Err(problem) => {
            crate::log::write(format_args!("failed to announce the device: {}", problem.detail()));
            None
        }
    }
}

/// Binds the first of `addresses` that can be bound.
///
/// The network process of a service that was killed a moment ago may still have the address: waits
/// [`ADDRESS_TIMEOUT`] for it.
async fn listen(addresses: &[SocketAddr]) -> Result<(TcpListener, SocketAddr), StartError> {
    let end = Instant::now() + ADDRESS_TIMEOUT;
    loop {
        match bind_first(addresses).await {
            Err(StartError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < end =>
            {
                sleep(ADDRESS_POLL_INTERVAL).await;
            }
            bound => return bound,
        }
    }
}

async fn bind_first(addresses: &[SocketAddr]) -> Result<(TcpListener, SocketAddr), StartError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn address_that_becomes_free_is_waited_for() {
        let earlier = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = earlier.local_addr().unwrap();
        tokio::spawn(async move {
            sleep(ADDRESS_TIMEOUT / 2).await;
            drop(earlier);
        });
        assert_eq!(listen(&[address]).await.unwrap().1, address);
    }

    #[tokio::test(start_paused = true)]
    async fn address_that_stays_taken_is_named() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let error = listen(&[address]).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("failed to listen on {address}: Addr")), "{error}");
    }
}
