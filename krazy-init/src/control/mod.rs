//! The control socket: how root, and services in the group `krazy`, ask the running init what goes on and tell it
//! what to do.
//!
//! A client connects to [`SOCKET`], writes one [`Request`] as a line of JSON and reads one [`Response`] line. The
//! connection stays open for further requests, answered in order. After a [`Command::Logs`] with `follow` the
//! answer is followed by [`Reply::Line`]s until either side hangs up; such a connection takes no further requests.
//!
//! The protocol has a [`VERSION`]. Both sides ignore fields they do not know, so additions do not change it; a
//! request of a higher version is answered by [`ErrorKind::Version`]. A line longer than [`MAX_LINE`] ends the
//! connection.

mod client;
mod status;

use std::time::Duration;

use krazy_boot::disk::slot::Slot;
use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError, LogFollower};
pub use status::{
    BootInfo, ExitReason, FailedTrial, LogLine, LogStream, Milestones, ServiceState, ServiceStatus, Trial,
};

/// Where the socket is. Mode 0660, owner root, group `krazy`; in a folder of the same owners.
pub const SOCKET: &str = "/run/krazy/control.sock";

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// The longest request, in bytes with the line end.
pub const MAX_LINE: usize = 64 << 10;

/// The most lines one [`Command::Logs`] returns; more are cut to the newest.
pub const MAX_LOG_LINES: u32 = 1000;

/// What a client sends: `{"version":1,"command":{"status":{"service":"web"}}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What it wants.
    pub command: Command,
}

/// Everything init can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// What was booted and in what condition it is. Answer: [`Reply::Boot`].
    Boot,
    /// Every service. Answer: [`Reply::Services`], sorted by name.
    List,
    /// One service. Answer: [`Reply::Service`].
    Status {
        /// Its name.
        service: String,
    },
    /// Starts a service that was stopped, has ended, or waits for its back-off. A running one is left alone.
    Start {
        /// Its name.
        service: String,
    },
    /// Stops a service and keeps it stopped until `start`, `restart` or a reboot. Answered when it was asked to
    /// end, not when it has ended.
    Stop {
        /// Its name.
        service: String,
    },
    /// Stops a service if it runs, and starts it at once without back-off.
    Restart {
        /// Its name.
        service: String,
    },
    /// Sends a signal to a service's main process.
    Signal {
        /// Its name.
        service: String,
        /// `HUP`, `SIGHUP` or a number.
        signal: String,
    },
    /// The newest lines a service wrote. Answer: [`Reply::Log`].
    Logs {
        /// Its name.
        service: String,
        /// Standard output or standard error.
        stream: LogStream,
        /// How many lines, at most [`MAX_LOG_LINES`].
        lines: u32,
        /// Whether new lines of both streams follow as [`Reply::Line`].
        #[serde(default)]
        follow: bool,
    },
    /// Mounts `/boot` writable or read-only. Going back to read-only brings the boot loader's tables in line with
    /// what was changed.
    RemountBoot {
        /// Whether it is to be writable.
        writable: bool,
    },
    /// Ends the trial of the running slot: from now on it is the confirmed one. Refused with
    /// [`ErrorKind::NotStable`] while a required service is not stable.
    Confirm,
    /// Makes the slot that does not run boot once, at the next start. Refused with [`ErrorKind::SlotIncomplete`] if
    /// it could not boot or holds another build, with [`ErrorKind::NotNow`] if the running slot is not confirmed or
    /// is the one named.
    Arm {
        /// The slot.
        slot: Slot,
        /// The build id of its root's manifest.
        build_id: String,
    },
    /// [`Command::Arm`] for whatever build that slot holds.
    Switch {
        /// The slot.
        slot: Slot,
    },
    /// Forgets a trial that was armed and has not run yet; without one, nothing is to be done.
    Disarm,
    /// On trial: restarts the machine, and the confirmed slot boots. Otherwise: [`Command::Switch`] to the slot that
    /// does not run.
    Rollback,
    /// Stops everything and restarts the machine. Answered before that begins.
    Reboot,
    /// Stops everything and switches the machine off.
    Poweroff,
    /// Stops everything and halts: the machine stays on and does nothing any more.
    Halt,
}

/// What init answers: `{"version":1,"ok":"done"}` or `{"version":1,"error":{"kind":…,"message":…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`] of init.
    pub version: u32,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Success or failure of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Ok(Reply),
    /// It was not.
    Error(RequestError),
}

/// The content of a successful answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// To [`Command::Boot`].
    Boot(Box<BootInfo>),
    /// To [`Command::List`].
    Services(Vec<ServiceStatus>),
    /// To [`Command::Status`].
    Service(Box<ServiceStatus>),
    /// To [`Command::Logs`], oldest line first.
    Log(Vec<LogLine>),
    /// A line written after the answer to [`Command::Logs`] with `follow`.
    Line(LogLine),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// For programs.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The line is not a request.
    Malformed,
    /// The request's version is higher than init's.
    Version,
    /// There is no service of that name.
    NoSuchService,
    /// It does not apply now: a signal to a service that does not run, anything during shutdown.
    NotNow,
    /// The machine is not stable enough to be confirmed.
    NotStable,
    /// The slot could not boot, or holds another build than the one named.
    SlotIncomplete,
    /// The kernel refused.
    Failed,
}

/// How long an answer is waited for that init has in its memory.
const PROMPT: Duration = Duration::from_secs(10);

/// The same where init has to wait for a disk: old cards take tens of seconds for what they had put off.
const SLOW: Duration = Duration::from_secs(60);

impl Command {
    /// How long a client waits for the answer before it gives up on init.
    pub fn time_limit(&self) -> Duration {
        match self {
            Command::RemountBoot { .. }
            | Command::Confirm
            | Command::Arm { .. }
            | Command::Switch { .. }
            | Command::Disarm
            | Command::Rollback
            | Command::Reboot
            | Command::Poweroff
            | Command::Halt => SLOW,
            Command::Boot
            | Command::List
            | Command::Status { .. }
            | Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Signal { .. }
            | Command::Logs { .. } => PROMPT,
        }
    }
}

impl Response {
    /// A successful answer.
    pub fn ok(reply: Reply) -> Self {
        Response { version: VERSION, outcome: Outcome::Ok(reply) }
    }

    /// An answer that says what went wrong.
    pub fn error(kind: ErrorKind, message: impl Into<String>) -> Self {
        Response { version: VERSION, outcome: Outcome::Error(RequestError { kind, message: message.into() }) }
    }

    /// The line to send, with its line end.
    pub fn to_line(&self) -> Vec<u8> {
        to_line(self)
    }
}

impl Request {
    /// Reads a line, with or without its line end.
    pub fn from_line(line: &[u8]) -> Result<Self, RequestError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let malformed = |error: serde_json::Error| RequestError {
            kind: ErrorKind::Malformed,
            message: format!("not a request: {error}"),
        };
        let header: Header = serde_json::from_slice(line).map_err(malformed)?;
        if header.version > VERSION {
            return Err(RequestError {
                kind: ErrorKind::Version,
                message: format!("the request has version {}, this init speaks {VERSION}", header.version),
            });
        }
        serde_json::from_slice(line).map_err(malformed)
    }

    /// The line to send, with its line end.
    pub fn to_line(&self) -> Vec<u8> {
        to_line(self)
    }
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value)
        .unwrap_or_else(|error| unreachable!("messages have only string keys: {error}"));
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_wire_format_is_as_documented() {
        let request = Request { version: 1, command: Command::Status { service: "web".into() } };
        assert_eq!(request.to_line(), b"{\"version\":1,\"command\":{\"status\":{\"service\":\"web\"}}}\n");
        assert_eq!(Request::from_line(&request.to_line()), Ok(request));
        assert_eq!(Response::ok(Reply::Done).to_line(), b"{\"version\":1,\"ok\":\"done\"}\n");
        assert_eq!(
            Response::error(ErrorKind::NotNow, "no").to_line(),
            b"{\"version\":1,\"error\":{\"kind\":\"not-now\",\"message\":\"no\"}}\n"
        );
        let logs = br#"{"version":1,"command":{"logs":{"service":"a","stream":"err","lines":5,"new":1}}}"#;
        let command = Command::Logs { service: "a".into(), stream: LogStream::Err, lines: 5, follow: false };
        assert_eq!(Request::from_line(logs), Ok(Request { version: 1, command }));
    }

    #[test]
    fn a_newer_version_is_named_even_if_its_shape_changed() {
        let error = Request::from_line(br#"{"version":7,"order":"66"}"#).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Version);
        assert_eq!(error.to_string(), "the request has version 7, this init speaks 1");
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Err(error) = Request::from_line(&line) {
                prop_assert!(error.kind == ErrorKind::Malformed || error.kind == ErrorKind::Version);
            }
        }
    }
}
