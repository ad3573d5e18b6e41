//! What the back tells the front: its settings, and certificates when they change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::transport::{Certificates, Channel, Kind, Settings, send};

/// Time within which the front presents new certificates. It takes milliseconds.
pub(super) const INSTALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The back's end of the channel.
pub(crate) struct News {
    channel: Arc<Channel>,
    /// The messages with certificates that were sent. Held while one is sent and acknowledged.
    sent: Mutex<u64>,
    /// Those that the front has acknowledged.
    installed: watch::Sender<u64>,
}

impl News {
    pub(crate) fn new(channel: Channel) -> Self {
        News { channel: Arc::new(channel), sent: Mutex::default(), installed: watch::Sender::new(0) }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Sends the first messages.
    pub(super) async fn start(&self, settings: &Settings, certificates: &Certificates) -> io::Result<()> {
        let mut sent = self.sent.lock().await;
        send(self.channel.stream(), Kind::Settings, &serde_json::to_vec(settings)?).await?;
        send(self.channel.stream(), Kind::Certificates, &serde_json::to_vec(certificates)?).await?;
        *sent += 1;
        Ok(())
    }

    /// Sends the certificates that `present` returns, and waits until the front presents them. Messages are complete
    /// whatever becomes of the caller, and in the order in which `present` was called.
    pub(crate) async fn publish(&self, present: impl FnOnce() -> Certificates) {
        let mut sent = self.sent.lock().await;
        let mut installed = self.installed.subscribe();
        let publish = async {
            let frame = serde_json::to_vec(&present())?;
            // In a task of its own: half a frame would make the rest of the channel unreadable.
            let channel = Arc::clone(&self.channel);
            tokio::spawn(async move { send(channel.stream(), Kind::Certificates, &frame).await }).await??;
            *sent += 1;
            let number = *sent;
            installed.wait_for(|installed| *installed >= number).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(())
        };
        let failed = match timeout(INSTALL_TIMEOUT, publish).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it does not reply within {} s", INSTALL_TIMEOUT.as_secs()),
        };
        crate::log::write(format_args!("the network process does not present the new certificate: {failed}"));
    }

    /// Records that the front presents the certificates of one message more.
    pub(super) fn installed(&self) {
        self.installed.send_modify(|installed| *installed += 1);
    }
}
