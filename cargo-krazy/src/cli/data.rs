//! `cargo krazy data`.

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::data::{self, Format};
use crate::shell::Shell;

/// Shows the condition of a device's /data, and formats it
///
/// A device whose /data is damaged or lost keeps it in memory, and is still managed and updated: its credentials have
/// copies outside of /data.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy data check kitchen
  cargo krazy data format kitchen")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows the condition of /data as the device's kernel knows it
    ///
    /// That is no full check of the file system: devices have no e2fsck. A machine that has it can check partition 4 of
    /// the disk.
    Check(DeviceArgs),
    /// Makes a new, empty /data
    ///
    /// Every file on /data is lost. Certificate, tokens, update keys and version floor stay. The device formats it during
    /// its next start, for which it is restarted; a power cut meanwhile does no harm.
    Format(FormatArgs),
}

#[derive(Debug, clap::Args)]
struct FormatArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Format without asking
    #[arg(long, help_heading = "Format")]
    yes: bool,
    /// Do not restart the device: it formats /data at its next start
    #[arg(long, help_heading = "Format")]
    no_reboot: bool,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        match self.action {
            Action::Check(device) => {
                let client = device.client()?;
                let raw = data::check(&client)?;
                let condition = data::read(&client, &raw)?;
                shell.report("device-data", &[raw], &condition)
            }
            Action::Format(FormatArgs { device, yes, no_reboot }) => {
                data::format(&device.client()?, Format { yes, restart: !no_reboot }, shell)
            }
        }
    }
}
