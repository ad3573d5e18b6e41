//! The control socket: the way root, and services in the group `krazy`, query and command the running init.
//!
//! A client connects to [`SOCKET`], writes one [`Request`] as a line of JSON and reads one [`Response`] line. The
//! connection stays open for further requests, answered in order. After a [`Command::Logs`] with `follow`, the
//! response is followed by [`Reply::Line`]s until either side closes the connection; such a connection takes no further requests.
//!
//! The protocol has a [`VERSION`]. Both sides ignore unknown fields, so additions do not change it; a
//! request of a higher version is answered by [`ErrorKind::Version`]. A line longer than [`MAX_LINE`] ends the
//! connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::logs::MAX_LOG_LINES;
use super::logs::{LogLine, LogStream};
use super::services::ServiceStatus;
use super::status::BootInfo;
use crate::disk::slot::Slot;

/// The socket's path. Mode 0660, owner root, group `krazy`; in a directory of the same owners.
pub const SOCKET: &str = "/run/krazy/control.sock";

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// The longest request, in bytes with the line end.
pub const MAX_LINE: usize = 64 << 10;

/// A client's request: `{"version":1,"command":{"status":{"service":"web"}}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// The command.
    pub command: Command,
}

/// The commands that init accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Returns the running system and its condition. Reply: [`Reply::Boot`].
    Boot,
    /// Returns every service. Reply: [`Reply::Services`], sorted by name.
    List,
    /// Returns one service. Reply: [`Reply::Service`].
    Status {
        /// The service's name.
        service: String,
    },
    /// Starts a service that was stopped, has exited, or waits for its back-off. Does nothing to a running one.
    Start {
        /// The service's name.
        service: String,
    },
    /// Stops a service and keeps it stopped until `start`, `restart` or a reboot. The reply comes when the service
    /// was asked to exit, not when it has exited.
    Stop {
        /// The service's name.
        service: String,
    },
    /// Stops a service if it runs, and starts it at once without back-off.
    Restart {
        /// The service's name.
        service: String,
    },
    /// Sends a signal to a service's main process.
    Signal {
        /// The service's name.
        service: String,
        /// `HUP`, `SIGHUP` or a number.
        signal: String,
    },
    /// Returns the newest lines that a service wrote. Reply: [`Reply::Log`].
    Logs {
        /// The service's name.
        service: String,
        /// Standard output or standard error.
        stream: LogStream,
        /// The number of lines, at most [`MAX_LOG_LINES`].
        lines: u32,
        /// True if new lines of both streams are to follow as [`Reply::Line`].
        #[serde(default)]
        follow: bool,
    },
    /// Mounts `/boot` writable or read-only. The change back to read-only updates the boot loader's tables.
    RemountBoot {
        /// True for writable.
        writable: bool,
    },
    /// Checks the file system of `/boot`, which must not be in use, and repairs it while it is not mounted.
    RepairBoot {
        /// The slot whose files are about to be replaced: damaged ones are removed, if it cannot boot next.
        slot: Slot,
    },
    /// Ends the trial of the running slot: from now on it is the confirmed one. Fails with
    /// [`ErrorKind::NotStable`] while a required service is not stable.
    Confirm,
    /// Makes the inactive slot boot once, at the next start. Fails with [`ErrorKind::SlotIncomplete`] if
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
    /// Disarms a trial that has not run yet; does nothing without one.
    Disarm,
    /// On trial: restarts the machine into the confirmed slot. Otherwise: [`Command::Switch`] to the inactive slot.
    Rollback,
    /// Copies the device's credentials, which have changed, to their place outside `/data`
    /// ([`crate::disk::identity`]).
    CopyCredentials,
    /// Makes the next start format `/data`. Fails with [`ErrorKind::NotNow`] if this is another appliance.
    FormatData {
        /// The appliance's name.
        name: String,
    },
    /// Stops everything and restarts the machine. The reply comes before that begins.
    Reboot,
    /// Stops everything and switches the machine off.
    Poweroff,
    /// Stops everything and halts: the machine stays on and does nothing.
    Halt,
}

/// Init's response: `{"version":1,"ok":"done"}` or `{"version":1,"error":{"kind":…,"message":…}}`.
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
    /// The request succeeded.
    Ok(Reply),
    /// The request failed.
    Error(RequestError),
}

/// The content of a successful response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The command has no result of its own.
    Done,
    /// The reply to [`Command::Boot`].
    Boot(Box<BootInfo>),
    /// The reply to [`Command::List`].
    Services(Vec<ServiceStatus>),
    /// The reply to [`Command::Status`].
    Service(Box<ServiceStatus>),
    /// The reply to [`Command::Logs`], oldest line first.
    Log(Vec<LogLine>),
    /// A line written after the reply to [`Command::Logs`] with `follow`.
    Line(LogLine),
}

/// The failure of a request.
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
    /// The command does not apply in the present state: a signal to a service that does not run, any command during
    /// shutdown.
    NotNow,
    /// The machine is not stable enough to be confirmed.
    NotStable,
    /// The slot could not boot, or holds another build than the one named.
    SlotIncomplete,
    /// The kernel reported an error.
    Failed,
}

/// The timeout for replies that init has in memory.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout for replies that wait for a disk: old cards take tens of seconds to write what they had deferred.
const DISK_TIMEOUT: Duration = Duration::from_secs(60);

impl Command {
    /// The time that a client waits for the reply.
    pub fn timeout(&self) -> Duration {
        match self {
            // Of these, the output of services and the end of the machine are written first.
            Command::Logs { .. } | Command::Reboot | Command::Poweroff | Command::Halt => DISK_TIMEOUT,
            command if command.waits_for_disk() => DISK_TIMEOUT,
            _ => REPLY_TIMEOUT,
        }
    }

    /// Returns true if the reply comes when a disk has been read or written, for which a task is queued.
    pub fn waits_for_disk(&self) -> bool {
        match self {
            Command::RemountBoot { .. }
            | Command::RepairBoot { .. }
            | Command::Confirm
            | Command::Arm { .. }
            | Command::Switch { .. }
            | Command::Disarm
            | Command::Rollback
            | Command::FormatData { .. }
            | Command::CopyCredentials => true,
            Command::Boot
            | Command::List
            | Command::Status { .. }
            | Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Signal { .. }
            | Command::Logs { .. }
            | Command::Reboot
            | Command::Poweroff
            | Command::Halt => false,
        }
    }
}

impl Response {
    /// A successful response.
    pub fn ok(reply: Reply) -> Self {
        Response { version: VERSION, outcome: Outcome::Ok(reply) }
    }

    /// A response that reports a failure.
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
                message: format!(
                    "the request has version {}, this init supports up to {VERSION}",
                    header.version
                ),
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
    fn requests_and_responses_have_the_documented_wire_format() {
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
    fn newer_version_is_reported_even_if_its_shape_changed() {
        let error = Request::from_line(br#"{"version":7,"order":"66"}"#).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Version);
        assert_eq!(error.to_string(), "the request has version 7, this init supports up to 1");
    }

    proptest! {
        #[test]
        fn arbitrary_line_never_panics_the_reader(line in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Err(error) = Request::from_line(&line) {
                prop_assert!(error.kind == ErrorKind::Malformed || error.kind == ErrorKind::Version);
            }
        }
    }
}
