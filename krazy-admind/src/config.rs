//! The configuration: addresses, the root directory, and the limits on connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use krazy_boot::api::certificate::TRIAL;
use semver::Version;
use serde::{Deserialize, Serialize};

/// The default port.
pub(crate) const PORT: u16 = 8443;

/// Requests in flight on one HTTP/2 connection.
pub(crate) const MAX_STREAMS: u32 = 16;

/// The configuration of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on. The first that can be bound is used.
    pub listen: Vec<SocketAddr>,
    /// The root of all paths: `/`, or the directory of a test with `data`, `tmp`, `proc` and `run` in it. The control
    /// socket of init is below it too.
    pub root: PathBuf,
    /// Set to accept TLS 1.2.
    pub tls12: bool,
    /// Set to announce the device on its local network.
    pub announce: bool,
    /// The restrictions of updates.
    pub policy: Policy,
    /// The limits on connections.
    pub limits: Limits,
}

/// Restrictions on what the device may start next. They are settings of the build that runs.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Set to refuse everything but signed updates that would change what the device starts: raw writes, files outside of
    /// `/data`, a lower version floor, and slots without a valid signature.
    pub signed_only: bool,
    /// The lowest version that the device accepts. Once the build is confirmed it holds for later builds, too.
    pub floor: Option<Version>,
}

/// Limits on connections and requests.
///
/// A TLS connection takes some 90 KiB. That times [`Limits::connections`] bounds the memory that clients can use.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Limits {
    /// Concurrent connections. Where they are limited, a new one takes the place of an older one without a credential.
    pub connections: usize,
    /// Connections of these that only known clients can use: addresses from which a valid credential has come.
    pub connections_kept: usize,
    /// Concurrent connections of one client: an IPv4 address, or the /64 of an IPv6 address.
    pub connections_per_client: usize,
    /// Timeout from the TCP connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// Timeout for the header of a request, and from the handshake to the first request.
    pub header: Duration,
    /// Timeout between requests, between two chunks of an upload, and for a client that does not read its download.
    pub idle: Duration,
    /// Concurrent live logs. Each holds one of the connections that init accepts.
    pub live_logs: usize,
    /// Concurrent live logs of one token.
    pub live_logs_per_token: usize,
    /// Timeout after which an update without data is dropped.
    pub update_idle: Duration,
    /// Time to confirm a new certificate.
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
    /// The configuration of a device: port 8443 of every IPv6 and IPv4 address. On kernels without IPv6, port 8443 of
    /// every IPv4 address.
    pub(crate) fn device() -> Self {
        let every = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        Config {
            listen: every.map(|address| SocketAddr::new(address, PORT)).into(),
            root: PathBuf::from("/"),
            tls12: false,
            announce: true,
            policy: Policy::default(),
            limits: Limits::default(),
        }
    }
}
