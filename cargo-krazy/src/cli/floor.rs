//! `cargo krazy floor`.

use cargo_metadata::semver::Version;

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::floor;
use crate::shell::Shell;

/// Shows and sets the lowest version that a device takes as an update
///
/// The floor keeps out old bundles, which are signed but have known holes. `--force` does not get past it: lower it
/// first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy floor show kitchen
  cargo krazy floor set kitchen 1.4.0")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows the floor
    Show(DeviceArgs),
    /// Sets the floor
    Set(Set),
    /// Removes the floor: the device takes every version
    Clear(DeviceArgs),
}

#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    device: DeviceArgs,
    /// A semantic version, as in Cargo.toml
    #[arg(value_name = "VERSION")]
    version: Version,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        match self.action {
            Action::Show(device) => {
                let client = device.client()?;
                let floor = floor::show(&client)?;
                shell.report("version-floor", std::slice::from_ref(&floor), &floor)
            }
            Action::Set(Set { device, version }) => {
                let client = device.client()?;
                let text = format!("`{}` takes version {version} and newer ones", client.device());
                let floor = floor::set(&client, Some(version))?;
                shell.status("Set", text);
                shell.message("version-floor", &floor)
            }
            Action::Clear(device) => {
                let client = device.client()?;
                let floor = floor::set(&client, None)?;
                shell.status("Cleared", format!("`{}` takes every version", client.device()));
                shell.message("version-floor", &floor)
            }
        }
    }
}
