//! The failures of a source of kernels, with exit code and help.

use std::io;
use std::path::PathBuf;

use crate::failure::{Exit, Explain};
use crate::vendored;

/// A kernel that its configured source cannot provide.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The configured SHA-256 is not one.
    #[error("`sha256` of the kernel {url} is not 64 hex digits")]
    Checksum {
        /// The kernel.
        url: String,
    },
    /// It has to be downloaded, and must not be.
    #[error("the kernel {url} is not in the cache, and --offline forbids to fetch it")]
    NotCached {
        /// The kernel.
        url: String,
    },
    /// The configured path leads nowhere.
    #[error("failed to read the kernel {}: {error}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// Another program removed it from the cache.
    #[error("{} vanished while it was made", path.display())]
    Vanished {
        /// Its directory in the cache.
        path: PathBuf,
    },
    /// The newest package of the source is older than the locked one.
    #[error("the newest {package} in Debian's `{suite}` is {newest}, older than the locked {locked}")]
    Older {
        /// The meta package.
        package: String,
        /// The suite.
        suite: String,
        /// The version that the source offers.
        newest: String,
        /// The version in the lock file.
        locked: String,
    },
}

impl Explain for SourceError {
    fn exit(&self) -> Exit {
        match self {
            SourceError::Checksum { .. } => Exit::Config,
            _ => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            SourceError::Checksum { .. } => "`sha256sum FILE` prints it",
            SourceError::NotCached { .. } => vendored::HELP,
            SourceError::Path { .. } => {
                "`path` of the kernel is a directory, a .deb, a .tar.zst or a kernel image; see the README"
            }
            SourceError::Vanished { .. } => return None,
            SourceError::Older { .. } => {
                "the mirror may be behind: try again later; `--allow-downgrade` takes the older kernel"
            }
        };
        Some(help.to_owned())
    }
}
