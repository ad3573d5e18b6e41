//! The news for the front: its settings, and certificates when they change.

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
    /// The messages with certificates that were sent after the first one. Held while one is sent.
    sent: Arc<Mutex<u64>>,
    /// Those that the front has acknowledged.
    installed: watch::Sender<u64>,
}

impl News {
    pub(crate) fn new(channel: Channel) -> Self {
        News { channel: Arc::new(channel), sent: Arc::default(), installed: watch::Sender::new(0) }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Sends the first messages.
    pub(super) async fn start(&self, settings: &Settings, certificates: &Certificates) -> io::Result<()> {
        let _first = self.sent.lock().await;
        send(self.channel.stream(), Kind::Settings, &serde_json::to_vec(settings)?).await?;
        send(self.channel.stream(), Kind::Certificates, &serde_json::to_vec(certificates)?).await
    }

    /// Sends the certificates that `present` returns, and waits until the front presents them. Messages are complete
    /// whatever becomes of the caller, and in the order in which `present` was called.
    pub(crate) async fn publish(&self, present: impl FnOnce() -> Certificates) {
        if let Err(why) = self.deliver(present).await {
            crate::log::write(format_args!(
                "the network process does not present the new certificate: {why}"
            ));
        }
    }

    async fn deliver(&self, present: impl FnOnce() -> Certificates) -> Result<(), String> {
        let mut installed = self.installed.subscribe();
        let deliver = async {
            let mut sent = Arc::clone(&self.sent).lock_owned().await;
            let frame = serde_json::to_vec(&present())?;
            let channel = Arc::clone(&self.channel);
            // In a task of its own: half a frame would make the rest of the channel unreadable.
            let sending = tokio::spawn(async move {
                send(channel.stream(), Kind::Certificates, &frame).await?;
                *sent += 1;
                Ok::<_, io::Error>(*sent)
            });
            let number = sending.await??;
            installed.wait_for(|installed| *installed >= number).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(())
        };
        match timeout(INSTALL_TIMEOUT, deliver).await {
            Ok(delivered) => delivered.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it does not reply within {} s", INSTALL_TIMEOUT.as_secs())),
        }
    }

    /// Records that the front presents the certificates of one message more.
    pub(super) fn installed(&self) {
        self.installed.send_modify(|installed| *installed += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::transport::{FrameReader, NEWS, Pem, Signal};

    fn certificates() -> Certificates {
        let pem = Pem { certificate: "certificate".into(), key: "key".into() };
        Certificates { current: pem, trial: None }
    }

    #[tokio::test]
    async fn new_certificates_are_acknowledged_one_by_one() {
        let (back, front) = Channel::pair().unwrap();
        let news = News::new(back);
        let settings = Settings { tls12: false, limits: Limits::default(), announced: None };
        news.start(&settings, &certificates()).await.unwrap();
        let front = tokio::spawn(async move {
            let mut reader = FrameReader::new(NEWS);
            // The first two come before it serves, and are not acknowledged.
            for number in 0..4 {
                reader.next(front.stream()).await.unwrap().unwrap();
                if number >= 2 {
                    front.tell_installed().await.unwrap();
                }
            }
        });
        let receive = async {
            while let Ok(Some(Signal::Installed)) = news.channel().receive().await {
                news.installed();
            }
        };
        let deliver = async {
            for _ in 0..2 {
                news.deliver(certificates).await.unwrap();
            }
            front.await.unwrap();
        };
        futures_util::future::join(receive, deliver).await;
    }
}
