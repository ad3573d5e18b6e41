//! The network side: sockets, TLS, HTTP, their limits, and the announcement over mDNS.
//!
//! | stage | bounded by |
//! |---|---|
//! | connections | [`Limits::connections`] and [`Limits::connections_per_client`]; a further one takes the place of one without a credential, or is closed at once |
//! | TLS handshake | [`Limits::handshake`] |
//! | bytes without a valid credential | [`pace`] |
//! | header of a request | 16 KiB, 64 fields, [`Limits::header`] |
//! | upload | the windows of HTTP/2 until it is read; [`Limits::idle`] between two chunks; for an update, [`Limits::update_idle`] between two requests |
//! | download | `TCP_USER_TIMEOUT`: the kernel gives up when the client acknowledges nothing for [`Limits::idle`] |
//! | between requests | [`Limits::idle`] |
//!
//! [`Limits::connections`]: crate::config::Limits::connections
//! [`Limits::connections_per_client`]: crate::config::Limits::connections_per_client
//! [`Limits::handshake`]: crate::config::Limits::handshake
//! [`Limits::header`]: crate::config::Limits::header
//! [`Limits::idle`]: crate::config::Limits::idle
//! [`Limits::update_idle`]: crate::config::Limits::update_idle

mod activity;
mod announcement;
mod certificates;
mod connection;
mod exchange;
mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod limiter;
mod pace;

pub(crate) use front::{Front, FrontError};
