//! Refusals of requests over the control socket.

use krazy_boot::error_chain::with_system_texts;

use super::state::Supervisor;
use crate::control::{ErrorKind, RequestError};
use crate::linux::block::Disk;

/// A refusal of this kind, with a text for people.
pub(super) fn refused(kind: ErrorKind, message: impl Into<String>) -> RequestError {
    RequestError { kind, message: with_system_texts(message.into()) }
}

/// Rejects requests that have no effect during shutdown: services are being stopped, and the end of a trial is already
/// recorded.
pub(super) fn refuse_while_ending(services: &Supervisor) -> Result<(), RequestError> {
    if services.is_ending() {
        return Err(refused(ErrorKind::NotNow, "the machine is shutting down"));
    }
    Ok(())
}

/// The refusal of a request whose answer would wait for too many others.
pub(super) fn too_slow() -> RequestError {
    refused(ErrorKind::NotNow, "the disk is too slow: too many requests wait for it; help: try again later")
}

/// The sentence about `disk` and its `twins`, disks with one signature.
pub(super) fn ambiguous_disk(disk: &Disk, twins: &[Disk]) -> String {
    let twins: Vec<String> = twins.iter().map(|twin| twin.node().display().to_string()).collect();
    format!(
        "{} and {} are copies of one image, and it is not known which of them was booted; updates are refused; \
         help: remove all but one",
        disk.node().display(),
        twins.join(", ")
    )
}
