//! The process that has the rights of root: it checks credentials, and does what requests ask for. Nothing of the network
//! reaches it but frames of the front ([`crate::transport`]).
//!
//! A front that was taken over can send any frames. Their effect is bounded here:
//!
//! | the front sends | the back |
//! |---|---|
//! | a frame that is malformed, too long, or out of turn | ends that request |
//! | requests without end | takes no further one while [`Limits::connections`] times [`MAX_STREAMS`] are in flight |
//! | half a head | ends the request after [`request::HEAD_TIMEOUT`] |
//! | half a body | as from a slow client: [`Limits::idle`] |
//! | no acknowledgement of certificates | goes on after [`news::INSTALL_TIMEOUT`] |
//! | other descriptors than connections | closes them |
//! | a request without a credential | answers 401 |

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod news;
mod request;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub(crate) use news::News;
pub(crate) use request::Authenticated;

use crate::api::Admin;
use crate::config::{Limits, MAX_STREAMS};
use crate::transport::{Settings, Signal};

/// The back, and its end of the channel.
pub(crate) struct Back {
    pub(crate) admin: Arc<Admin>,
    pub(crate) settings: Settings,
}

impl Back {
    /// Answers requests until the front closes the channel. Calls `serving` once the front accepts connections.
    pub(crate) async fn run(self, serving: impl FnOnce()) {
        let Back { admin, settings } = self;
        let limits = settings.limits;
        let in_flight = Arc::new(Semaphore::new(max_requests(&limits)));
        let mut serving = Some(serving);
        if let Err(error) = admin.news.start(&settings, &admin.certificates.to_present()).await {
            crate::log::write(format_args!("the network process does not take its settings: {error}"));
            return;
        }
        loop {
            let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
            match admin.news.channel().receive().await {
                Ok(Some(Signal::Request(stream))) => {
                    let admin = Arc::clone(&admin);
                    tokio::spawn(async move {
                        let _in_flight = permit;
                        request::serve(admin, stream, limits.idle).await;
                    });
                }
                Ok(Some(Signal::Serving)) => {
                    if let Some(serving) = serving.take() {
                        serving();
                    }
                }
                Ok(Some(Signal::Installed)) => admin.news.installed(),
                Ok(Some(Signal::Unknown)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// The most requests that a front within its limits has in flight.
fn max_requests(limits: &Limits) -> usize {
    limits.connections.saturating_mul(MAX_STREAMS as usize)
}
