//! Where everything is, and how much of it anyone may use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use krazy_boot::api::certificate::TRIAL;

/// The port unless the command line names another.
pub const PORT: u16 = 8443;

/// What the server works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen: the first of these that works.
    pub listen: Vec<SocketAddr>,
    /// The root of everything that is read and written: `/`, or a test's folder with `data`, `tmp`, `proc` and
    /// `run` in it. Init's control socket is below it too.
    pub root: PathBuf,
    /// Whether clients may speak TLS 1.2.
    pub tls12: bool,
    /// Whether the local network is told where the device is.
    pub announce: bool,
    /// What connections may use.
    pub limits: Limits,
}

/// What connections may use. The product of the first and the size of a TLS connection, some 90 KiB, bounds
/// the memory that strangers can take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// How many of them are kept for addresses from which a right credential has come.
    pub connections_kept: usize,
    /// Connections at a time from one address, or from the /64 of an IPv6 address.
    pub connections_per_client: usize,
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// For the header of a request, and from the handshake to the first request.
    pub header: Duration,
    /// Between requests, between two pieces of an upload, and until a client that does not read is given up.
    pub idle: Duration,
    /// Logs that are followed at a time. Each holds one of the connections that init has.
    pub live_logs: usize,
    /// Logs that one token follows at a time.
    pub live_logs_per_token: usize,
    /// An update that gets no data for so long is dropped.
    pub update_idle: Duration,
    /// How long a new certificate may go unconfirmed.
    pub certificate_trial: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 48,
            connections_kept: 12,
            connections_per_client: 24,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            live_logs: 24,
            live_logs_per_token: 8,
            update_idle: Duration::from_secs(600),
            certificate_trial: TRIAL,
        }
    }
}

impl Config {
    /// A device: port 8443 of every IPv6 and IPv4 address, or of every IPv4 address on kernels without IPv6.
    pub fn device() -> Self {
        let every = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        Config {
            listen: every.map(|address| SocketAddr::new(address, PORT)).into(),
            root: PathBuf::from("/"),
            tls12: false,
            announce: true,
            limits: Limits::default(),
        }
    }
}
