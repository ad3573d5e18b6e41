//! The credentials that the host provisioned, read once at the start.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use krazy_boot::api::credentials::{CERTIFICATE, CredentialError, MAX_FILE, PRIVATE_KEY, TOKENS, TokenFile};

use super::certificate::{self, Pair, PairError};
use crate::device::CredentialStore;

/// The stored credentials.
pub(crate) struct Credentials {
    /// The device's key and certificate.
    pub(crate) pair: Pair,
    /// The tokens of clients.
    pub(crate) tokens: TokenFile,
}

/// A failure to load the credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Files are missing: the device was not provisioned, or not completely.
    #[error(
        "this device has no credentials: {} missing\n\
         help: `cargo krazy image` puts them on /data; on an existing disk, copy them from the appliance's \
         directory in ~/.local/state/krazy: cert.pem and key.pem to /data/krazy/tls, tokens.json to /data/krazy",
        Paths(.0)
    )]
    Missing(Vec<PathBuf>),
    /// A file that could not be read.
    #[error("failed to read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The token file is malformed.
    #[error("{} is not usable: {source}", path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: CredentialError,
    },
    /// Certificate or key are malformed, or do not match.
    #[error("the certificate and key in {} are not usable: {source}", directory.display())]
    Pair {
        /// The directory of both.
        directory: PathBuf,
        /// The cause.
        source: PairError,
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
    /// Loads the credentials in `store`.
    pub(crate) fn load(store: &CredentialStore, tls12: bool) -> Result<Self, CredentialsError> {
        let confirmed = certificate::finish_confirmation(store, tls12);
        let [certificate, key, tokens] = [CERTIFICATE, PRIVATE_KEY, TOKENS].map(|name| store.path(name));
        let missing: Vec<_> = [&certificate, &key, &tokens]
            .into_iter()
            .filter(|path| matches!(path.try_exists(), Ok(false)))
            .filter(|path| confirmed.is_none() || **path == tokens)
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(CredentialsError::Missing(missing));
        }
        let tokens = TokenFile::from_json(&read(&tokens)?)
            .map_err(|source| CredentialsError::Tokens { path: tokens, source })?;
        let pair = match confirmed {
            Some(pair) => pair,
            None => Pair::from_pem(&read(&certificate)?, &read(&key)?, tls12)
                .map_err(|source| CredentialsError::Pair { directory: store.path("krazy/tls"), source })?,
        };
        Ok(Credentials { pair, tokens })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than the limit: the parsers reject a file that is too long.
    File::open(path).map_err(failed)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
