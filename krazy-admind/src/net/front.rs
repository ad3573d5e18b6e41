//! The process that faces the network: it accepts connections, and knows settings and certificates from the back only.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::announcement::Announcement;
use super::certificates::Presented;
use super::connection;
use super::limiter::ConnectionLimiter;
use crate::config::Limits;
use crate::identity::certificate::PairError;
use crate::identity::clients::KnownClients;
use crate::transport::{Announced, Certificates, Channel, Frame, FrameReader, Kind, NEWS, Settings};

/// Pause after a failure to accept: running out of descriptors or memory takes a while to pass.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// A failure of the front.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontError {
    /// The other process has ended, or says what it must not.
    #[error("failed to read from the other process: {0}")]
    Channel(#[from] io::Error),
    /// It has sent what is no message.
    #[error("the other process has sent an unreadable message: {0}")]
    Message(#[from] serde_json::Error),
    /// A pair that the back has sent cannot be used.
    #[error("the certificate and key are not usable: {0}")]
    Pair(#[from] PairError),
}

/// The front.
pub(crate) struct Front {
    pub(super) channel: Channel,
    pub(super) certificates: Presented,
    pub(super) known_clients: KnownClients,
    pub(super) limits: Limits,
    announced: Option<Announced>,
    reader: tokio::sync::Mutex<FrameReader>,
}

impl Front {
    /// Takes the settings and certificates that the back sends first.
    pub(crate) async fn new(channel: Channel) -> Result<Self, FrontError> {
        let mut reader = FrameReader::new(NEWS);
        let settings: Settings = message(&channel, &mut reader, Kind::Settings).await?;
        let certificates: Certificates = message(&channel, &mut reader, Kind::Certificates).await?;
        let Settings { tls12, limits, announced } = settings;
        Ok(Front {
            channel,
            certificates: Presented::new(certificates, tls12)?,
            known_clients: KnownClients::default(),
            limits,
            announced,
            reader: reader.into(),
        })
    }

    /// Serves until the back closes the channel.
    pub(crate) async fn serve(self, listener: TcpListener) -> FrontError {
        // A failure is only logged: clients that know the address need no announcement.
        let _announcement = self.announced.as_ref().and_then(|announced| {
            let failed =
                |error: &_| crate::log::write(format_args!("failed to announce the device: {error}"));
            Announcement::start(announced).inspect_err(failed).ok()
        });
        let front = Arc::new(self);
        if let Err(error) = front.channel.tell_serving().await {
            return error.into();
        }
        match select(pin!(accept(&front, &listener)), pin!(front.follow_news())).await {
            Either::Left((never, _)) => match never {},
            Either::Right((error, _)) => error,
        }
    }

    /// Presents new certificates as they come. Returns when no more can come.
    pub(super) async fn follow_news(&self) -> FrontError {
        let mut reader = self.reader.lock().await;
        loop {
            let certificates = match message(&self.channel, &mut reader, Kind::Certificates).await {
                Ok(certificates) => certificates,
                Err(error) => return error,
            };
            if let Err(error) = self.certificates.install(certificates) {
                return error.into();
            }
            if let Err(error) = self.channel.tell_installed().await {
                return error.into();
            }
        }
    }
}

/// Returns the next message of the back, which must be of this kind.
async fn message<T: serde::de::DeserializeOwned>(
    channel: &Channel,
    reader: &mut FrameReader,
    expected: Kind,
) -> Result<T, FrontError> {
    match reader.next(channel.stream()).await? {
        Some(Frame { kind, payload }) if kind == expected => Ok(serde_json::from_slice(&payload)?),
        Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Accepts connections forever.
async fn accept(front: &Arc<Front>, listener: &TcpListener) -> std::convert::Infallible {
    let limiter = ConnectionLimiter::new(front.limits);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let client = front.known_clients.client(peer.ip());
                if let Some(permit) = limiter.admit(client) {
                    tokio::spawn(connection::serve(stream, peer, Arc::clone(front), permit));
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
