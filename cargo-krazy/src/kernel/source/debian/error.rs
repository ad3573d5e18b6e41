//! The failures of Debian's archive as a source, with exit code and help.

use std::io;
use std::path::PathBuf;
use std::str::Utf8Error;

use super::OFFICIAL;
use super::release::ReleaseError;
use super::signature::SignatureError;
use crate::failure::{Exit, Explain};
use crate::vendored;

/// A configuration that no archive can satisfy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The suite is not a name.
    #[error("`{suite}` is not the name of a Debian suite")]
    Suite {
        /// The configured suite.
        suite: String,
    },
    /// The mirror is not a URL.
    #[error("the kernel's mirror `{url}` is not an http or https URL")]
    Mirror {
        /// The configured mirror.
        url: String,
    },
    /// The suite has no such package.
    #[error("Debian's suite `{suite}` has no package `{package}`")]
    NoPackage {
        /// The suite.
        suite: String,
        /// The configured package.
        package: String,
        /// The most similar name of a kernel's package.
        nearest: Option<String>,
    },
}

impl Explain for RequestError {
    fn exit(&self) -> Exit {
        Exit::Config
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            RequestError::Suite { .. } => "give a code name, such as `trixie`".to_owned(),
            RequestError::Mirror { .. } => {
                format!("give the URL of an archive, such as \"{OFFICIAL}/debian\"")
            }
            RequestError::NoPackage { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            RequestError::NoPackage { nearest: None, .. } => {
                "check `package` and `suite` of the kernel in Cargo.toml".to_owned()
            }
        })
    }
}

/// A package that the archive did not provide. `what` is the kind of the product, such as `kernel`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// `--locked` forbids to choose one.
    #[error("no {what} is locked for board `{board}` ({package} of Debian's `{suite}`)")]
    NotLocked {
        /// The product.
        what: &'static str,
        /// The board.
        board: &'static str,
        /// The meta package.
        package: String,
        /// The suite.
        suite: String,
        /// The lock file.
        lock_file: PathBuf,
    },
    /// `--offline` forbids to choose one.
    #[error(
        "no {what} is locked for board `{board}` ({package} of Debian's `{suite}`), and --offline forbids to look for one"
    )]
    Offline {
        /// The product.
        what: &'static str,
        /// The board.
        board: &'static str,
        /// The meta package.
        package: String,
        /// The suite.
        suite: String,
    },
    /// `--offline` forbids to fetch the locked one.
    #[error(
        "the {what} of board `{board}`, {name} {version}, is not in the cache, and --offline forbids to fetch it"
    )]
    NotCached {
        /// The product.
        what: &'static str,
        /// The board.
        board: &'static str,
        /// The locked package.
        name: String,
        /// Its version.
        version: String,
    },
    /// The package is larger than any of its kind.
    #[error("the package {name} is unbelievably large: {bytes} bytes")]
    TooLarge {
        /// The package.
        name: String,
        /// Bytes.
        bytes: u64,
    },
    /// The archive has dropped the locked package.
    #[error("the locked {what} {name} {version} is no longer offered: {url} is gone")]
    Gone {
        /// The product.
        what: &'static str,
        /// The package.
        name: String,
        /// Its version.
        version: String,
        /// Its URL.
        url: String,
        /// The lock file.
        lock_file: PathBuf,
    },
    /// The suite has no packages for the architecture.
    #[error("Debian's suite `{suite}` offers no {path}")]
    NoIndex {
        /// The suite.
        suite: String,
        /// The index file below the suite's directory.
        path: String,
    },
    /// The index of packages is damaged.
    #[error("failed to read {url}: {error}")]
    Index {
        /// Its URL.
        url: String,
        /// The reason.
        error: io::Error,
    },
    /// The index of packages lacks the kernel of a meta package.
    #[error(
        "Debian's suite `{suite}` has `{package}`, but not the `{kernel}`{} it depends on",
        version.as_ref().map(|version| format!(" {version}")).unwrap_or_default()
    )]
    Incomplete {
        /// The suite.
        suite: String,
        /// The meta package.
        package: String,
        /// The kernel's package.
        kernel: String,
        /// The version that the meta package insists on.
        version: Option<String>,
    },
    /// The suite's `InRelease` is not to be trusted.
    #[error("refused {url}: {why}")]
    Refused {
        /// Its URL.
        url: String,
        /// The reason.
        why: Distrust,
    },
    /// No mirror of the suite is known.
    #[error("no mirror of Debian's suite `{suite}` is known")]
    NoMirror {
        /// The suite.
        suite: String,
    },
}

/// The reason that a suite's `InRelease` is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Distrust {
    /// It has bytes that are not UTF-8.
    #[error("it is not text")]
    Text(#[from] Utf8Error),
    /// Its signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is of another suite, or too old.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

impl Explain for ArchiveError {
    fn exit(&self) -> Exit {
        Exit::Fetch
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            ArchiveError::NotLocked { lock_file, .. } => {
                return Some(format!("run once without --locked, which writes {}", lock_file.display()));
            }
            ArchiveError::Gone { lock_file, .. } => {
                return Some(format!(
                    "run `cargo krazy kernel update`, or remove its entry from {}",
                    lock_file.display()
                ));
            }
            ArchiveError::Offline { .. } | ArchiveError::NotCached { .. } => vendored::HELP,
            ArchiveError::NoIndex { .. } => "choose another `suite` for the kernel",
            ArchiveError::Incomplete { .. } => {
                "the mirror may be in the middle of an update: try again later"
            }
            ArchiveError::Refused { why: Distrust::Release(ReleaseError::Future(_)), .. } => {
                "check date and time of this machine"
            }
            ArchiveError::Refused { .. } => {
                "the mirror is out of date or was tampered with: set `mirror` of the kernel to another one"
            }
            ArchiveError::NoMirror { .. } => {
                "set `mirror` of the kernel to one that ends in `/debian`, with `/debian-security` beside it, or run \
                 `cargo krazy kernel update`"
            }
            ArchiveError::TooLarge { .. } | ArchiveError::Index { .. } => return None,
        };
        Some(help.to_owned())
    }
}
