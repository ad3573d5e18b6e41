//! The exchange of a device's TLS certificate: payloads and constants for both sides of the API.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/certificate` | [`CertificateStatus`] |
//! | `PUT /api/v1/certificate` with a key and its certificate, PEM | [`CertificateStatus`] |
//! | `POST /api/v1/certificate/confirm` | 204 |
//!
//! A new pair is on trial first: for [`TRIAL`] the device presents it to clients that request [`TRIAL_SERVER_NAME`],
//! and the old one to all others. It replaces the old one when a client confirms it over a connection that presented
//! it, which proves that the client accepts it and that the device has its key. Until then it is in memory
//! only: a restart ends the trial and changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Hash;

/// The time that a pair is on trial.
pub const TRIAL: Duration = Duration::from_secs(600);

/// The server name (RFC 6066, section 3) that selects the pair on trial. No host has it (RFC 6761, section 6.4).
pub const TRIAL_SERVER_NAME: &str = "trial.krazy.invalid";

/// The certificates of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CertificateStatus {
    /// The certificate in use, DER.
    pub sha256: Sha256Hash,
    /// The end of its validity, RFC 3339; `None` if it cannot be read. Clients that pin ignore it.
    pub not_after: Option<String>,
    /// The certificate on trial.
    pub trial: Option<CertificateTrial>,
}

/// A certificate on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CertificateTrial {
    /// The certificate, DER.
    pub sha256: Sha256Hash,
    /// Seconds until the trial ends.
    pub remaining: u64,
}
