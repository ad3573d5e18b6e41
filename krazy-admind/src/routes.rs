//! Every operation of the API: where it is, who may use it, what it says about itself.
//!
//! The server dispatches by this table, the OpenAPI document is made from it, and the tests walk it.

use percent_encoding::percent_decode_str;
use warp::http::{HeaderValue, Method, header};

use crate::problem::{Kind, Problem};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Everybody, without a credential.
    Open,
    /// Every token.
    Viewer,
    /// Tokens with the role admin.
    Admin,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the summaries in the table say it")]
pub enum Operation {
    Page,
    Health,
    OpenApi,
    Status,
    Slots,
    ConfirmSlot,
    RollBackSlot,
    SwitchSlot,
    UpdateStatus,
    BeginUpdate,
    SendUpdate,
    ArmUpdate,
    CancelUpdate,
    SetFloor,
    Services,
    Service,
    StartService,
    StopService,
    RestartService,
    SignalService,
    Logs,
    LogFile,
    FollowLogs,
    ReadFile,
    WriteFile,
    RemoveFile,
    ListDirectory,
    MakeDirectory,
    RemoveDirectory,
    FlashDisk,
    FlashPartition,
    Metrics,
    Tokens,
    PutToken,
    RemoveToken,
    Reboot,
    Poweroff,
}

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its type in JSON Schema.
    pub schema: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it means.
    pub description: &'static str,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method. `HEAD` works where `GET` does.
    pub method: Method,
    /// The path. `{name}` stands for one segment, a final `{path}` for the whole rest.
    pub pattern: &'static str,
    /// Who may.
    pub access: Access,
    /// What happens.
    pub operation: Operation,
    /// The same for people.
    pub summary: &'static str,
    /// What may stand behind `?`.
    pub query: &'static [Parameter],
    /// Status of a success, or of the usual one where there are several.
    pub success: u16,
    /// Media type of the answer; none if it has no body.
    pub media_type: Option<&'static str>,
}

/// The path of the health probe.
pub const HEALTH: &str = "/api/v1/health";

const JSON: Option<&str> = Some("application/json");
const TEXT: Option<&str> = Some("text/plain");
const NONE: Option<&str> = None;

const STREAM: Parameter = Parameter {
    name: "stream",
    schema: "string",
    required: false,
    description: "`out` (default) or `err`: standard output or standard error",
};
const LINES: Parameter = Parameter {
    name: "lines",
    schema: "integer",
    required: false,
    description: "how many of the newest lines, at most 1000; default 100",
};
const SIGNAL: Parameter = Parameter {
    name: "signal",
    schema: "string",
    required: true,
    description: "`HUP`, `SIGHUP` or a number",
};
const RECURSIVE: Parameter = Parameter {
    name: "recursive",
    schema: "boolean",
    required: false,
    description: "`true` also removes what is in it",
};

const SLOT: Parameter = Parameter {
    name: "slot",
    schema: "string",
    required: false,
    description: "`a` or `b`: which one; default: the one that does not run",
};
const HASH: Parameter = Parameter {
    name: "hash",
    schema: "boolean",
    required: false,
    description: "`true` reads the running slot as a whole, if its content is not known",
};
const FORCE: Parameter = Parameter {
    name: "force",
    schema: "boolean",
    required: false,
    description: "`true` takes what runs already, failed before, or is another appliance's",
};
const FORCE_FLASH: Parameter = Parameter {
    name: "force",
    schema: "boolean",
    required: false,
    description: "`true` writes what the running system uses, too",
};
const REPLACE: Parameter = Parameter {
    name: "replace",
    schema: "boolean",
    required: false,
    description: "`true` ends an update that is under way, and disarms the slot",
};
const OFFSET: Parameter = Parameter {
    name: "offset",
    schema: "integer",
    required: true,
    description: "where in the bundle's streams the data begins",
};

/// The table. Of two patterns that fit, the earlier one counts.
pub static ROUTES: &[Route] = &{
    use Access::{Admin, Open, Viewer};
    use Operation::*;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    [
        route(GET, "/", Viewer, Page, "Status page for browsers", &[], 200, Some("text/html")),
        route(GET, HEALTH, Open, Health, "Whether the API answers; tells nothing else", &[], 204, NONE),
        route(GET, "/api/v1/openapi.json", Viewer, OpenApi, "This document", &[], 200, JSON),
        route(GET, "/api/v1/status", Viewer, Status, "What runs, and in what condition", &[], 200, JSON),
        route(
            GET,
            "/api/v1/slots",
            Viewer,
            Slots,
            "Which slot runs, and which one boots next",
            &[],
            200,
            JSON,
        ),
        route(
            POST,
            "/api/v1/slots/confirm",
            Admin,
            ConfirmSlot,
            "End the trial of the running slot: it boots from now on",
            &[],
            204,
            NONE,
        ),
        route(
            POST,
            "/api/v1/slots/rollback",
            Admin,
            RollBackSlot,
            "On trial, restart into the confirmed slot; else, let the next start try the other slot",
            &[],
            202,
            NONE,
        ),
        route(
            POST,
            "/api/v1/slots/switch",
            Admin,
            SwitchSlot,
            "Let the next start try the other slot",
            &[SLOT],
            202,
            NONE,
        ),
        route(
            GET,
            "/api/v1/update",
            Viewer,
            UpdateStatus,
            "What the slots hold, the update under way, and what became of earlier ones",
            &[HASH],
            200,
            JSON,
        ),
        route(
            POST,
            "/api/v1/update",
            Admin,
            BeginUpdate,
            "Begin an update with the head of a bundle; the slot that does not run cannot be booted from now on",
            &[FORCE, REPLACE],
            201,
            JSON,
        ),
        route(
            DELETE,
            "/api/v1/update",
            Admin,
            CancelUpdate,
            "End the update that is under way, and disarm the slot",
            &[],
            204,
            NONE,
        ),
        route(
            PUT,
            "/api/v1/update/floor",
            Admin,
            SetFloor,
            "Set the lowest version that is taken",
            &[],
            204,
            NONE,
        ),
        route(
            PATCH,
            "/api/v1/update/{id}",
            Admin,
            SendUpdate,
            "Send streams of the bundle; with the last of them, the slot is verified",
            &[OFFSET],
            200,
            JSON,
        ),
        route(
            POST,
            "/api/v1/update/{id}/arm",
            Admin,
            ArmUpdate,
            "Let the next start try the update",
            &[],
            200,
            JSON,
        ),
        route(GET, "/api/v1/services", Viewer, Services, "Every service", &[], 200, JSON),
        route(GET, "/api/v1/services/{name}", Viewer, Service, "One service", &[], 200, JSON),
        route(POST, "/api/v1/services/{name}/start", Admin, StartService, "Start a service", &[], 204, NONE),
        route(
            POST,
            "/api/v1/services/{name}/stop",
            Admin,
            StopService,
            "Ask a service to end, and keep it stopped",
            &[],
            204,
            NONE,
        ),
        route(
            POST,
            "/api/v1/services/{name}/restart",
            Admin,
            RestartService,
            "Stop a service and start it again",
            &[],
            204,
            NONE,
        ),
        route(
            POST,
            "/api/v1/services/{name}/signal",
            Admin,
            SignalService,
            "Send a signal to a service",
            &[SIGNAL],
            204,
            NONE,
        ),
        route(
            GET,
            "/api/v1/services/{name}/logs",
            Viewer,
            Logs,
            "The newest lines of a service",
            &[STREAM, LINES],
            200,
            JSON,
        ),
        route(
            GET,
            "/api/v1/services/{name}/logs/{stream}",
            Viewer,
            LogFile,
            "The log file of a service; takes `Range`",
            &[],
            200,
            TEXT,
        ),
        route(
            GET,
            "/api/v1/services/{name}/tail",
            Viewer,
            FollowLogs,
            "The newest lines of a service, then new ones as server-sent events named `out` and `err`",
            &[STREAM, LINES],
            200,
            Some("text/event-stream"),
        ),
        route(
            GET,
            "/api/v1/files/{path}",
            Admin,
            ReadFile,
            "Read a file below /data or a log in /tmp; takes `Range` and `If-Range`",
            &[],
            200,
            Some("application/octet-stream"),
        ),
        route(
            PUT,
            "/api/v1/files/{path}",
            Admin,
            WriteFile,
            "Write a file below /data; it is replaced as a whole or not at all",
            &[],
            201,
            NONE,
        ),
        route(DELETE, "/api/v1/files/{path}", Admin, RemoveFile, "Remove a file below /data", &[], 204, NONE),
        route(
            GET,
            "/api/v1/directories/{path}",
            Admin,
            ListDirectory,
            "List a directory below /data, or the logs in /tmp",
            &[],
            200,
            JSON,
        ),
        route(
            PUT,
            "/api/v1/directories/{path}",
            Admin,
            MakeDirectory,
            "Make a directory below /data",
            &[],
            201,
            NONE,
        ),
        route(
            DELETE,
            "/api/v1/directories/{path}",
            Admin,
            RemoveDirectory,
            "Remove a directory below /data",
            &[RECURSIVE],
            204,
            NONE,
        ),
        route(
            PUT,
            "/api/v1/disk",
            Admin,
            FlashDisk,
            "Write the whole disk by hand; what is written is read back",
            &[FORCE_FLASH],
            204,
            NONE,
        ),
        route(
            PUT,
            "/api/v1/partitions/{number}",
            Admin,
            FlashPartition,
            "Write a partition, 1 to 4, by hand; what is written is read back",
            &[FORCE_FLASH],
            204,
            NONE,
        ),
        route(GET, "/api/v1/metrics", Viewer, Metrics, "Figures for Prometheus", &[], 200, TEXT),
        route(GET, "/api/v1/tokens", Admin, Tokens, "Names, roles and scopes of the tokens", &[], 200, JSON),
        route(
            PUT,
            "/api/v1/tokens/{name}",
            Admin,
            PutToken,
            "Add a token, or replace the one of this name; what is sent is what a device stores of it",
            &[],
            201,
            NONE,
        ),
        route(
            DELETE,
            "/api/v1/tokens/{name}",
            Admin,
            RemoveToken,
            "Revoke a token; the last admin stays",
            &[],
            204,
            NONE,
        ),
        route(POST, "/api/v1/reboot", Admin, Reboot, "Stop everything and restart", &[], 202, NONE),
        route(POST, "/api/v1/poweroff", Admin, Poweroff, "Stop everything and switch off", &[], 202, NONE),
    ]
};

#[allow(clippy::too_many_arguments, reason = "one argument per column of the table")]
const fn route(
    method: Method,
    pattern: &'static str,
    access: Access,
    operation: Operation,
    summary: &'static str,
    query: &'static [Parameter],
    success: u16,
    media_type: Option<&'static str>,
) -> Route {
    Route { method, pattern, access, operation, summary, query, success, media_type }
}

/// A route and what stands in the places of its `{…}`.
#[derive(Debug)]
pub struct Found {
    /// The row.
    pub route: &'static Route,
    parameters: Vec<(&'static str, String)>,
}

impl Found {
    /// What stands for `{name}`.
    pub fn get(&self, name: &str) -> Result<&str, Problem> {
        let found = self.parameters.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| {
            Problem::new(Kind::Internal, format!("the route {} has no `{{{name}}}`", self.route.pattern))
        })
    }
}

/// The route for `method` and `path`; the path as in the URL, without the query.
pub fn find(method: &Method, path: &str) -> Result<Found, Problem> {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES {
        if let Some(parameters) = matches(route.pattern, path) {
            if route.method == *wanted {
                let parameters = parameters
                    .into_iter()
                    .map(|(name, value)| decode(name, value).map(|value| (name, value)))
                    .collect::<Result<_, _>>()?;
                return Ok(Found { route, parameters });
            }
            allowed.push(route.method.as_str());
            if route.method == Method::GET {
                allowed.push("HEAD");
            }
        }
    }
    if allowed.is_empty() {
        return Err(Problem::new(Kind::NotFound, format!("{path} is not part of the API")));
    }
    let list = allowed.join(", ");
    let problem = Problem::new(Kind::MethodNotAllowed, format!("{path} takes {list}, not {method}"));
    Err(match HeaderValue::from_str(&list) {
        Ok(value) => problem.header(header::ALLOW, value),
        Err(_) => problem,
    })
}

/// Whether `path` is of the form `pattern`, and if so what stands in its gaps.
fn matches<'a>(pattern: &'static str, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    let mut gaps = Vec::new();
    let mut rest = path.strip_prefix('/')?;
    let mut parts = pattern.strip_prefix('/')?.split('/').peekable();
    while let Some(part) = parts.next() {
        let gap = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        if gap == Some("path") {
            gaps.push(("path", rest));
            return Some(gaps);
        }
        let (segment, tail) = match rest.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (rest, None),
        };
        match gap {
            Some(name) if !segment.is_empty() => gaps.push((name, segment)),
            None if segment == part => {}
            _ => return None,
        }
        match (tail, parts.peek()) {
            (None, None) => return Some(gaps),
            (Some(tail), Some(_)) => rest = tail,
            // `/files` and `/files/` are the root.
            (None, Some(&"{path}")) => rest = "",
            _ => return None,
        }
    }
    None
}

/// Names are decoded here. `{path}` is left to its reader, which must tell `/` from `%2f`.
fn decode(name: &str, value: &str) -> Result<String, Problem> {
    if name == "path" {
        return Ok(value.to_owned());
    }
    let text = percent_decode_str(value).decode_utf8();
    text.map(Into::into).map_err(|_| Problem::new(Kind::BadRequest, format!("`{value}` is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_operation() {
        let operation = |path| find(&Method::GET, path).unwrap().route.operation;
        assert_eq!(operation("/"), Operation::Page);
        assert_eq!(operation("/api/v1/services"), Operation::Services);
        assert_eq!(operation("/api/v1/services/web"), Operation::Service);
        assert_eq!(operation("/api/v1/services/web/logs"), Operation::Logs);
        assert_eq!(operation("/api/v1/services/web/logs/err"), Operation::LogFile);
        let found = find(&Method::HEAD, "/api/v1/services/a%20b%2fc").unwrap();
        assert_eq!(found.get("name").unwrap(), "a b/c");
        assert_eq!(found.get("path").unwrap_err().kind(), Kind::Internal);
        for (path, tail) in [
            ("/api/v1/files/data/a%2fb/c", "data/a%2fb/c"),
            ("/api/v1/files/", ""),
            ("/api/v1/files", ""),
            ("/api/v1/files//etc", "/etc"),
        ] {
            assert_eq!(find(&Method::GET, path).unwrap().get("path").unwrap(), tail, "{path}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        for path in
            ["", "/x", "/api/v1/", "/api/v1/services/", "/api/v1/services/web/", "//", "/api/v1/status/x"]
        {
            assert_eq!(find(&Method::GET, path).unwrap_err().kind(), Kind::NotFound, "{path}");
        }
        let response = find(&Method::POST, "/api/v1/files/data/x").unwrap_err().into_response();
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD, PUT, DELETE");
        assert_eq!(find(&Method::GET, "/api/v1/reboot").unwrap_err().kind(), Kind::MethodNotAllowed);
    }

    #[test]
    fn only_the_health_probe_is_open_and_whatever_changes_something_takes_an_admin() {
        for route in ROUTES {
            assert_eq!(route.access == Access::Open, route.pattern == HEALTH, "{}", route.pattern);
            if route.method != Method::GET {
                assert_eq!(route.access, Access::Admin, "{} {}", route.method, route.pattern);
            }
        }
    }
}
