//! Orders to a device that are one request: restart, switch off, confirm, roll back, switch to a slot.

use krazy_boot::api::Endpoint;
use krazy_boot::api::status::SwitchQuery;
use krazy_boot::disk::slot::Slot;
use serde::Serialize;

use super::refusal::RefusedUpdate;
use crate::device::power::{self, Power};
use crate::device::status::Status;
use crate::device::{Client, DeviceError};
use crate::failure::Result;
use crate::shell::Shell;

/// An order to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Restart.
    Reboot,
    /// Switch off.
    Poweroff,
    /// Keep the build that is on trial.
    Confirm,
    /// Restart into the build of the other slot.
    Rollback,
    /// Try a slot.
    Switch {
        /// The slot.
        slot: Slot,
        /// Set when the device restarts at once.
        restart: bool,
    },
}

#[derive(Serialize)]
struct Done<'a> {
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<Slot>,
}

/// Gives `order` to the device of `client`, and reports what the device does now.
pub(crate) fn give(client: &Client, order: Order, shell: Shell) -> Result<()> {
    let host = client.device();
    let kept = format!("`cargo krazy confirm {host}` keeps it, otherwise the device goes back by itself");
    let (verb, text, note) = match order {
        Order::Reboot => {
            power::order(client, Power::Reboot)?;
            ("Ordered", format!("`{host}` restarts"), None)
        }
        Order::Poweroff => {
            power::order(client, Power::Poweroff)?;
            ("Ordered", format!("`{host}` switches off"), None)
        }
        Order::Confirm => {
            client.call(&Endpoint::ConfirmSlot).map_err(RefusedUpdate)?;
            ("Confirmed", format!("the build that `{host}` runs"), None)
        }
        Order::Rollback => match roll_back(client)? {
            Rollback::ToConfirmed => ("Ordered", format!("`{host}` goes back to its confirmed build"), None),
            Rollback::ToOther => {
                ("Ordered", format!("`{host}` restarts into its other build, on trial"), Some(kept))
            }
        },
        Order::Switch { slot, restart } => {
            let query = SwitchQuery { slot: Some(slot) };
            client.call(&Endpoint::SwitchSlot { query }).map_err(RefusedUpdate)?;
            let text = if restart {
                power::order(client, Power::Reboot)?;
                format!("`{host}` restarts into slot {slot}, on trial")
            } else {
                format!("`{host}` tries slot {slot} at its next start")
            };
            ("Ordered", text, Some(kept))
        }
    };
    shell.status(verb, text);
    if let Some(note) = note {
        shell.note(note);
    }
    let (reason, slot) = match order {
        Order::Reboot => ("device-reboot", None),
        Order::Poweroff => ("device-poweroff", None),
        Order::Confirm => ("device-confirm", None),
        Order::Rollback => ("device-rollback", None),
        Order::Switch { slot, .. } => ("device-switch", Some(slot)),
    };
    shell.message(reason, &Done { host, slot })
}

enum Rollback {
    /// The build on trial was given up.
    ToConfirmed,
    /// The other slot's build is on trial.
    ToOther,
}

fn roll_back(client: &Client) -> Result<Rollback> {
    let status: Status = client.get(&Endpoint::Status)?;
    match client.call(&Endpoint::RollBackSlot) {
        // The device may restart before its reply is out.
        Ok(()) | Err(DeviceError::Broken { .. }) => {}
        Err(error) => return Err(RefusedUpdate(error).into()),
    }
    if status.trial.is_some() {
        return Ok(Rollback::ToConfirmed);
    }
    power::order(client, Power::Reboot)?;
    Ok(Rollback::ToOther)
}
