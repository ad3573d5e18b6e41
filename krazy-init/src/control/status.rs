//! What init tells about itself and its services.

use krazy_boot::disk::slot::Slot;
use serde::{Deserialize, Serialize};

/// What was booted and in what condition it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootInfo {
    /// The appliance's name, from the manifest.
    pub name: String,
    /// The version of the user's package, from the manifest.
    pub version: String,
    /// The board the root was made for.
    pub board: String,
    /// The manifest's build id.
    pub build_id: String,
    /// Host name in use.
    pub hostname: String,
    /// The running kernel's release.
    pub kernel: String,
    /// The version of this init.
    pub init: String,
    /// The running slot; `None` when the command line names none.
    pub slot: Option<Slot>,
    /// The disk the root is on, such as `/dev/vda`; `None` when the root is not on a cargo krazy disk.
    pub disk: Option<String>,
    /// The trial this boot is, if it is one.
    pub trial: Option<Trial>,
    /// The slot that boots once at the next start, if one is armed.
    #[serde(default)]
    pub armed: Option<Slot>,
    /// The trial of the other slot that ended with the return to this one, if that is how this boot came about.
    #[serde(default)]
    pub failed_trial: Option<FailedTrial>,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// Whether every required service is stable.
    pub stable: bool,
    /// What is not as it should be, one sentence each. Empty when all is well.
    pub degraded: Vec<String>,
    /// What services can wait for.
    pub milestones: Milestones,
    /// Whether `/boot` is mounted writable; `None` when it is not mounted.
    pub boot_writable: Option<bool>,
    /// What ended the previous boot, as far as init recorded it on `/data`.
    #[serde(default)]
    pub previous_end: Option<String>,
}

/// A boot of an unconfirmed slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Seconds until init restarts the machine into the confirmed slot unless someone confirms this one.
    pub deadline: u64,
}

/// A trial that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTrial {
    /// The slot that was tried.
    pub slot: Slot,
    /// The build in it; empty if that is not known any more.
    pub build_id: String,
    /// Why it failed, as a sentence without its final stop.
    pub reason: String,
}

/// Which milestones have been reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestones {
    /// An interface has an address and a default route.
    pub network: bool,
    /// The clock was set from the network.
    pub clock: bool,
    /// `/data` is mounted from the disk.
    pub data: bool,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name, the file name in `/bin`.
    pub name: String,
    /// What it is doing.
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
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
    /// How the last process ended, if one has.
    pub last_exit: Option<ExitReason>,
    /// Milliseconds until the next start, while in [`ServiceState::Backoff`].
    pub next_start_ms: Option<u64>,
    /// Whether an update is confirmed only if this service is stable.
    pub required: bool,
    /// Whether it has run long enough to be trusted, or has ended as it should.
    pub stable: bool,
    /// Whether it keeps ending soon after its start.
    #[serde(default)]
    pub crash_loop: bool,
    /// What it waits for, while in [`ServiceState::Waiting`].
    #[serde(default)]
    pub waiting_for: Vec<String>,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Something in its `after` is not there yet.
    Waiting,
    /// Its main process runs.
    Running,
    /// It ended and will be started again after a pause.
    Backoff,
    /// It was asked to end and has not yet.
    Stopping,
    /// Someone stopped it.
    Stopped,
    /// It ended by itself, and its restart policy leaves it at that.
    Exited,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// It returned this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be started.
    NotStarted(String),
}

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// Standard output, kept in `/tmp/SERVICE.log`.
    Out,
    /// Standard error, kept in `/tmp/SERVICE.err`.
    Err,
}

/// One line of a service's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where the service wrote it.
    pub stream: LogStream,
    /// As in the file: wall time, monotonic time, text. Bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl ExitReason {
    /// Whether the process did what it was there for.
    pub fn is_success(&self) -> bool {
        matches!(self, ExitReason::Code(0))
    }
}

/// Reads like `exit status 3`, `signal 9` or `not started: …`.
impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitReason::Code(code) => write!(f, "exit status {code}"),
            ExitReason::Signal(signal) => write!(f, "signal {signal}"),
            ExitReason::NotStarted(why) => write!(f, "not started: {why}"),
        }
    }
}
