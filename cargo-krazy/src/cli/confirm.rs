//! `cargo krazy confirm`.

use reqwest::Method;

use crate::device::status::API;
use crate::device::{DeviceArgs, Done};
use crate::ops::push::upload::explain;
use crate::shell::Shell;

/// Keeps the build a device has on trial
///
/// Refused while a required service is not stable. On a device that is not on trial nothing changes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let ordered = client.order(Method::POST, &format!("{API}/slots/confirm"), None);
        ordered.map_err(|error| explain(error, client.device()))?;
        shell.status("Confirmed", format!("what `{}` runs", client.device()));
        shell.message(&Done::new("device-confirm", &client))
    }
}
