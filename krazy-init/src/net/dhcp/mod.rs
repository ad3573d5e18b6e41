//! DHCPv4: messages and the client's state machine, without sockets. Source: RFC 2131.
//!
//! The messages are not taken from `dhcproto`: with version 0.15, init grew by 216 KiB and 45 crates, among them a DNS
//! library; it stops at the first malformed option, and asserts on some that a server may send.

mod client;
mod domains;
mod lease;
mod packet;

pub(crate) use client::Client;
pub(super) use client::{Output, Target};
pub(super) use domains::bounded;
pub(super) use lease::Lease;
pub(super) use packet::{MAX_PACKET, Route, client_address};

/// The port of servers.
pub(super) const SERVER_PORT: u16 = 67;

/// The port of clients.
pub(super) const CLIENT_PORT: u16 = 68;
