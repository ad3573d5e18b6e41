//! The network: every wired interface up, an address on each, name servers, the time.

pub mod dhcp;
pub mod interfaces;
pub mod netlink;
pub mod sntp;
pub mod sockets;
