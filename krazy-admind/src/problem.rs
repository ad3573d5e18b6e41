//! Errors as clients see them: problem details (RFC 9457) in JSON.

use std::io;

use headers::{HeaderName, HeaderValue};
use krazy_boot::update::bundle::BundleError;
use krazy_boot::update::engine::EngineError;
use krazy_boot::update::refusal::{Refusal, TYPE_PREFIX};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use warp::http::{StatusCode, header};
use warp::reply::Response;

/// The media type of problem details.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for programs: the `type` is `urn:krazy:` and the slug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No credential, or one the device does not know.
    Unauthorized,
    /// Too many wrong credentials from this address.
    TooManyAttempts,
    /// Too many logs are followed already.
    TooManyLiveLogs,
    /// The credential's role or scope does not cover it.
    Forbidden,
    /// A browser sent it on behalf of another site.
    CrossSite,
    /// Nothing has this path.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// Something in the request makes no sense.
    BadRequest,
    /// There is no such service.
    NoSuchService,
    /// It does not apply in the present state.
    NotNow,
    /// The machine is not stable enough to be confirmed.
    NotStable,
    /// Init does not answer.
    InitUnreachable,
    /// Init tried and failed.
    InitFailed,
    /// The path leads out of the tree it must stay in.
    OutsideTree,
    /// The path is not a regular file.
    NotAFile,
    /// The path is not a directory.
    NotADirectory,
    /// Something has that name already.
    Exists,
    /// A directory with entries is removed only on request.
    NotEmpty,
    /// Someone else is writing it.
    Busy,
    /// The range begins behind the end.
    RangeNotSatisfiable,
    /// The file system is full.
    DiskFull,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The client was too slow.
    Timeout,
    /// The running system uses it.
    InUse,
    /// The body is longer than expected.
    BodyTooLarge,
    /// The device failed.
    Internal,
    /// The device does not take an update.
    Update(Refusal),
}

impl Kind {
    /// Every kind but [`Kind::Update`].
    const PLAIN: [Kind; 26] = [
        Kind::Unauthorized,
        Kind::TooManyAttempts,
        Kind::TooManyLiveLogs,
        Kind::Forbidden,
        Kind::CrossSite,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::BadRequest,
        Kind::NoSuchService,
        Kind::NotNow,
        Kind::NotStable,
        Kind::InitUnreachable,
        Kind::InitFailed,
        Kind::OutsideTree,
        Kind::NotAFile,
        Kind::NotADirectory,
        Kind::Exists,
        Kind::NotEmpty,
        Kind::Busy,
        Kind::RangeNotSatisfiable,
        Kind::DiskFull,
        Kind::ReadOnly,
        Kind::Timeout,
        Kind::InUse,
        Kind::BodyTooLarge,
        Kind::Internal,
    ];

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::PLAIN.into_iter().chain(Refusal::ALL.into_iter().map(Kind::Update))
    }

    /// Status, slug and title.
    pub const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A credential is needed"),
            Kind::TooManyAttempts => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", "Too many wrong credentials")
            }
            Kind::TooManyLiveLogs => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-live-logs", "Too many live logs")
            }
            Kind::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The credential does not cover this"),
            Kind::CrossSite => (StatusCode::FORBIDDEN, "cross-site", "Sent on behalf of another site"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is nothing there"),
            Kind::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Not with this method")
            }
            Kind::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "The request makes no sense"),
            Kind::NoSuchService => (StatusCode::NOT_FOUND, "no-such-service", "There is no such service"),
            Kind::NotNow => (StatusCode::CONFLICT, "not-now", "Not in the present state"),
            Kind::NotStable => (StatusCode::CONFLICT, "not-stable", "Required services are not stable"),
            Kind::InitUnreachable => {
                (StatusCode::SERVICE_UNAVAILABLE, "init-unreachable", "Init does not answer")
            }
            Kind::InitFailed => (StatusCode::INTERNAL_SERVER_ERROR, "init-failed", "Init tried and failed"),
            Kind::OutsideTree => (StatusCode::FORBIDDEN, "outside-tree", "The path is out of bounds"),
            Kind::NotAFile => (StatusCode::CONFLICT, "not-a-file", "Not a regular file"),
            Kind::NotADirectory => (StatusCode::CONFLICT, "not-a-directory", "Not a directory"),
            Kind::Exists => (StatusCode::CONFLICT, "exists", "It exists already"),
            Kind::NotEmpty => (StatusCode::CONFLICT, "not-empty", "The directory is not empty"),
            Kind::Busy => (StatusCode::CONFLICT, "busy", "Someone else is writing it"),
            Kind::RangeNotSatisfiable => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "range-not-satisfiable", "The range is behind the end")
            }
            Kind::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk-full", "The file system is full"),
            Kind::ReadOnly => (StatusCode::CONFLICT, "read-only", "The file system is read-only"),
            Kind::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The client was too slow"),
            Kind::InUse => (StatusCode::CONFLICT, "in-use", "The running system uses it"),
            Kind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too long"),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The device failed"),
            Kind::Update(refusal) => (update_status(refusal), refusal.slug(), refusal.title()),
        }
    }
}

/// 409 where waiting or another order of things would help, 422 where the update itself is at fault.
const fn update_status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::NoSession => StatusCode::NOT_FOUND,
        Refusal::Bundle => StatusCode::BAD_REQUEST,
        Refusal::ReadBack => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::Unchanged
        | Refusal::SessionActive
        | Refusal::Unconfirmed
        | Refusal::Armed
        | Refusal::NoSlots
        | Refusal::Offset
        | Refusal::NotVerified
        | Refusal::SlotIncomplete => StatusCode::CONFLICT,
        Refusal::Signature
        | Refusal::Board
        | Refusal::Appliance
        | Refusal::Protocol
        | Refusal::TooLarge
        | Refusal::BelowFloor
        | Refusal::RejectedBefore
        | Refusal::Base
        | Refusal::Content => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    received: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The members of a problem in JSON (RFC 9457, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// `urn:krazy:` and the kind's slug.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// Where the data of an update should have begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
}

impl Problem {
    /// A problem; `detail` says what happened this time, for people.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), received: None, headers: Vec::new() }
    }

    /// With a further header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With the place where the data of an update should have begun.
    #[must_use]
    pub(crate) fn received(mut self, received: u64) -> Self {
        self.received = Some(received);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What an operation on `path` met in the file system.
    pub(crate) fn from_errno(errno: Errno, path: &str) -> Self {
        let (kind, detail) = match errno {
            Errno::NOENT => (Kind::NotFound, format!("{path} does not exist")),
            Errno::XDEV | Errno::LOOP => {
                (Kind::OutsideTree, format!("a symbolic link in {path} leads out of bounds"))
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
            Errno::ACCESS | Errno::PERM => (Kind::Forbidden, format!("the kernel refuses access to {path}")),
            Errno::NAMETOOLONG => (Kind::BadRequest, format!("a name in {path} is too long")),
            other => (Kind::Internal, format!("failed to access {path}: {other}")),
        };
        Problem::new(kind, detail)
    }

    /// The same for errors of the standard library.
    pub(crate) fn from_io(error: &io::Error, path: &str) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Problem::from_errno(errno, path),
            None => Problem::new(Kind::Internal, format!("failed to access {path}: {error}")),
        }
    }

    /// What the update engine met.
    pub(crate) fn from_engine(error: EngineError) -> Self {
        let kind = match (error.refusal(), root_cause(&error)) {
            (Some(refusal), _) => Kind::Update(refusal),
            (None, Some(io)) if io.kind() == io::ErrorKind::StorageFull => Kind::DiskFull,
            (None, _) => Kind::Internal,
        };
        Problem::new(kind, causes(&error))
    }

    /// Why the head of a bundle was not taken.
    pub(crate) fn from_bundle(error: &BundleError) -> Self {
        let refusal = match error {
            BundleError::Signature => Refusal::Signature,
            _ => Refusal::Bundle,
        };
        Problem::new(Kind::Update(refusal), causes(error))
    }

    /// The answer to send.
    pub fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.row();
        let details = Details {
            kind: format!("{TYPE_PREFIX}{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            received: self.received,
        };
        let body = serde_json::to_vec(&details)
            .unwrap_or_else(|error| unreachable!("problem details are strings and a number: {error}"));
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// An error with its causes, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        text.push_str(&format!(": {cause}"));
    }
    text
}

/// What the kernel said, if it was asked.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_slug_of_its_own() {
        let mut slugs: Vec<_> = Kind::all().map(|kind| kind.row().1).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::all().count());
        assert!(Kind::all().all(|kind| kind.row().0.is_client_error() || kind.row().0.is_server_error()));
    }

    #[test]
    fn errors_of_the_kernel_become_what_the_client_can_act_on() {
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
