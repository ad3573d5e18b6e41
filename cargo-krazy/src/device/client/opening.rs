//! Construction of a client: the certificates it accepts, the token it sends.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::slice;
use std::time::Duration;

use krazy_boot::api::Endpoint;
use krazy_boot::api::certificate::TRIAL_SERVER_NAME;
use krazy_boot::api::credentials::Token;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls_pki_types::CertificateDer;

use super::{CONNECT_TIMEOUT, Client};
use crate::device::credentials::Credentials;
use crate::device::hosts::Address;
use crate::device::pinned::{self, RejectedCertificate};
use crate::device::target::Target;
use crate::failure::{Exit, Explain, Result, chain};

/// The time for which an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
enum OpeningError {
    #[error("there is no token to send")]
    NoToken,
    #[error("there is no certificate to pin")]
    NoCertificate,
    #[error("failed to find the address of `{device}`: {error}")]
    Address { device: String, error: io::Error },
    #[error("failed to set up networking: {0}")]
    Network(String),
}

impl OpeningError {
    fn network(error: &dyn std::error::Error) -> Self {
        OpeningError::Network(chain(error))
    }
}

impl Explain for OpeningError {
    fn exit(&self) -> Exit {
        match self {
            OpeningError::Address { .. } => Exit::Device,
            OpeningError::NoToken | OpeningError::NoCertificate | OpeningError::Network(_) => Exit::Failed,
        }
    }
}

impl Client {
    /// A client for `target`, a device of `appliance`. Nothing is sent yet, unless the appliance's token is being
    /// exchanged: then the device is asked which one it knows.
    pub(crate) fn new(target: &Target, appliance: &str, credentials: &Credentials) -> Result<Self> {
        let Credentials { certificates, tokens } = credentials;
        let [first, others @ ..] = &tokens[..] else {
            return Err(OpeningError::NoToken.into());
        };
        let client = |token| Self::with(target, appliance, certificates, token);
        if others.is_empty() {
            return client(first);
        }
        for token in tokens {
            let client = client(token)?;
            match client.get::<serde::de::IgnoredAny>(&Endpoint::Status) {
                Err(error) if error.is_unauthorized() => {}
                // The first request reports other failures.
                _ => return Ok(client),
            }
        }
        client(first)
    }

    /// A client for `target` that accepts one of `certificates` and sends `token`.
    pub(crate) fn with(
        target: &Target,
        appliance: &str,
        certificates: &[CertificateDer<'_>],
        token: &Token,
    ) -> Result<Self> {
        Self::build(target, appliance, certificates, token, None)
    }

    /// A client for `target` that asks for the certificate on trial, which must be `certificate`.
    pub(crate) fn on_trial(
        target: &Target,
        appliance: &str,
        certificate: &CertificateDer<'_>,
        token: &Token,
    ) -> Result<Self> {
        let Address { host, port } = &target.address;
        let addresses = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|error| OpeningError::Address { device: target.name.clone(), error })?;
        Self::build(target, appliance, slice::from_ref(certificate), token, Some(addresses.collect()))
    }

    /// With `trial`, which are the target's addresses, the server name asks for the certificate on trial.
    fn build(
        target: &Target,
        appliance: &str,
        certificates: &[CertificateDer<'_>],
        token: &Token,
        trial: Option<Vec<SocketAddr>>,
    ) -> Result<Self> {
        let pins: Vec<_> = certificates.iter().map(pinned::fingerprint).collect();
        let pinned = *pins.first().ok_or(OpeningError::NoCertificate)?;
        let rejected = RejectedCertificate::default();
        let tls = pinned::config(pins, rejected.clone()).map_err(|error| OpeningError::network(&error))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
            .map_err(|error| OpeningError::network(&error))?;
        bearer.set_sensitive(true);
        let mut http = reqwest::Client::builder();
        let mut base = format!("https://{}", target.address);
        if let Some(addresses) = trial {
            base = format!("https://{TRIAL_SERVER_NAME}:{}", target.address.port);
            http = http.resolve_to_addrs(TRIAL_SERVER_NAME, &addresses);
        }
        let http = http
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("cargo-krazy/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .connect_timeout(CONNECT_TIMEOUT)
            // Between requests nobody here notices that a device hangs up, as it does after a minute: a build may
            // lie between two of them.
            .pool_idle_timeout(IDLE_TIMEOUT)
            // A device is in the same network, and a proxy must not see what is meant for it.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Client {
            runtime: runtime.map_err(|error| OpeningError::network(&error))?,
            http: http.map_err(|error| OpeningError::network(&error))?,
            base,
            target: target.clone(),
            appliance: appliance.to_owned(),
            token: token.clone(),
            pinned,
            rejected,
        })
    }
}
