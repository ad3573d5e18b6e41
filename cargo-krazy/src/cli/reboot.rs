//! `cargo krazy reboot`.

use crate::device::power::{self, Power};
use crate::device::{DeviceArgs, DeviceError, Done};
use crate::shell::Shell;

/// Restarts a device
///
/// Stops all services and restarts the machine. A slot that is armed boots on trial.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        power::order(&client, Power::Reboot).map_err(DeviceError::into_failure)?;
        shell.status("Ordered", format!("`{}` restarts", client.device()));
        shell.message(&Done::new("device-reboot", &client))
    }
}
