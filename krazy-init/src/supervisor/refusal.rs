//! Refusals of requests over the control socket.

use super::state::Supervisor;
use crate::control::{ErrorKind, RequestError};

/// A refusal of this kind, with a text for people.
pub(super) fn refused(kind: ErrorKind, message: impl Into<String>) -> RequestError {
    RequestError { kind, message: message.into() }
}

/// Rejects requests that have no effect during shutdown: services are being stopped, and the end of a trial is already
/// recorded.
pub(super) fn refuse_while_ending(services: &Supervisor) -> Result<(), RequestError> {
    if services.is_ending() {
        return Err(refused(ErrorKind::NotNow, "the machine is shutting down"));
    }
    Ok(())
}
