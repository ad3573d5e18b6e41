//! DHCPv4: the packets and the client's state machine, without sockets.
//!
//! Written here rather than taken from a crate: `dhcproto` reads every option there is and brings a DNS library
//! and a random generator with it, a client needs twelve options, and PID 1 is to stay small.

mod client;
mod packet;

pub use client::{Client, Lease, Output, Target};
pub use packet::{MAX_PACKET, Reply, ReplyKind, Route, parse};

/// The port servers listen on.
pub const SERVER_PORT: u16 = 67;

/// The port clients listen on.
pub const CLIENT_PORT: u16 = 68;
