//! The reasons that a signed file is not accepted.

use pgp::crypto::hash::HashAlgorithm;

use crate::failure::{Exit, Explain};

/// The reason that a file is not accepted as the archive's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignatureError {
    /// An embedded key cannot be read.
    #[error("a key of this program is damaged: {0}")]
    Key(#[source] pgp::errors::Error),
    /// Not text signed in the clear.
    #[error("it is not a signed file: {0}")]
    Unsigned(#[source] pgp::errors::Error),
    /// All signatures are of others.
    #[error("none of its signatures is by a key this program knows")]
    UnknownSigner,
    /// Signatures by known keys that do not hold, each with its flaw.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Flaw>),
}

impl Explain for SignatureError {
    fn exit(&self) -> Exit {
        match self {
            SignatureError::Key(_) => Exit::Failed,
            _ => Exit::Fetch,
        }
    }
}

/// The reason that a signature by a known key does not hold. Each variant carries the key's fingerprint, in hex.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// The key or its certificate is revoked.
    #[error("its key {0} is revoked")]
    Revoked(String),
    /// The key is for encryption or authentication.
    #[error("its key {0} is not one for signing")]
    NotForSigning(String),
    /// The key has expired.
    #[error("its key {0} has expired")]
    ExpiredKey(String),
    /// The signature is over a key or another signature.
    #[error("the signature by {0} is not one over a file")]
    NotOverFile(String),
    /// The hash is weak, or its algorithm is unknown.
    #[error("the signature by {key} uses {} hash", match hash {
        Some(hash) => format!("the weak {hash:?}"),
        None => "an unknown".to_owned(),
    })]
    Hash {
        /// The key.
        key: String,
        /// The algorithm, if it is known.
        hash: Option<HashAlgorithm>,
    },
    /// The signature has no date.
    #[error("the signature by {0} has no date")]
    NoDate(String),
    /// The signature will be made later.
    #[error("the signature by {0} is from the future; is this machine's clock right?")]
    Future(String),
    /// The signature was made before its key.
    #[error("the signature by {0} is older than the key")]
    BeforeKey(String),
    /// The signature has expired.
    #[error("the signature by {0} has expired")]
    Expired(String),
    /// The signature is over another text.
    #[error("the signature by {0} does not match the text")]
    OtherText(String),
}
