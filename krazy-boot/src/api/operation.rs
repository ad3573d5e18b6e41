//! The operations of the API: one table for the server, its clients, and the OpenAPI document.
//!
//! A row names the operation, its path parameters and query, and defines method, path, access, body and responses. The
//! macro derives from it [`Operation`], the plain name, and [`Endpoint`], the name with typed parameters. The server
//! dispatches by a `match` over [`Endpoint`], so that an operation without a handler does not compile.

use super::data::{DataReport, FormatQuery};
use super::files::{FlashQuery, Listing, RemoveQuery};
use super::logs::{LogLines, LogQuery, LogStream};
use super::parameter::{self, EncodedPath, EndpointError, PartitionNumber, PathParameter};
use super::services::{ServiceList, ServiceStatus, SignalQuery};
use super::status::{Slots, Status, SwitchQuery};
use super::tokens::TokenList;
use super::update::{BeginQuery, DataQuery, Floor, KeyChange, Session, StatusQuery, UpdateStatus};
use super::{certificate::CertificateStatus, credentials::HashedToken};

/// The media type of JSON.
pub const JSON: &str = "application/json";

/// The media type of files, disk content and parts of bundles.
pub const BINARY: &str = "application/octet-stream";

/// The media type of keys and certificates in PEM.
pub const PEM: &str = "application/x-pem-file";

/// The media type of logs and metrics.
pub const TEXT: &str = "text/plain";

/// The media type of the status page.
pub const HTML: &str = "text/html";

/// The media type of server-sent events.
pub const EVENTS: &str = "text/event-stream";

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 9110, section 9.3, and RFC 5789")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// The method as in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// The credential that an operation requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// None.
    Open,
    /// Any token.
    Viewer,
    /// A token with the role admin.
    Admin,
}

/// The content of a request or response.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// Its media type, without parameters.
    pub media_type: &'static str,
    /// Its JSON Schema; none for text and bytes.
    #[cfg(feature = "schema")]
    pub(super) schema: Option<fn(&mut schemars::SchemaGenerator) -> schemars::Schema>,
}

/// A successful response.
#[derive(Clone, Copy, Debug)]
pub struct Success {
    /// The HTTP status.
    pub status: u16,
    /// Its meaning.
    pub description: &'static str,
    /// The content, if it has one.
    pub content: Option<Content>,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The method. The server answers `HEAD` wherever it answers `GET`.
    pub method: Method,
    /// The path. `{name}` matches one segment, a final `{path}` any number of them.
    pub pattern: &'static str,
    /// The required credential.
    pub access: Access,
    /// The content of the request, if it has one.
    pub body: Option<Content>,
    /// The successful responses, the usual one first.
    pub successes: &'static [Success],
}

impl Definition {
    /// The usual successful response.
    pub const fn success(&self) -> &Success {
        &self.successes[0]
    }

    const fn new(method: Method, pattern: &'static str, access: Access) -> Self {
        Definition { method, pattern, access, body: None, successes: DONE }
    }

    const fn body(self, body: Content) -> Self {
        Definition { body: Some(body), ..self }
    }

    const fn returns(self, successes: &'static [Success]) -> Self {
        Definition { successes, ..self }
    }
}

const fn get(pattern: &'static str, access: Access) -> Definition {
    Definition::new(Method::Get, pattern, access)
}

const fn post(pattern: &'static str) -> Definition {
    Definition::new(Method::Post, pattern, Access::Admin)
}

const fn put(pattern: &'static str) -> Definition {
    Definition::new(Method::Put, pattern, Access::Admin)
}

const fn patch(pattern: &'static str) -> Definition {
    Definition::new(Method::Patch, pattern, Access::Admin)
}

const fn delete(pattern: &'static str) -> Definition {
    Definition::new(Method::Delete, pattern, Access::Admin)
}

const DONE: &[Success] = &[Success { status: 204, description: "done", content: None }];
const ACCEPTED: &[Success] =
    &[Success { status: 202, description: "accepted; carried out after the response", content: None }];
const CREATED_OR_REPLACED: &[Success] = &[
    Success { status: 201, description: "created", content: None },
    Success { status: 204, description: "replaced, or existed already", content: None },
];

const fn raw(media_type: &'static str) -> Content {
    Content {
        media_type,
        #[cfg(feature = "schema")]
        schema: None,
    }
}

const fn whole(media_type: &'static str) -> Success {
    Success { status: 200, description: "the content", content: Some(raw(media_type)) }
}

const fn part(media_type: &'static str) -> Success {
    Success { status: 206, description: "the requested range", content: Some(raw(media_type)) }
}

/// A type with a JSON Schema, where schemas are compiled in.
#[cfg(feature = "schema")]
use schemars::JsonSchema as Payload;

#[cfg(not(feature = "schema"))]
trait Payload {}

#[cfg(not(feature = "schema"))]
impl<T> Payload for T {}

const fn json<T: Payload>() -> Content {
    Content {
        media_type: JSON,
        #[cfg(feature = "schema")]
        schema: Some(schemars::SchemaGenerator::subschema_for::<T>),
    }
}

const fn result<T: Payload>() -> Success {
    Success { status: 200, description: "the result", content: Some(json::<T>()) }
}

macro_rules! operations {
    ($(
        $(#[doc = $summary:literal])+
        $name:ident $({ $($parameter:ident: $type:ty,)* $(? $query:ident: $query_type:ty)? })? = $definition:expr;
    )+) => {
        /// An operation without its parameters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation {
            $($(#[doc = $summary])+ $name,)+
        }

        static DEFINITIONS: &[Definition] = &[$($definition),+];

        impl Operation {
            /// Every operation. Of two that match a path, the earlier one applies.
            pub const ALL: &[Operation] = &[$(Operation::$name),+];

            /// One sentence for people.
            pub fn summary(self) -> &'static str {
                match self {
                    $(Operation::$name => concat!($($summary),+).trim(),)+
                }
            }

            /// The operation with the parameters in `segments`, which are percent-encoded, and `query`.
            pub(super) fn endpoint(self, segments: &[String], query: &str) -> Result<Endpoint, EndpointError> {
                let mut segments = segments.iter().map(String::as_str);
                // Not every operation has both.
                let (_, _) = (&mut segments, query);
                Ok(match self {
                    $(Operation::$name => Endpoint::$name $({
                        $($parameter: <$type>::decode(segments.next().unwrap_or_default())?,)*
                        $($query: parameter::read_query::<$query_type>(query)?,)?
                    })?,)+
                })
            }

            /// Names and schemas of the path parameters.
            #[cfg(feature = "schema")]
            pub(super) fn path_parameters(
                self,
                generator: &mut schemars::SchemaGenerator,
            ) -> Vec<(&'static str, schemars::Schema)> {
                let _ = &generator;
                match self {
                    $(Operation::$name => vec![$($(
                        (stringify!($parameter), <$type as schemars::JsonSchema>::json_schema(generator)),
                    )*)?],)+
                }
            }

            /// The schema of the query, an object.
            #[cfg(feature = "schema")]
            pub(super) fn query(self, generator: &mut schemars::SchemaGenerator) -> Option<schemars::Schema> {
                let _ = &generator;
                match self {
                    $(Operation::$name => {
                        None$($(.or(Some(<$query_type as schemars::JsonSchema>::json_schema(generator))))?)?
                    })+
                }
            }
        }

        /// An operation with its parameters. Displays as the path and query of a request.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the types of the fields are documented")]
        pub enum Endpoint {
            $($(#[doc = $summary])+ $name $({ $($parameter: $type,)* $($query: $query_type,)? })?,)+
        }

        impl Endpoint {
            /// The operation.
            pub fn operation(&self) -> Operation {
                match self {
                    $(Endpoint::$name { .. } => Operation::$name,)+
                }
            }

            /// Percent-encoded path parameters in the order of the pattern.
            pub(super) fn segments(&self) -> Vec<String> {
                match self {
                    $(Endpoint::$name $({ $($parameter,)* .. })? => vec![$($($parameter.encode(),)*)?],)+
                }
            }

            /// The query; empty if it has only defaults.
            pub(super) fn query(&self) -> String {
                match self {
                    $(Endpoint::$name $({ $($query,)? .. })? => {
                        String::new()$($( + &parameter::write_query($query))?)?
                    })+
                }
            }
        }
    };
}

use Access::{Open, Viewer};

operations! {
    /// Returns the status page for browsers.
    Page = get("/", Viewer).returns(&[whole(HTML)]);
    /// Responds if the API server runs; returns no content.
    Health = get("/api/v1/health", Open);
    /// Returns this document.
    OpenApi = get("/api/v1/openapi.json", Viewer).returns(&[result::<serde_json::Value>()]);
    /// Returns the running system and its condition.
    Status = get("/api/v1/status", Viewer).returns(&[result::<Status>()]);
    /// Returns the running slot and the slot that boots next.
    Slots = get("/api/v1/slots", Viewer).returns(&[result::<Slots>()]);
    /// Confirms the running slot: its trial ends, and it boots from now on.
    ConfirmSlot = post("/api/v1/slots/confirm");
    /// On trial, restarts into the confirmed slot; else makes the next start try the inactive slot.
    RollBackSlot = post("/api/v1/slots/rollback").returns(ACCEPTED);
    /// Makes the next start try another slot.
    SwitchSlot { ? query: SwitchQuery } = post("/api/v1/slots/switch").returns(ACCEPTED);
    /// Returns the content of the slots, the update in progress, and the outcomes of earlier ones.
    UpdateStatus { ? query: StatusQuery } = get("/api/v1/update", Viewer).returns(&[result::<UpdateStatus>()]);
    /// Begins an update with the head of a bundle. The inactive slot cannot be booted from now on.
    BeginUpdate { ? query: BeginQuery } = post("/api/v1/update")
        .body(raw(BINARY))
        .returns(&[Success { status: 201, ..result::<Session>() }]);
    /// Ends the update in progress, and disarms the slot.
    CancelUpdate = delete("/api/v1/update");
    /// Sets the lowest version that the device accepts.
    SetFloor = put("/api/v1/update/floor").body(json::<Floor>());
    /// Replaces the keys whose updates the device accepts, if one of the present keys has signed the new ones.
    SetUpdateKeys = put("/api/v1/update/keys").body(json::<KeyChange>());
    /// Sends streams of the bundle; after the last of them, the slot is verified.
    SendUpdate { id: String, ? query: DataQuery } = patch("/api/v1/update/{id}")
        .body(raw(BINARY))
        .returns(&[result::<Session>()]);
    /// Makes the next start try the update.
    ArmUpdate { id: String, } = post("/api/v1/update/{id}/arm").returns(&[result::<Session>()]);
    /// Returns every service.
    Services = get("/api/v1/services", Viewer).returns(&[result::<ServiceList>()]);
    /// Returns one service.
    Service { name: String, } = get("/api/v1/services/{name}", Viewer).returns(&[result::<ServiceStatus>()]);
    /// Starts a service.
    StartService { name: String, } = post("/api/v1/services/{name}/start");
    /// Stops a service until it is started again.
    StopService { name: String, } = post("/api/v1/services/{name}/stop");
    /// Stops a service and starts it again.
    RestartService { name: String, } = post("/api/v1/services/{name}/restart");
    /// Sends a signal to a service.
    SignalService { name: String, ? query: SignalQuery } = post("/api/v1/services/{name}/signal");
    /// Returns the newest lines of a service.
    Logs { name: String, ? query: LogQuery } = get("/api/v1/services/{name}/logs", Viewer)
        .returns(&[result::<LogLines>()]);
    /// Returns the log file of a service; accepts `Range` and `If-Range`.
    LogFile { name: String, stream: LogStream, } = get("/api/v1/services/{name}/logs/{stream}", Viewer)
        .returns(&[whole(TEXT), part(TEXT)]);
    /// Returns the newest lines of a service, then new ones as server-sent events named `out` and `err`.
    FollowLogs { name: String, ? query: LogQuery } = get("/api/v1/services/{name}/tail", Viewer)
        .returns(&[whole(EVENTS)]);
    /// Returns a file below /data or a log in /tmp; accepts `Range` and `If-Range`.
    ReadFile { path: EncodedPath, } = get("/api/v1/files/{path}", Access::Admin)
        .returns(&[whole(BINARY), part(BINARY)]);
    /// Writes a file below /data; the file is replaced as a whole or not at all.
    WriteFile { path: EncodedPath, } = put("/api/v1/files/{path}").body(raw(BINARY)).returns(CREATED_OR_REPLACED);
    /// Removes a file below /data.
    RemoveFile { path: EncodedPath, } = delete("/api/v1/files/{path}");
    /// Lists a directory below /data, or the logs in /tmp.
    ListDirectory { path: EncodedPath, } = get("/api/v1/directories/{path}", Access::Admin)
        .returns(&[result::<Listing>()]);
    /// Makes a directory below /data.
    MakeDirectory { path: EncodedPath, } = put("/api/v1/directories/{path}").returns(CREATED_OR_REPLACED);
    /// Removes a directory below /data.
    RemoveDirectory { path: EncodedPath, ? query: RemoveQuery } = delete("/api/v1/directories/{path}");
    /// Returns the condition of the file system of /data.
    CheckData = get("/api/v1/data", Viewer).returns(&[result::<DataReport>()]);
    /// Makes the next start format /data: every file on it is lost, but the credentials stay.
    FormatData { ? query: FormatQuery } = post("/api/v1/data/format");
    /// Writes the whole disk, and reads it back.
    FlashDisk { ? query: FlashQuery } = put("/api/v1/disk").body(raw(BINARY));
    /// Writes a partition, and reads it back.
    FlashPartition { number: PartitionNumber, ? query: FlashQuery } = put("/api/v1/partitions/{number}")
        .body(raw(BINARY));
    /// Returns figures for Prometheus.
    Metrics = get("/api/v1/metrics", Viewer).returns(&[whole(TEXT)]);
    /// Returns names, roles and scopes of the tokens.
    Tokens = get("/api/v1/tokens", Access::Admin).returns(&[result::<TokenList>()]);
    /// Adds a token, or replaces the one of this name; the body is the form in which the device stores it.
    PutToken { name: String, } = put("/api/v1/tokens/{name}").body(json::<HashedToken>()).returns(CREATED_OR_REPLACED);
    /// Revokes a token; the last one with the role admin cannot be revoked.
    RemoveToken { name: String, } = delete("/api/v1/tokens/{name}");
    /// Returns the certificate in use, and the one on trial.
    Certificate = get("/api/v1/certificate", Viewer).returns(&[result::<CertificateStatus>()]);
    /// Puts a private key and its certificate on trial for ten minutes: the device presents it to
    /// clients that request the server name trial.krazy.invalid.
    PutCertificate = put("/api/v1/certificate").body(raw(PEM)).returns(&[result::<CertificateStatus>()]);
    /// Uses the certificate on trial from now on; only over a connection that presented it.
    ConfirmCertificate = post("/api/v1/certificate/confirm");
    /// Stops everything and restarts.
    Reboot = post("/api/v1/reboot").returns(ACCEPTED);
    /// Stops everything and switches off.
    Poweroff = post("/api/v1/poweroff").returns(ACCEPTED);
}

impl Operation {
    /// The operation's row of the table.
    pub fn definition(self) -> &'static Definition {
        &DEFINITIONS[self as usize]
    }
}

#[cfg(test)]
mod tests;
