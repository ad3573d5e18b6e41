//! What commands say to programs when a device has done what it was told.

use serde::Serialize;

use super::Client;

/// The message of an order that has no result of its own.
#[derive(Debug, Serialize)]
pub struct Done<'a> {
    reason: &'static str,
    host: &'a str,
}

impl<'a> Done<'a> {
    /// `reason` says what was done, to the device of `client`.
    pub fn new(reason: &'static str, client: &'a Client) -> Self {
        Done { reason, host: client.device() }
    }
}
