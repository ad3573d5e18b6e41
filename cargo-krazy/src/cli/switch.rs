//! `cargo krazy switch`.

use krazy_boot::disk::slot::Slot;
use reqwest::Method;
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::device::DeviceError;
use crate::device::power::{self, Power};
use crate::device::status::API;
use crate::ops::push::upload::explain;
use crate::shell::Shell;

/// Makes a device try what its other slot holds
///
/// The slot boots once, on trial: `cargo krazy confirm` makes it stay, otherwise the device returns by itself. A slot
/// that is empty or incomplete is refused.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The slot
    #[arg(value_name = "a|b")]
    slot: Slot,
    /// Do not restart the device: the slot is tried at its next start
    #[arg(long, help_heading = "Switch")]
    no_reboot: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    slot: Slot,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let slot = self.slot;
        let path = format!("{API}/slots/switch?slot={}", slot.letter());
        client.order(Method::POST, &path, None).map_err(|error| explain(error, client.device()))?;
        if !self.no_reboot {
            power::order(&client, Power::Reboot).map_err(DeviceError::into_failure)?;
        }
        shell.status("Ordered", format!("`{}` tries slot {slot} at its next start", client.device()));
        shell.message(&Message { reason: "device-switch", host: client.device(), slot })
    }
}
