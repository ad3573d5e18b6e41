//! `cargo krazy poweroff`.

use crate::device::power::{self, Power};
use crate::device::{DeviceArgs, DeviceError, Done};
use crate::shell::Shell;

/// Switches a device off
///
/// Stops all services and switches the machine off; nothing here can switch it on again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        power::order(&client, Power::Poweroff).map_err(DeviceError::into_failure)?;
        shell.status("Ordered", format!("`{}` switches off", client.device()));
        shell.message(&Done::new("device-poweroff", &client))
    }
}
