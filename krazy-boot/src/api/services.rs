//! Services as init reports them.

use serde::{Deserialize, Serialize};

use super::status::known_or_none;

/// Every service, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceList {
    /// The services.
    pub services: Vec<ServiceStatus>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// Its name, the file name in `/bin`.
    pub name: String,
    /// Its state.
    pub state: ServiceState,
    /// The main process, while there is one.
    pub pid: Option<u32>,
    /// The account it runs under.
    pub uid: u32,
    /// Resident memory of the main process in bytes, while there is one.
    pub rss: Option<u64>,
    /// Memory of all its processes and its page cache in bytes, if its cgroup counts it.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Seconds since the main process was started.
    pub uptime: Option<u64>,
    /// The number of restarts after the main process exited by itself.
    pub restarts: u32,
    /// The exit of the last main process, if one has exited.
    #[serde(default, deserialize_with = "known_or_none")]
    pub last_exit: Option<ExitReason>,
    /// Milliseconds until the next start, while in back-off.
    #[serde(default)]
    pub next_start_ms: Option<u64>,
    /// True if an update is confirmed only while this service is stable.
    pub required: bool,
    /// True if it has run long enough to count as stable, or has exited successfully.
    pub stable: bool,
    /// True if it keeps exiting soon after its start.
    #[serde(default)]
    pub crash_loop: bool,
    /// The milestones and services it waits for, while waiting.
    #[serde(default)]
    pub waiting_for: Vec<String>,
}

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// A milestone or service in its `after` is not reached yet.
    Waiting,
    /// Its main process runs.
    Running,
    /// It exited and is started again after a pause.
    Backoff,
    /// It got its stop signal and has not exited yet.
    Stopping,
    /// It was stopped on request.
    Stopped,
    /// It exited by itself, and its restart policy does not start it again.
    Exited,
    /// A state that a newer init added.
    #[cfg_attr(feature = "schema", schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// The exit of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// It returned this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It could not be started.
    NotStarted(String),
    /// It was ended because it sent no keep-alive message for this many seconds.
    Watchdog(u32),
    /// It was ended because its health command failed; this is how.
    Unhealthy(String),
    /// It was killed because memory ran out: its own limit's or the machine's.
    OutOfMemory,
}

/// The query of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignalQuery {
    /// `HUP`, `SIGHUP` or a number.
    pub signal: String,
}

impl ServiceState {
    /// The state as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            ServiceState::Waiting => "waiting",
            ServiceState::Running => "running",
            ServiceState::Backoff => "backoff",
            ServiceState::Stopping => "stopping",
            ServiceState::Stopped => "stopped",
            ServiceState::Exited => "exited",
            ServiceState::Unknown => "unknown",
        }
    }
}

impl ExitReason {
    /// Returns true if the process succeeded.
    pub fn is_success(&self) -> bool {
        matches!(self, ExitReason::Code(0))
    }
}

/// Writes `exit status 3`, `signal 9`, `not started: …`, or the check that failed with its key.
impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitReason::Code(code) => write!(f, "exit status {code}"),
            ExitReason::Signal(signal) => write!(f, "signal {signal}"),
            ExitReason::NotStarted(reason) => write!(f, "not started: {reason}"),
            ExitReason::Watchdog(seconds) => write!(f, "no WATCHDOG=1 within {seconds} s (`watchdog`)"),
            ExitReason::Unhealthy(reason) => write!(f, "unhealthy (`health`): {reason}"),
            ExitReason::OutOfMemory => write!(f, "killed for lack of memory (`memory-limit`)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_of_a_newer_device_is_understood() {
        let read = |state: &str, exit: &str| -> ServiceStatus {
            let json = format!(
                r#"{{"name":"a","state":"{state}","uid":1,"restarts":2,"required":true,"stable":false,
                    "last_exit":{exit},"new":1}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let known = read("backoff", r#"{"signal":9}"#);
        assert_eq!((known.state, known.last_exit), (ServiceState::Backoff, Some(ExitReason::Signal(9))));
        let unknown = read("frozen", r#"{"melted":1}"#);
        assert_eq!((unknown.state, unknown.last_exit), (ServiceState::Unknown, None));
        for state in [ServiceState::Waiting, ServiceState::Backoff, ServiceState::Exited] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}
