//! What the host provisioned, read once at the start.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use krazy_boot::credentials::{CERTIFICATE, CredentialError, MAX_FILE, PRIVATE_KEY, TOKENS, TokenFile};
use rustls::crypto::ring::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

/// Everything needed to let a client in.
pub struct Credentials {
    /// TLS with the device's certificate.
    pub tls: Arc<ServerConfig>,
    /// Who may do what.
    pub tokens: TokenFile,
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Files that are not there. The device was not provisioned, or not completely.
    #[error(
        "this device has no credentials: {} missing\n\
         help: `cargo krazy image` puts them on /data; on an existing disk, copy them from the appliance's \
         folder in ~/.local/state/krazy: cert.pem and key.pem to /data/krazy/tls, tokens.json to /data/krazy",
        Paths(.0)
    )]
    Missing(Vec<PathBuf>),
    /// A file that could not be read.
    #[error("failed to read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A PEM file without what it should hold.
    #[error("{} is not usable: {source}", path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A token file that cannot be used.
    #[error("{} is not usable: {source}", path.display())]
    Tokens {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: CredentialError,
    },
    /// Certificate and key do not go together.
    #[error("certificate and key in {} cannot be used: {source}", folder.display())]
    Tls {
        /// Where they are.
        folder: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { ", " }, path.display())?;
        }
        Ok(())
    }
}

impl Credentials {
    /// Reads them from `data`, where `/data` is.
    pub fn load(data: &Path, tls12: bool) -> Result<Self, CredentialsError> {
        let [certificate, key, tokens] = [CERTIFICATE, PRIVATE_KEY, TOKENS].map(|name| data.join(name));
        let missing: Vec<_> = [&certificate, &key, &tokens]
            .into_iter()
            .filter(|path| matches!(path.try_exists(), Ok(false)))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(CredentialsError::Missing(missing));
        }
        let tokens = TokenFile::from_json(&read(&tokens)?)
            .map_err(|source| CredentialsError::Tokens { path: tokens, source })?;
        let chain = CertificateDer::pem_slice_iter(&read(&certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| CredentialsError::Pem { path: certificate, source })?;
        let key = PrivateKeyDer::from_pem_slice(&read(&key)?)
            .map_err(|source| CredentialsError::Pem { path: key, source })?;
        let tls = tls_config(chain, key, tls12)
            .map_err(|source| CredentialsError::Tls { folder: data.join("krazy/tls"), source })?;
        Ok(Credentials { tls: Arc::new(tls), tokens })
    }
}

fn tls_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    tls12: bool,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = if tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed: the parsers refuse what is too long.
    File::open(path).map_err(failed)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
