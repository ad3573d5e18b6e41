//! `cargo krazy certificate`.

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::certificate;
use crate::shell::Shell;

/// Shows and exchanges the certificate of a device
///
/// A device has the certificate of its image until the first confirmed push gives it its own, which the appliance's
/// authority signs. Commands accept no other certificate, and dates do not count.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy certificate show kitchen
  cargo krazy certificate rotate kitchen
  cargo krazy certificate rotate attic       the same certificate for another device of the appliance
  cargo krazy certificate forget attic       all have it: no earlier one is accepted any more")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows the fingerprint and the end of the certificate's validity
    Show(DeviceArgs),
    /// Gives a device a new certificate and key
    ///
    /// The pair is made on this machine and tried beside the old one, which stays valid until the device has answered
    /// with the new one. After an interruption, run the command again; both are accepted until it is finished. New
    /// images get the new pair. A device that has an earlier pair of its appliance gets the present one; one that has a
    /// pair of its own gets another one of its own, and a token with it.
    Rotate(DeviceArgs),
    /// Stops accepting earlier certificates of the appliance, after the device has shown the present one
    Forget(DeviceArgs),
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        match self.action {
            Action::Show(device) => {
                let client = device.client()?;
                let certificate = certificate::show(&client)?;
                shell.report("certificate", std::slice::from_ref(&certificate), &certificate)
            }
            Action::Rotate(device) => {
                let client = device.client()?;
                let rotated = certificate::rotate(&client)?;
                let (host, appliance) = (client.device(), client.appliance());
                shell.status("Rotated", format!("certificate of `{host}`, SHA-256 {}", rotated.sha256));
                if rotated.device.is_some() {
                    return shell.message("certificate-rotated", &rotated);
                }
                shell.note(format!(
                    "other devices of `{appliance}` keep the earlier certificate, which is still accepted, until they \
                     are rotated, too; `cargo krazy certificate forget {host}` ends that",
                ));
                shell.message("certificate-rotated", &rotated)
            }
            Action::Forget(device) => {
                let client = device.client()?;
                let forgotten = certificate::forget(&client)?;
                let text =
                    format!("{} earlier certificates of `{}`", forgotten.certificates, client.appliance());
                shell.status("Forgot", text);
                shell.message("certificates-forgotten", &forgotten)
            }
        }
    }
}
