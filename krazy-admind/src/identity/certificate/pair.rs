//! A private key with its certificate, as text and ready to serve with.

use std::sync::Arc;

use krazy_boot::digest::{Hex, Sha256Hash};
use rustls::crypto::ring::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::validity;
use crate::transport::Pem;

/// Certificates of a chain. Public authorities use two or three.
const MAX_CHAIN_LEN: usize = 4;

/// A key and its certificate, which work together. Not `Debug`, so that the key cannot be logged.
pub(crate) struct Pair {
    /// Both as text, for the process that serves with them.
    pub(crate) pem: Pem,
    /// The hash of the certificate, by which clients pin it.
    pub(crate) sha256: Sha256Hash,
    /// The end of its validity; `None` if it cannot be parsed.
    pub(crate) not_after: Option<OffsetDateTime>,
}

/// A failure to use a key and certificate.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The certificate is not PEM.
    #[error("the certificate cannot be read: {0}")]
    Certificate(pem::Error),
    /// There is no certificate.
    #[error("no certificate found")]
    NoCertificate,
    /// The chain is too long.
    #[error("the chain has {0} certificates, at most {MAX_CHAIN_LEN} are supported")]
    Chain(usize),
    /// The private key is not PEM.
    #[error("the private key cannot be read: {0}")]
    Key(pem::Error),
    /// The two do not match, or TLS does not support their type.
    #[error("certificate and key do not work together: {0}")]
    Tls(#[from] rustls::Error),
}

impl Pair {
    /// Parses both from PEM. `certificate` and `key` may be the same text.
    pub(crate) fn from_pem(certificate: &[u8], key: &[u8], tls12: bool) -> Result<Self, PairError> {
        // Only what is outside of PEM's sections need not be ASCII.
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let pem = Pem { certificate: text(certificate), key: text(key) };
        let (_usable, own) = server(&pem, tls12)?;
        let (sha256, not_after) = (hash(&own), validity::not_after(&own));
        Ok(Pair { pem, sha256, not_after })
    }
}

/// Returns the hash of a certificate.
pub(crate) fn hash(certificate: &CertificateDer<'_>) -> Sha256Hash {
    Hex(Sha256::digest(certificate).into())
}

/// Returns the TLS configuration that uses `pem`, and the first certificate of its chain.
pub(crate) fn server(
    pem: &Pem,
    tls12: bool,
) -> Result<(Arc<ServerConfig>, CertificateDer<'static>), PairError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(PairError::Certificate)?;
    let own = chain.first().ok_or(PairError::NoCertificate)?.clone();
    if chain.len() > MAX_CHAIN_LEN {
        return Err(PairError::Chain(chain.len()));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(PairError::Key)?;
    let versions: &[&SupportedProtocolVersion] = if tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(tls), own))
}
