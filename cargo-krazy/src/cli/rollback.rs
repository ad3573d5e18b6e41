//! `cargo krazy rollback`.

use reqwest::Method;

use crate::device::power::{self, Power};
use crate::device::status::{API, Status};
use crate::device::{DeviceArgs, DeviceError, Done};
use crate::ops::push::upload::explain;
use crate::shell::Shell;

/// Goes back to the build in a device's other slot
///
/// A device on trial restarts into its confirmed slot. Any other restarts into its other slot, on trial: confirm it, or
/// it returns by itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let status: Status = client.get(&format!("{API}/status")).map_err(DeviceError::into_failure)?;
        let ordered = client.order(Method::POST, &format!("{API}/slots/rollback"), None);
        match ordered {
            // The device may restart before its answer is out.
            Ok(()) | Err(DeviceError::Broken { .. }) => {}
            Err(error) => return Err(explain(error, client.device()).into()),
        }
        if status.trial.is_none() {
            power::order(&client, Power::Reboot).map_err(DeviceError::into_failure)?;
        }
        shell.status("Ordered", format!("`{}` goes back", client.device()));
        if status.trial.is_none() {
            shell.note(format!(
                "it runs its other build on trial: `cargo krazy confirm {}` keeps that, or it returns by itself",
                client.device()
            ));
        }
        shell.message(&Done::new("device-rollback", &client))
    }
}
