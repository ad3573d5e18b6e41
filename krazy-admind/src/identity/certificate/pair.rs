//! A private key and its certificate, ready to be presented.

use std::sync::Arc;

use krazy_boot::digest::{Hex, Sha256Hash};
use rustls::crypto::ring::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::validity;

/// The most certificates that follow one another up to an authority.
const MAX_CHAIN: usize = 4;

/// A key and its certificate. Has no `Debug`, so that the key cannot end up in a log.
pub(crate) struct Pair {
    /// TLS with it.
    pub(crate) tls: Arc<ServerConfig>,
    /// The certificate's hash, by which clients know it.
    pub(crate) sha256: Sha256Hash,
    /// The end of its validity, RFC 3339.
    pub(crate) not_after: Option<String>,
}

/// Why a key and a certificate are none.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// No certificate in PEM.
    #[error("the certificate cannot be read: {0}")]
    Certificate(pem::Error),
    /// No certificate at all.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// More than any authority needs.
    #[error("{0} certificates are too many, at most {MAX_CHAIN} are taken")]
    Chain(usize),
    /// No private key in PEM.
    #[error("the private key cannot be read: {0}")]
    Key(pem::Error),
    /// They do not go together, or are of a kind that TLS cannot use.
    #[error("certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl Pair {
    /// Reads both from PEM. `certificate` and `key` may be the same text.
    pub(crate) fn from_pem(certificate: &[u8], key: &[u8], tls12: bool) -> Result<Self, PairError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(PairError::Certificate)?;
        let own = chain.first().ok_or(PairError::NoCertificate)?;
        if chain.len() > MAX_CHAIN {
            return Err(PairError::Chain(chain.len()));
        }
        let (sha256, not_after) = (Hex(Sha256::digest(own).into()), validity::not_after(own));
        let key = PrivateKeyDer::from_pem_slice(key).map_err(PairError::Key)?;
        let versions: &[&SupportedProtocolVersion] = if tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Pair { tls: Arc::new(tls), sha256, not_after })
    }
}
