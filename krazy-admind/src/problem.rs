//! Failed requests, and the problem details (RFC 9457) that report them.

use std::io;

use headers::{HeaderName, HeaderValue};
use krazy_boot::api::EndpointError;
pub(crate) use krazy_boot::api::problem::ProblemKind as Kind;
use krazy_boot::api::problem::{MEDIA_TYPE, ProblemDetails};
use krazy_boot::error_chain::{chain, system_text, with_system_texts};
use krazy_boot::update::bundle::BundleError;
use krazy_boot::update::engine::EngineError;
use krazy_boot::update::refusal::Refusal;
use rustix::io::Errno;
use warp::http::{StatusCode, header};
use warp::reply::Response;

/// A failed request.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    received: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem; `detail` describes this occurrence.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem { kind, detail: with_system_texts(detail.into()), received: None, headers: Vec::new() }
    }

    /// With a further header.
    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With the position at which the data of an update has to continue.
    #[must_use]
    pub(crate) fn received(mut self, received: u64) -> Self {
        self.received = Some(received);
        self
    }

    /// The kind of problem.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The details of this occurrence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// A failed system call on `path`.
    pub(crate) fn from_errno(errno: Errno, path: &str) -> Self {
        let (kind, detail) = match errno {
            Errno::NOENT => (Kind::NotFound, format!("{path} does not exist")),
            Errno::XDEV | Errno::LOOP => {
                (Kind::OutsideTree, format!("a symbolic link in {path} leads out of the allowed area"))
            }
            Errno::NOTDIR => (Kind::NotADirectory, format!("something in {path} is not a directory")),
            Errno::ISDIR => (Kind::NotAFile, format!("{path} is a directory")),
            Errno::EXIST => (Kind::Exists, format!("{path} exists already")),
            Errno::NOTEMPTY => {
                (Kind::NotEmpty, format!("{path} is not empty; `?recursive=true` removes it all"))
            }
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => {
                (Kind::DiskFull, format!("no space is left for {path}"))
            }
            Errno::ROFS => (Kind::ReadOnly, format!("the file system of {path} is mounted read-only")),
            Errno::ACCESS | Errno::PERM => (Kind::Forbidden, format!("the kernel denies access to {path}")),
            Errno::NAMETOOLONG => (Kind::BadRequest, format!("a name in {path} is too long")),
            other => {
                (Kind::Internal, format!("failed to access {path}: {}", system_text(&io::Error::from(other))))
            }
        };
        Problem::new(kind, detail)
    }

    /// A failed access to `path`.
    pub(crate) fn from_io(error: &io::Error, path: &str) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Problem::from_errno(errno, path),
            None => Problem::new(Kind::Internal, format!("failed to access {path}: {error}")),
        }
    }

    /// A failure of the update engine.
    pub(crate) fn from_engine(error: EngineError) -> Self {
        let kind = match (error.refusal(), root_cause(&error)) {
            (Some(refusal), _) => Kind::Update(refusal),
            (None, Some(io)) if io.kind() == io::ErrorKind::StorageFull => Kind::DiskFull,
            (None, _) => Kind::Internal,
        };
        Problem::new(kind, chain(&error))
    }

    /// A rejected head of a bundle.
    pub(crate) fn from_bundle(error: &BundleError) -> Self {
        let refusal = match error {
            BundleError::Signature => Refusal::Signature,
            _ => Refusal::Bundle,
        };
        Problem::new(Kind::Update(refusal), chain(error))
    }

    /// The response to send.
    pub(crate) fn into_response(self) -> Response {
        let details =
            ProblemDetails { received: self.received, ..ProblemDetails::new(self.kind, self.detail) };
        let body = serde_json::to_vec(&details)
            .unwrap_or_else(|error| unreachable!("problem details are strings and numbers: {error}"));
        let mut response = Response::new(body.into());
        *response.status_mut() =
            StatusCode::from_u16(details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// No operation for the request, or parameters that it does not have.
impl From<EndpointError> for Problem {
    fn from(error: EndpointError) -> Self {
        let problem = Problem::new(error.kind(), error.to_string());
        match error {
            EndpointError::Method { allowed, .. } => match HeaderValue::from_str(&allowed) {
                Ok(allowed) => problem.header(header::ALLOW, allowed),
                Err(_) => problem,
            },
            _ => problem,
        }
    }
}

/// The kernel's error among the causes, if there is one.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_method_is_reported_with_the_allowed_ones() {
        let error = krazy_boot::api::Route::find("POST", "/api/v1/files/data/x").unwrap_err();
        let response = Problem::from(error).into_response();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD, PUT, DELETE");
    }

    #[test]
    fn damaged_file_system_is_named_whatever_formatted_the_error() {
        let problem = Problem::new(Kind::Internal, "/data/x: No error information (os error 117)");
        assert_eq!(problem.detail(), "/data/x: the file system is damaged (os error 117)");
    }

    #[test]
    fn kernel_error_becomes_the_matching_kind() {
        for (errno, kind) in [
            (Errno::NOSPC, Kind::DiskFull),
            (Errno::XDEV, Kind::OutsideTree),
            (Errno::LOOP, Kind::OutsideTree),
            (Errno::ROFS, Kind::ReadOnly),
            (Errno::IO, Kind::Internal),
        ] {
            assert_eq!(Problem::from_errno(errno, "/data/x").kind(), kind);
        }
    }
}
