//! `cargo krazy poweroff`.

use serde::Serialize;

use crate::device::power::{self, Power};
use crate::device::{DeviceArgs, DeviceError};
use crate::shell::Shell;

/// Switches a device off
///
/// Stops all services and switches the machine off; nothing here can switch it on again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        power::order(&client, Power::Poweroff).map_err(DeviceError::into_failure)?;
        shell.status("Ordered", format!("`{}` switches off", client.device()));
        shell.message(&Message { reason: "device-poweroff", host: client.device() })
    }
}
