//! The control socket: the way root, and services in the group `krazy`, query and command the running init.
//!
//! The protocol is [`krazy_boot::api::control`]; this module is its blocking client.

mod client;

pub use client::{Client, ClientError, LogFollower};
pub use krazy_boot::api::control::{
    Command, ErrorKind, MAX_LINE, Outcome, Reply, Request, RequestError, Response, SOCKET, VERSION,
};
pub use krazy_boot::api::logs::{LogLine, LogStream, MAX_LOG_LINES};
pub use krazy_boot::api::services::{ExitReason, ServiceState, ServiceStatus};
pub use krazy_boot::api::status::{BootInfo, FailedTrial, Fallback, Milestones, Trial};
