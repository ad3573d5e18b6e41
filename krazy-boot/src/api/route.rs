//! Paths and queries of requests: written by clients, read by the server.

use std::fmt;

use super::operation::{Definition, Endpoint, Method, Operation};
use super::parameter::EndpointError;

/// The operation of a request, with its parameters still encoded.
#[derive(Clone, Debug)]
pub struct Route {
    operation: Operation,
    segments: Vec<String>,
}

impl Route {
    /// Finds the operation of `method` and `path`, which has no query.
    pub fn find(method: &str, path: &str) -> Result<Self, EndpointError> {
        let requested = if method == "HEAD" { "GET" } else { method };
        let mut allowed = Vec::new();
        for &operation in Operation::ALL {
            let Definition { method, pattern, .. } = operation.definition();
            let Some(segments) = matches(pattern, path) else { continue };
            if method.name() == requested {
                let segments = segments.into_iter().map(str::to_owned).collect();
                return Ok(Route { operation, segments });
            }
            allowed.push(method.name());
            if *method == Method::Get {
                allowed.push("HEAD");
            }
        }
        let path = path.to_owned();
        if allowed.is_empty() {
            return Err(EndpointError::Path(path));
        }
        Err(EndpointError::Method { path, method: method.to_owned(), allowed: allowed.join(", ") })
    }

    /// The operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The operation with its parameters.
    pub fn endpoint(&self, query: &str) -> Result<Endpoint, EndpointError> {
        self.operation.endpoint(&self.segments, query)
    }
}

/// Returns the segments of `path` for the parameters of `pattern`, if it has this form.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut parameters = Vec::new();
    let mut rest = path.strip_prefix('/')?;
    let mut parts = pattern.strip_prefix('/')?.split('/').peekable();
    while let Some(part) = parts.next() {
        if part == "{path}" {
            parameters.push(rest);
            return Some(parameters);
        }
        let (segment, tail) = match rest.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (rest, None),
        };
        if part.starts_with('{') && !segment.is_empty() {
            parameters.push(segment);
        } else if part != segment {
            return None;
        }
        match (tail, parts.peek()) {
            (None, None) => return Some(parameters),
            (Some(tail), Some(_)) => rest = tail,
            // `/files` and `/files/` are the root.
            (None, Some(&"{path}")) => rest = "",
            _ => return None,
        }
    }
    None
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = self.segments();
        let mut segments = segments.iter();
        for part in self.operation().definition().pattern.split('/').skip(1) {
            let text = if part.starts_with('{') { segments.next().map_or("", String::as_str) } else { part };
            write!(f, "/{text}")?;
        }
        match self.query() {
            query if query.is_empty() => Ok(()),
            query => write!(f, "?{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::files::RemoveQuery;
    use crate::api::logs::{LogQuery, LogStream};
    use crate::api::parameter::{EncodedPath, PartitionNumber};
    use crate::api::problem::ProblemKind;
    use crate::api::services::SignalQuery;

    fn read(method: &str, path: &str) -> Result<Endpoint, EndpointError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Route::find(method, path)?.endpoint(query)
    }

    #[test]
    fn path_leads_to_its_operation() {
        let operation = |path| Route::find("GET", path).unwrap().operation();
        assert_eq!(operation("/"), Operation::Page);
        assert_eq!(operation("/api/v1/services"), Operation::Services);
        assert_eq!(operation("/api/v1/services/web/logs"), Operation::Logs);
        let name = "a b/c".to_owned();
        assert_eq!(read("HEAD", "/api/v1/services/a%20b%2fc").unwrap(), Endpoint::Service { name });
        let log = Endpoint::LogFile { name: "web".into(), stream: LogStream::Err };
        assert_eq!(read("GET", "/api/v1/services/web/logs/err").unwrap(), log);
        for (path, tail) in [
            ("/api/v1/files/data/a%2fb/c", "data/a%2fb/c"),
            ("/api/v1/files/", ""),
            ("/api/v1/files", ""),
            ("/api/v1/files//etc", "/etc"),
        ] {
            let path = read("GET", path).unwrap();
            assert_eq!(path, Endpoint::ReadFile { path: EncodedPath::from_encoded(tail) });
        }
    }

    #[test]
    fn malformed_request_is_reported_with_its_kind() {
        for (path, kind) in [
            ("", ProblemKind::NotFound),
            ("/x", ProblemKind::NotFound),
            ("/api/v1/", ProblemKind::NotFound),
            ("/api/v1/services/", ProblemKind::NotFound),
            ("/api/v1/services/web/", ProblemKind::NotFound),
            ("//", ProblemKind::NotFound),
            ("/api/v1/status/x", ProblemKind::NotFound),
            ("/api/v1/services/web/logs/in", ProblemKind::NotFound),
            ("/api/v1/reboot", ProblemKind::MethodNotAllowed),
            ("/api/v1/partitions/1", ProblemKind::MethodNotAllowed),
            ("/api/v1/services/%ff", ProblemKind::BadRequest),
            ("/api/v1/services/web/logs?lines=many", ProblemKind::BadRequest),
            ("/api/v1/services/web/logs?line=1", ProblemKind::BadRequest),
        ] {
            assert_eq!(read("GET", path).unwrap_err().kind(), kind, "{path}");
        }
        assert_eq!(read("PUT", "/api/v1/partitions/5").unwrap_err().kind(), ProblemKind::NotFound);
        let error = read("POST", "/api/v1/files/data/x").unwrap_err();
        assert_eq!(error.to_string(), "/api/v1/files/data/x takes GET, HEAD, PUT, DELETE, not POST");
    }

    #[test]
    fn file_paths_are_absolute_and_encoded() {
        let path = EncodedPath::of_file("/data/a b/ü?").unwrap();
        assert_eq!(Endpoint::ReadFile { path }.to_string(), "/api/v1/files/data/a%20b/%C3%BC%3F");
        for wrong in ["", "/", "data/x"] {
            assert_eq!(EncodedPath::of_file(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn defaults_are_left_out_of_queries() {
        let path = EncodedPath::of_file("/data/x").unwrap();
        let remove = |recursive| {
            Endpoint::RemoveDirectory { path: path.clone(), query: RemoveQuery { recursive } }.to_string()
        };
        assert_eq!(remove(false), "/api/v1/directories/data/x");
        assert_eq!(remove(true), "/api/v1/directories/data/x?recursive=true");
    }

    proptest! {
        #[test]
        fn written_endpoints_are_read_back(name in "\\PC{1,20}", signal in ".{0,9}", lines: u32, number in 1..5_u8) {
            let number = PartitionNumber::new(number).unwrap();
            for endpoint in [
                Endpoint::Service { name: name.clone() },
                Endpoint::SignalService { name: name.clone(), query: SignalQuery { signal } },
                Endpoint::Logs { name, query: LogQuery { stream: LogStream::Err, lines } },
                Endpoint::FlashPartition { number, query: Default::default() },
            ] {
                let method = endpoint.operation().definition().method.name();
                prop_assert_eq!(read(method, &endpoint.to_string()).unwrap(), endpoint);
            }
        }
    }
}
