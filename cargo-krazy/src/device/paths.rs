//! Paths of the API for what is named by people.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::status::API;
use crate::failure::{Exit, Failure};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path of a service's `rest`, such as `logs`.
pub fn service(name: &str, rest: &str) -> String {
    format!("{API}/services/{}/{rest}", utf8_percent_encode(name, SEGMENT))
}

/// The path of the file that is `path` on the device.
pub fn file(path: &str) -> Result<String, Failure> {
    let Some(names) = path.strip_prefix('/').filter(|names| !names.is_empty()) else {
        let text = format!("`{path}` is not an absolute path of a file on the device");
        return Err(Failure::new(Exit::Usage, text).help("files are below /data: /data/NAME"));
    };
    let mut url = format!("{API}/files");
    for name in names.split('/') {
        // Writing to a String cannot fail.
        let _infallible = write!(url, "/{}", utf8_percent_encode(name, SEGMENT));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_and_paths_absolute() {
        assert_eq!(service("a b", "logs"), "/api/v1/services/a%20b/logs");
        assert_eq!(file("/data/a b/ü?").unwrap(), "/api/v1/files/data/a%20b/%C3%BC%3F");
        for wrong in ["", "/", "data/x"] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
    }
}
