//! Every operation of the API: where it is, who may use it, what it says about itself.
//!
//! The server dispatches by this table, the OpenAPI document is made from it, and the tests walk it.

mod table;

pub use table::ROUTES;

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
    Certificate,
    PutCertificate,
    ConfirmCertificate,
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
