//! Checks of a service beyond the life of its process: answers over HTTP, keep-alive messages, a command.
//!
//! They stand beside the settings of a [`Service`](super::Service), not among them: an init of an earlier version passes
//! over a field of the service that it does not know, and rejects a setting that it does not know.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The checks of a service: keys of `[package.metadata.krazy.service.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Checks {
    /// The service is ready after this page was answered: `ready = "http:PORT/PATH"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpReady>,
    /// The longest time in seconds between two messages `WATCHDOG=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<u32>,
    /// The command that tells that the service is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCommand>,
    /// Seconds for which it must be ready and healthy to count as stable; the default is ten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_after: Option<u32>,
    /// Set when it has no memory limit, not even the default one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unlimited_memory: bool,
}

impl Checks {
    /// Returns true if nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Checks::default()
    }
}

/// A page on the device. Written `http:8080/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpReady {
    /// The TCP port.
    pub port: u16,
    /// The path and query, which begin with a slash.
    pub path: String,
}

/// A command that succeeds if a service is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HealthCommand {
    /// The program's path and its arguments.
    pub command: Vec<String>,
    /// Seconds from the end of one run to the start of the next.
    pub every: u32,
    /// Seconds that one run may take.
    pub timeout: u32,
    /// The number of failures in a row after which the service is restarted.
    pub failures: u32,
}

impl HealthCommand {
    /// The default of [`every`](Self::every).
    pub const EVERY: u32 = 30;
    /// The default of [`timeout`](Self::timeout).
    pub const TIMEOUT: u32 = 10;
    /// The default of [`failures`](Self::failures).
    pub const FAILURES: u32 = 3;
}

/// The longest path in bytes.
const MAX_PATH: usize = 512;

impl FromStr for HttpReady {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "\"http:PORT/PATH\"";
        let rest = text.strip_prefix("http:").ok_or(expected)?;
        let (port, path) = rest.split_at(rest.find('/').ok_or(expected)?);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(expected)?;
        // It becomes a part of the request's first line.
        if path.len() > MAX_PATH || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(expected);
        }
        Ok(HttpReady { port, path: path.to_owned() })
    }
}

impl fmt::Display for HttpReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http:{}{}", self.port, self.path)
    }
}

impl TryFrom<String> for HttpReady {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HttpReady> for String {
    fn from(ready: HttpReady) -> String {
        ready.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_parses_from_port_and_path() {
        for text in ["http:80/", "http:8080/health?full=1"] {
            assert_eq!(text.parse::<HttpReady>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "http:80", "http:0/", "http:65536/x", "http:/x", "http://host/x", "http:80/a b", "https:1/"]
        {
            assert!(wrong.parse::<HttpReady>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn checks_survive_a_round_trip_and_take_no_room_when_unset() {
        assert_eq!(serde_json::to_string(&Checks::default()).unwrap(), "{}");
        let checks = Checks {
            http: "http:80/x".parse().ok(),
            watchdog: Some(30),
            health: Some(HealthCommand {
                command: vec!["/bin/web".into(), "--health".into()],
                every: 5,
                timeout: 2,
                failures: 1,
            }),
            stable_after: Some(60),
            unlimited_memory: true,
        };
        let json = serde_json::to_string(&checks).unwrap();
        assert_eq!(serde_json::from_str::<Checks>(&json).unwrap(), checks);
        assert!(json.contains(r#""http":"http:80/x""#), "{json}");
    }
}
