//! The messages of the back over the channel.

use serde::{Deserialize, Serialize};

use crate::config::Limits;

/// The settings of the front, sent once.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Settings {
    /// Set to accept TLS 1.2.
    pub(crate) tls12: bool,
    pub(crate) limits: Limits,
    /// The announcement, if there is to be one.
    pub(crate) announced: Option<Announced>,
}

/// The content of the announcement over mDNS; see [`krazy_boot::api::discovery`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Announced {
    /// The host name.
    pub(crate) host: String,
    /// The port of the API.
    pub(crate) port: u16,
    pub(crate) appliance: String,
    pub(crate) version: String,
}

/// The certificates to present, with their keys. Each message replaces the one before.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Certificates {
    pub(crate) current: Pem,
    /// The pair on trial, for clients that ask for its server name, and the milliseconds that its trial lasts.
    pub(crate) trial: Option<(Pem, u64)>,
}

/// A chain of certificates and its private key. Not `Debug`, so that the key cannot be logged.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Pem {
    pub(crate) certificate: String,
    pub(crate) key: String,
}
