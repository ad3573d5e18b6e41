//! Restarting and switching off.

use reqwest::Method;

use super::status::API;
use super::{Client, DeviceError};

/// How a machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It starts again.
    Reboot,
    /// It stays off.
    Poweroff,
}

impl Power {
    /// `reboot` or `poweroff`.
    pub const fn name(self) -> &'static str {
        match self {
            Power::Reboot => "reboot",
            Power::Poweroff => "poweroff",
        }
    }
}

/// Orders it. A connection that breaks is no failure then: the device may be gone before its answer is.
pub fn order(client: &Client, power: Power) -> Result<(), DeviceError> {
    match client.order(Method::POST, &format!("{API}/{}", power.name()), None) {
        Err(DeviceError::Broken { .. }) => Ok(()),
        other => other,
    }
}
