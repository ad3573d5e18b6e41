//! `cargo krazy key`.

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::key;
use crate::shell::Shell;

/// Shows and exchanges the key that signs a device's updates
///
/// The key was made with the appliance's first image. A device accepts new keys only if one that it has signed them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy key show kitchen
  cargo krazy key rotate kitchen
  cargo krazy key rotate attic       the same key for another device of the appliance")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows the public keys whose updates the device accepts
    Show(DeviceArgs),
    /// Gives a device a new key, and takes the earlier one from it
    ///
    /// The key is made on this machine. New images and updates are signed with it as soon as the device has it. Another
    /// device of the appliance gets the same key, by this command or with its next push. A device with `signed-only` goes
    /// back to a slot that only an earlier key has signed no more.
    Rotate(DeviceArgs),
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        match self.action {
            Action::Show(device) => {
                let client = device.client()?;
                let keys = key::show(&client)?;
                shell.report("update-keys", std::slice::from_ref(&keys), &keys)
            }
            Action::Rotate(device) => {
                let client = device.client()?;
                let rotated = key::rotate(&client)?;
                let (host, appliance) = (client.device(), client.appliance());
                shell.status("Rotated", format!("update key of `{host}`: {}", rotated.key));
                shell.note(format!("other devices of `{appliance}` get it with their next push"));
                shell.message("update-key-rotated", &rotated)
            }
        }
    }
}
