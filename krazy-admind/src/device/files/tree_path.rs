//! Paths in URLs.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use crate::problem::{Kind, Problem};

/// The characters to encode in a name: all but the unreserved ones of RFC 3986, section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An absolute path on the device: the names below the root, none of which contains `/` or NUL, or is `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreePath(Vec<OsString>);

impl TreePath {
    /// Parses the tail of a URL: percent-encoded names separated by `/`. One `/` at the end is allowed.
    ///
    /// Names are bytes, as in the kernel; they need not be UTF-8.
    pub(crate) fn from_url(tail: &str) -> Result<Self, Problem> {
        let tail = tail.strip_suffix('/').unwrap_or(tail);
        if tail.is_empty() {
            return Ok(TreePath(Vec::new()));
        }
        tail.split('/').map(name).collect::<Result<_, _>>().map(TreePath)
    }

    /// Returns the path of decoded names.
    pub(crate) fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Problem> {
        let names = names.into_iter().map(|name| checked(name, name.as_bytes().to_vec()));
        names.collect::<Result<_, _>>().map(TreePath)
    }

    /// The names below the root; none for the root itself.
    pub(crate) fn names(&self) -> &[OsString] {
        &self.0
    }

    /// Returns the path without its last name, and that name; `None` for the root.
    pub(crate) fn split_last(&self) -> Option<(TreePath, &OsStr)> {
        let (last, parent) = self.0.split_last()?;
        Some((TreePath(parent.to_vec()), last))
    }

    /// Returns the tail of the URL of `name` in this directory.
    pub(crate) fn url_of(&self, name: &OsStr) -> String {
        let mut url = String::new();
        for part in self.0.iter().map(OsString::as_os_str).chain([name]) {
            url.push('/');
            url.extend(percent_encode(part.as_bytes(), SEGMENT));
        }
        url
    }
}

/// Decodes one name of a URL.
fn name(encoded: &str) -> Result<OsString, Problem> {
    checked(encoded, percent_decode(encoded.as_bytes()).collect())
}

/// Returns `bytes` if they are one name. `shown` is how the client wrote it.
fn checked(shown: &str, bytes: Vec<u8>) -> Result<OsString, Problem> {
    let invalid = |why: &str| {
        Problem::new(Kind::BadRequest, format!("`{shown}` in the path is not a file name: {why}"))
    };
    match bytes.as_slice() {
        b"" => Err(invalid("it is empty")),
        b"." | b".." => Err(invalid("`.` and `..` are not supported")),
        bytes if bytes.contains(&b'/') || bytes.contains(&0) => Err(invalid("it contains `/` or NUL")),
        bytes if bytes.len() > 255 => Err(invalid("it is longer than 255 bytes")),
        _ => Ok(OsString::from_vec(bytes)),
    }
}

/// Formats the path for people. Names that are not UTF-8 get replacement characters.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: PathBuf =
            [OsStr::new("/")].into_iter().chain(self.0.iter().map(OsString::as_os_str)).collect();
        write!(f, "{}", path.display())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_decoded_once() {
        let path = TreePath::from_url("data/a%20b/%252e%252e/x").unwrap();
        assert_eq!(path.to_string(), "/data/a b/%2e%2e/x");
        assert_eq!(TreePath::from_url("").unwrap().to_string(), "/");
        assert_eq!(TreePath::from_url("data/").unwrap().to_string(), "/data");
        let (parent, last) = path.split_last().unwrap();
        assert_eq!(parent.url_of(last), "/data/a%20b/%252e%252e/x");
    }

    #[test]
    fn names_with_another_meaning_are_rejected() {
        for tail in [
            "data/../etc",
            "data/%2e%2e/etc",
            "data/.%2E/etc",
            "..",
            ".",
            "data//x",
            "/etc",
            "data/a%2fb",
            "data/a%2Fb",
            "data/%00",
            "data/x//",
        ] {
            let problem = TreePath::from_url(tail).unwrap_err();
            assert_eq!(problem.kind(), Kind::BadRequest, "{tail}");
        }
        assert!(TreePath::from_url(&format!("data/{}", "x".repeat(256))).is_err());
    }

    proptest! {
        #[test]
        fn accepted_paths_have_plain_names_and_survive_a_round_trip(tail in "[a-z./%0-9A-F]{0,40}") {
            if let Ok(path) = TreePath::from_url(&tail) {
                for name in path.names() {
                    prop_assert!(!["", ".", ".."].contains(&&*name.to_string_lossy()));
                    prop_assert!(!name.as_bytes().contains(&b'/'));
                }
                if let Some((parent, last)) = path.split_last() {
                    let again = TreePath::from_url(&parent.url_of(last)[1..]);
                    prop_assert_eq!(again.ok(), Some(path.clone()));
                }
            }
        }
    }
}
