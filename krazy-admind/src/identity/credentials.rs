//! What the host provisioned, read once at the start.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use krazy_boot::api::credentials::{CERTIFICATE, CredentialError, MAX_FILE, PRIVATE_KEY, TOKENS, TokenFile};

use crate::identity::certificate::{self, Pair, PairError};

/// Everything needed to let a client in.
pub(crate) struct Credentials {
    /// The device's key and certificate.
    pub(crate) pair: Pair,
    /// Who may do what.
    pub(crate) tokens: TokenFile,
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
    /// A token file that cannot be used.
    #[error("{} is not usable: {source}", path.display())]
    Tokens {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: CredentialError,
    },
    /// Certificate or key are not what they should be, or do not go together.
    #[error("{} holds no certificate and key to serve with: {source}", folder.display())]
    Pair {
        /// Where they are.
        folder: PathBuf,
        /// Why.
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
    /// Reads them from `data`, where `/data` is.
    pub(crate) fn load(data: &Path, tls12: bool) -> Result<Self, CredentialsError> {
        let confirmed = certificate::finish_confirmation(data, tls12);
        let [certificate, key, tokens] = [CERTIFICATE, PRIVATE_KEY, TOKENS].map(|name| data.join(name));
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
                .map_err(|source| CredentialsError::Pair { folder: data.join("krazy/tls"), source })?,
        };
        Ok(Credentials { pair, tokens })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed: the parsers refuse what is too long.
    File::open(path).map_err(failed)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
