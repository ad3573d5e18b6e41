//! The heads of requests and responses, in JSON.

use std::net::SocketAddr;

use headers::{HeaderMap, HeaderName, HeaderValue};
use krazy_boot::digest::Sha256Hash;
use serde::{Deserialize, Serialize};

/// The head of a request, as the front has parsed it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestHead {
    /// The method, such as `GET`.
    pub(crate) method: String,
    /// The path, still percent-encoded.
    pub(crate) path: String,
    /// The query without its question mark; empty if there is none.
    pub(crate) query: String,
    /// The authority that the client asked for.
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<Header>,
    /// The address of the client.
    pub(crate) peer: SocketAddr,
    /// The hash of the certificate that its connection presented.
    pub(crate) certificate: Sha256Hash,
}

/// The head of a response.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    /// False if no frame of a body follows.
    pub(crate) has_body: bool,
}

/// The name of a header field, and its value: a character for each byte, because values need not be UTF-8.
type Header = (String, String);

/// Returns the fields as they are sent.
pub(crate) fn list(headers: &HeaderMap) -> Vec<Header> {
    let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// Returns the fields that were sent, or `None` if one is none.
pub(crate) fn headers(list: &[Header]) -> Option<HeaderMap> {
    let field = |(name, value): &Header| {
        let bytes: Vec<u8> = value.chars().map(|c| u8::try_from(c).ok()).collect::<Option<_>>()?;
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(&bytes).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in list.iter().map(field).collect::<Option<Vec<_>>>()? {
        // Fails for tens of thousands of fields.
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_pass_with_all_their_bytes() {
        let mut map = HeaderMap::new();
        for value in [&b"one"[..], b"two\t\"\\", b"\xff\xe4\x80"] {
            map.append("x-field", HeaderValue::from_bytes(value).unwrap());
        }
        let json = serde_json::to_string(&list(&map)).unwrap();
        assert_eq!(headers(&serde_json::from_str::<Vec<_>>(&json).unwrap()), Some(map));
    }

    #[test]
    fn fields_that_hyper_would_not_accept_are_rejected() {
        let field = |name: &str, value: &str| headers(&[(name.to_owned(), value.to_owned())]);
        assert!(field("x", "y").is_some());
        for (name, value) in [("", "y"), ("x y", "y"), ("x", "a\r\nb: c"), ("x", "\0"), ("x", "\u{100}")] {
            assert_eq!(field(name, value), None, "{name:?}: {value:?}");
        }
    }
}
