//! Problem details (RFC 9457): the errors of the API.
//!
//! A problem's `type` is [`TYPE_PREFIX`] and the slug of its [`ProblemKind`]. Slugs and statuses never change.

use serde::{Deserialize, Serialize};

use crate::update::refusal::Refusal;

/// The media type of problem details.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The prefix of every problem's `type`.
pub const TYPE_PREFIX: &str = "urn:krazy:";

/// The end of the detail of a problem with a path that no operation has. Devices without a later operation send it.
const NOT_AN_OPERATION: &str = "is not part of the API";

macro_rules! problem_kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $status:literal, $slug:literal, $title:literal;)+) => {
        /// The kinds of problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemKind {
            $($(#[doc = $doc])+ $name,)+
            /// The device does not accept an update.
            Update(Refusal),
        }

        impl ProblemKind {
            /// Every kind but [`ProblemKind::Update`].
            const PLAIN: &[ProblemKind] = &[$(ProblemKind::$name),+];

            /// Status, slug and title.
            const fn row(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(ProblemKind::$name => ($status, $slug, $title),)+
                    ProblemKind::Update(refusal) => (update_status(refusal), refusal.slug(), refusal.title()),
                }
            }
        }
    };
}

problem_kinds! {
    /// The request has no credential, or an unknown one.
    Unauthorized = 401, "unauthorized", "A credential is required";
    /// Too many wrong credentials came from this address.
    TooManyAttempts = 429, "too-many-attempts", "Too many wrong credentials";
    /// Too many logs are followed already.
    TooManyLiveLogs = 429, "too-many-live-logs", "Too many logs are followed";
    /// The credential's role or scope does not allow it.
    Forbidden = 403, "forbidden", "The credential does not allow this";
    /// A browser sent the request on behalf of another site.
    CrossSite = 403, "cross-site", "Sent on behalf of another site";
    /// The path does not exist.
    NotFound = 404, "not-found", "The path does not exist";
    /// The path exists, but not with this method.
    MethodNotAllowed = 405, "method-not-allowed", "The path does not take this method";
    /// The request is malformed.
    BadRequest = 400, "bad-request", "The request is malformed";
    /// There is no such service.
    NoSuchService = 404, "no-such-service", "There is no such service";
    /// The request does not apply in the present state.
    NotNow = 409, "not-now", "Not in the present state";
    /// The machine is not stable enough to be confirmed.
    NotStable = 409, "not-stable", "Required services are not stable";
    /// Init does not reply.
    InitUnreachable = 503, "init-unreachable", "Init does not reply";
    /// Init failed to carry out the request.
    InitFailed = 500, "init-failed", "Init failed to carry out the request";
    /// The path leads out of its tree.
    OutsideTree = 403, "outside-tree", "The path leads out of its tree";
    /// The path is not a regular file.
    NotAFile = 409, "not-a-file", "Not a regular file";
    /// The path is not a directory.
    NotADirectory = 409, "not-a-directory", "Not a directory";
    /// The name exists already.
    Exists = 409, "exists", "It exists already";
    /// The directory has entries, and their removal was not requested.
    NotEmpty = 409, "not-empty", "The directory is not empty";
    /// Another request is writing the file.
    Busy = 409, "busy", "Another request is writing it";
    /// The range begins behind the end.
    RangeNotSatisfiable = 416, "range-not-satisfiable", "The range is behind the end";
    /// The file system is full.
    DiskFull = 507, "disk-full", "The file system is full";
    /// The file system is mounted read-only.
    ReadOnly = 409, "read-only", "The file system is read-only";
    /// The client was too slow.
    Timeout = 408, "timeout", "The client was too slow";
    /// The running system uses the partition.
    InUse = 409, "in-use", "The running system uses it";
    /// The body is longer than allowed.
    BodyTooLarge = 413, "body-too-large", "The body is too long";
    /// The device failed.
    Internal = 500, "internal", "The device failed";
}

impl ProblemKind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = ProblemKind> {
        Self::PLAIN.iter().copied().chain(Refusal::ALL.into_iter().map(ProblemKind::Update))
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// The name for programs.
    pub const fn slug(self) -> &'static str {
        self.row().1
    }

    /// The name for people.
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// The `type` of a problem of this kind.
    pub fn type_uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.slug())
    }

    /// The kind of a problem's `type`; `None` if it is of a newer version.
    pub fn from_type(text: &str) -> Option<ProblemKind> {
        let slug = text.strip_prefix(TYPE_PREFIX)?;
        ProblemKind::all().find(|kind| kind.slug() == slug)
    }
}

/// The status of a rejected update: 409 if a later attempt may succeed, 422 if the update itself is at fault.
const fn update_status(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::NoSession => 404,
        Refusal::Bundle => 400,
        Refusal::ReadBack => 500,
        Refusal::Unchanged
        | Refusal::SessionActive
        | Refusal::Unconfirmed
        | Refusal::Armed
        | Refusal::NoSlots
        | Refusal::Offset
        | Refusal::NotVerified
        | Refusal::SlotIncomplete => 409,
        Refusal::Signature
        | Refusal::Board
        | Refusal::Processor
        | Refusal::Appliance
        | Refusal::Protocol
        | Refusal::TooLarge
        | Refusal::BelowFloor
        | Refusal::RejectedBefore
        | Refusal::Base
        | Refusal::Content => 422,
    }
}

/// A problem in JSON (RFC 9457, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Problem"))]
pub struct ProblemDetails {
    /// `urn:krazy:` and the kind of problem.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(with = "ProblemType"))]
    pub kind: String,
    /// The kind for people.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The details of this occurrence.
    #[serde(default)]
    pub detail: String,
    /// The position at which the data of an update has to continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
}

impl ProblemDetails {
    /// A problem of this kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        ProblemDetails {
            kind: kind.type_uri(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            received: None,
        }
    }

    /// The kind; `None` if it is of a newer device.
    pub fn kind(&self) -> Option<ProblemKind> {
        ProblemKind::from_type(&self.kind)
    }

    /// Returns true if the device has no operation at the path of the request, because it is older than the client.
    pub fn is_unknown_operation(&self) -> bool {
        self.kind() == Some(ProblemKind::NotFound) && self.detail.ends_with(NOT_AN_OPERATION)
    }
}

/// The detail of a problem with a path that no operation has.
pub fn unknown_operation(path: &str) -> String {
    format!("{path} {NOT_AN_OPERATION}")
}

/// The schema of a problem's `type`.
#[cfg(feature = "schema")]
struct ProblemType;

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ProblemType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProblemType".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let types: Vec<_> = ProblemKind::all().map(ProblemKind::type_uri).collect();
        schemars::json_schema!({ "type": "string", "enum": types })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_slug_of_its_own() {
        let mut slugs: Vec<_> = ProblemKind::all().map(ProblemKind::slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ProblemKind::all().count());
        for kind in ProblemKind::all() {
            assert!((400..600).contains(&kind.status()), "{kind:?}");
            assert_eq!(ProblemKind::from_type(&kind.type_uri()), Some(kind));
        }
        assert_eq!(ProblemKind::from_type("not-found"), None);
        assert_eq!(ProblemKind::from_type("urn:krazy:of-a-newer-device"), None);
    }

    #[test]
    fn unknown_operation_is_recognised_by_its_detail() {
        let problem = |detail: &str| ProblemDetails::new(ProblemKind::NotFound, detail);
        assert!(problem(&unknown_operation("/api/v2")).is_unknown_operation());
        assert!(!problem("/data/x does not exist").is_unknown_operation());
    }
}
