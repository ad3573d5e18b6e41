//! Parameters in paths and queries, as operations declare them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::logs::LogStream;
use super::problem::{ProblemKind, unknown_operation};

/// The characters to encode: all but the unreserved ones of RFC 3986, section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The failure to find the operation of a request.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No operation has this path.
    #[error("{}", unknown_operation(.0))]
    Path(String),
    /// The operations of this path have other methods.
    #[error("{path} takes {allowed}, not {method}")]
    Method {
        /// The path.
        path: String,
        /// The method of the request.
        method: String,
        /// The methods of the path, as in the header `Allow`.
        allowed: String,
    },
    /// A segment of the path is not percent-encoded UTF-8.
    #[error("`{0}` is not UTF-8")]
    Encoding(String),
    /// No log has this name.
    #[error("`{0}` is not a log; there are `out` and `err`")]
    Stream(String),
    /// No partition has this number.
    #[error("there is no partition `{0}`; there are 1 to 4")]
    Partition(String),
    /// The query does not have the operation's parameters.
    #[error("the query `{query}` is not understood: {source}")]
    Query {
        /// The query.
        query: String,
        /// The reason.
        source: serde_urlencoded::de::Error,
    },
}

impl EndpointError {
    /// The kind of problem that the server reports.
    pub fn kind(&self) -> ProblemKind {
        match self {
            EndpointError::Path(_) | EndpointError::Stream(_) | EndpointError::Partition(_) => {
                ProblemKind::NotFound
            }
            EndpointError::Method { .. } => ProblemKind::MethodNotAllowed,
            EndpointError::Encoding(_) | EndpointError::Query { .. } => ProblemKind::BadRequest,
        }
    }
}

/// A parameter in the path of a request.
pub(super) trait PathParameter: Sized {
    /// The percent-encoded form.
    fn encode(&self) -> String;
    /// Reads the percent-encoded form.
    fn decode(segment: &str) -> Result<Self, EndpointError>;
}

impl PathParameter for String {
    fn encode(&self) -> String {
        utf8_percent_encode(self, SEGMENT).to_string()
    }

    fn decode(segment: &str) -> Result<Self, EndpointError> {
        let text = percent_decode_str(segment).decode_utf8();
        text.map(Into::into).map_err(|_| EndpointError::Encoding(segment.to_owned()))
    }
}

impl PathParameter for LogStream {
    fn encode(&self) -> String {
        self.name().to_owned()
    }

    fn decode(segment: &str) -> Result<Self, EndpointError> {
        let streams = [LogStream::Out, LogStream::Err];
        let stream = streams.into_iter().find(|stream| stream.name() == segment);
        stream.ok_or_else(|| EndpointError::Stream(segment.to_owned()))
    }
}

/// A path on the device without its first slash, percent-encoded: `/` separates names, `%2F` would be part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EncodedPath(String);

impl EncodedPath {
    /// The path of a file on the device; `None` if it is not absolute, or is the root.
    pub fn of_file(path: &str) -> Option<Self> {
        let names = path.strip_prefix('/').filter(|names| !names.is_empty())?;
        let encoded: Vec<_> = names.split('/').map(|name| name.to_owned().encode()).collect();
        Some(EncodedPath(encoded.join("/")))
    }

    #[cfg(test)]
    pub(super) fn from_encoded(text: &str) -> Self {
        EncodedPath(text.to_owned())
    }

    /// The encoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PathParameter for EncodedPath {
    fn encode(&self) -> String {
        self.0.clone()
    }

    fn decode(segment: &str) -> Result<Self, EndpointError> {
        Ok(EncodedPath(segment.to_owned()))
    }
}

/// The number of a partition, 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PartitionNumber(#[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4)))] u8);

impl PartitionNumber {
    /// The number of a partition; `None` if there is none.
    pub fn new(number: u8) -> Option<Self> {
        (1..=4).contains(&number).then_some(PartitionNumber(number))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl PathParameter for PartitionNumber {
    fn encode(&self) -> String {
        self.0.to_string()
    }

    fn decode(segment: &str) -> Result<Self, EndpointError> {
        let number = segment.parse().ok().and_then(PartitionNumber::new);
        number.ok_or_else(|| EndpointError::Partition(segment.to_owned()))
    }
}

/// Reads the query of a request.
pub(super) fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, EndpointError> {
    serde_urlencoded::from_str(query)
        .map_err(|source| EndpointError::Query { query: query.to_owned(), source })
}

/// Writes a query without its `?`.
pub(super) fn write_query(query: &impl Serialize) -> String {
    serde_urlencoded::to_string(query)
        .unwrap_or_else(|error| unreachable!("queries are structures of plain values: {error}"))
}
