//! Errors of an appliance's secrets.

use std::path::PathBuf;

use crate::failure::{Exit, Explain};

/// Secrets that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretsError {
    #[error("`{0}` cannot be an appliance's name")]
    Name(String),
    #[error("there are no credentials for the appliance `{appliance}` in {}", directory.display())]
    NoCredentials { appliance: String, directory: PathBuf },
    #[error("there is no certificate of the appliance `{appliance}`: {} is missing", path.display())]
    NoCertificate { appliance: String, path: PathBuf },
    #[error("the secrets in {} are damaged: {why}", directory.display())]
    Damaged { directory: PathBuf, why: String },
    #[error("the secrets in {} are incomplete: {} missing", directory.display(), missing.join(", "))]
    Incomplete { directory: PathBuf, missing: Vec<String> },
    #[error("{} holds secrets, but its mode {mode:04o} lets others in", path.display())]
    NotPrivate { path: PathBuf, mode: u32 },
}

impl Explain for SecretsError {
    fn exit(&self) -> Exit {
        match self {
            SecretsError::Name(_) => Exit::Config,
            SecretsError::NoCredentials { .. } | SecretsError::NoCertificate { .. } => Exit::Device,
            SecretsError::Damaged { .. }
            | SecretsError::Incomplete { .. }
            | SecretsError::NotPrivate { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            SecretsError::Name(_) => {
                "set `name` in [package.metadata.krazy] to 1 to 63 ASCII letters, digits, `-` and `_`"
            }
            SecretsError::NoCredentials { .. } => {
                "make its image on this machine first, or copy that directory from the machine that did"
            }
            SecretsError::NoCertificate { .. } => {
                "copy that file, and `authority.pem` beside it, from the machine that made the appliance's first image; \
                 they are no secrets"
            }
            SecretsError::Damaged { .. } => {
                "restore that directory from a backup; without it the devices made with it take no updates. \
                 Removing it makes new secrets at the next image, for new devices"
            }
            SecretsError::Incomplete { .. } => {
                "restore the directory from a backup; or remove it, and the next image makes new secrets, \
                 which devices made with the old ones do not know"
            }
            SecretsError::NotPrivate { path, .. } => {
                return Some(format!("run `chmod go= '{}'`", path.display()));
            }
        };
        Some(help.to_owned())
    }
}
