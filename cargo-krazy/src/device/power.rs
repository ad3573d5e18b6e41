//! Restarting and switching off.

use krazy_boot::api::Endpoint;

use super::{Client, DeviceError};

/// The ways to stop a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// It starts again.
    Reboot,
    /// It stays off.
    Poweroff,
}

/// Requests it. A broken connection is no failure: the device may stop before its response is sent.
pub(crate) fn order(client: &Client, power: Power) -> Result<(), DeviceError> {
    let endpoint = match power {
        Power::Reboot => Endpoint::Reboot,
        Power::Poweroff => Endpoint::Poweroff,
    };
    match client.call(&endpoint) {
        Err(DeviceError::Broken { .. }) => Ok(()),
        other => other,
    }
}
