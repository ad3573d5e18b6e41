//! The network side: sockets, TLS, HTTP, their limits, and the announcement over mDNS.

mod activity;
mod announcement;
mod connection;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod limiter;
mod pace;
mod server;

pub use server::{Server, StartError};
