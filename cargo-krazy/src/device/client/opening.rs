//! Construction of a client, and of what it sends requests by.

use std::path::PathBuf;
use std::slice;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use krazy_boot::api::certificate::TRIAL_SERVER_NAME;
use krazy_boot::api::credentials::Token;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls_pki_types::CertificateDer;

use super::{CONNECT_TIMEOUT, Client};
use crate::device::credentials::Credentials;
use crate::device::hosts::Address;
use crate::device::lookup::Lookup;
use crate::device::pinned::{self, Accepted, Notes};
use crate::device::target::Target;
use crate::failure::{Exit, Explain, Result, chain};

/// The server's name in requests to an address that is link-local to an interface. Nobody can have it (RFC 6761).
const LINK_LOCAL_NAME: &str = "link-local.krazy.invalid";

/// The time for which an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
enum OpeningError {
    #[error("there is no token to send")]
    NoToken,
    #[error("there is no certificate to pin")]
    NoCertificate,
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
        Exit::Failed
    }
}

impl Client {
    /// A client for `target`, a device of `appliance`. Nothing is sent yet. The first request asks the device for its
    /// certificate, if devices can have one of their own, and for the token that it knows, if that is being exchanged.
    pub(crate) fn new(target: &Target, appliance: &str, credentials: &Credentials) -> Result<Self> {
        Self::build(target, appliance, credentials.clone(), None)
    }

    /// A client for `target` that accepts one of `certificates` and sends `token`.
    pub(crate) fn with(
        target: &Target,
        appliance: &str,
        certificates: &[CertificateDer<'_>],
        token: &Token,
    ) -> Result<Self> {
        Self::build(target, appliance, only(certificates, token), None)
    }

    /// A client for `target` that asks for the certificate on trial, which must be `certificate`.
    pub(crate) fn on_trial(
        target: &Target,
        appliance: &str,
        certificate: &CertificateDer<'_>,
        token: &Token,
    ) -> Result<Self> {
        let credentials = only(slice::from_ref(certificate), token);
        Self::build(target, appliance, credentials, Some(TRIAL_SERVER_NAME))
    }

    /// With `name`, requests are for that server's name.
    fn build(target: &Target, appliance: &str, credentials: Credentials, name: Option<&str>) -> Result<Self> {
        if credentials.tokens.is_empty() {
            return Err(OpeningError::NoToken.into());
        }
        if credentials.certificates.is_empty() && credentials.authority.is_none() {
            return Err(OpeningError::NoCertificate.into());
        }
        let Address { host, port } = &target.address;
        // No URL has the interface of an address.
        let name = name.or_else(|| host.contains('%').then_some(LINK_LOCAL_NAME));
        let base = match name {
            Some(name) => format!("https://{name}:{port}"),
            None => format!("https://{}", target.address),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Client {
            runtime: runtime.map_err(|error| OpeningError::network(&error))?,
            base,
            target: target.clone(),
            appliance: appliance.to_owned(),
            credentials,
            lookup: Lookup::new(host),
            access: OnceLock::new(),
        })
    }

    /// Returns what accepts certificates as in `accepted` and sends `token`.
    pub(super) fn http(
        &self,
        accepted: Accepted,
        notes: &Notes,
        token: Option<&Token>,
    ) -> Result<reqwest::Client> {
        let tls =
            pinned::config(accepted, Arc::clone(notes)).map_err(|error| OpeningError::network(&error))?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
                .map_err(|error| OpeningError::network(&error))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let http = reqwest::Client::builder()
            .dns_resolver(self.lookup.clone())
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("cargo-krazy/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            // Between requests nobody here notices that a device hangs up, as it does after a minute: a build may
            // lie between two of them.
            .pool_idle_timeout(IDLE_TIMEOUT)
            // A device is in the same network, and a proxy must not see what is meant for it.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Ok(http.map_err(|error| OpeningError::network(&error))?)
    }
}

fn only(certificates: &[CertificateDer<'_>], token: &Token) -> Credentials {
    Credentials {
        certificates: certificates.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        authority: None,
        tokens: vec![token.clone()],
        own_tokens: None,
        // Nobody asks which device has this certificate.
        directory: PathBuf::new(),
    }
}
