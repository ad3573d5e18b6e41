//! The reasons for which a download fails, with exit code and help.

use crate::failure::{Exit, Explain, Failure};

/// The final failure of a download.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    /// The server has no such file.
    #[error("{url} does not exist (status {status})")]
    NotFound {
        /// The URL.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// The server refused, or kept failing.
    #[error("failed to download {url}: {why}")]
    Failed {
        /// The URL.
        url: String,
        /// The last failure.
        why: String,
    },
    /// More or fewer bytes than there should be.
    #[error("{url} has {found} bytes, not the expected {expected}")]
    Size {
        /// The URL.
        url: String,
        /// Bytes that were announced or came.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// More bytes than are acceptable.
    #[error("{url} is larger than {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Other content than there should be.
    #[error("{url} has the wrong content: its SHA-256 is {found}, not {expected}")]
    Hash {
        /// The URL.
        url: String,
        /// In hex.
        found: String,
        /// In hex.
        expected: String,
    },
    /// Neither a runtime nor a client can be made.
    #[error("failed to set up networking: {why}")]
    Setup {
        /// The reason.
        why: String,
    },
    /// The file on this machine.
    #[error(transparent)]
    Local(#[from] Failure),
}

impl Explain for DownloadError {
    fn exit(&self) -> Exit {
        match self {
            DownloadError::Local(failure) => failure.exit(),
            _ => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            DownloadError::Local(failure) => return failure.next_step().map(str::to_owned),
            DownloadError::Setup { .. } => return None,
            DownloadError::NotFound { .. } => "check the URL",
            DownloadError::Failed { .. } => {
                "check the network and the proxy settings; what has arrived is kept, the next run resumes"
            }
            DownloadError::Size { .. } | DownloadError::TooLarge { .. } | DownloadError::Hash { .. } => {
                "the server is out of date or was tampered with: try again later, or another one"
            }
        };
        Some(help.to_owned())
    }
}
