//! `cargo krazy status`.

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::status;
use crate::shell::{MessageFormat, Shell};

/// Shows the build that a device runs, and its condition
///
/// The appliance and its version, the slots, services that are not stable, memory and space.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy status 10.0.0.5
  cargo krazy status kitchen --message-format json")]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let client = self.device.client()?;
        let raw = status::ask(&client)?;
        match shell.format() {
            MessageFormat::Human => shell.output(status::read(&client, &raw)?.to_string()),
            MessageFormat::Json => shell.message("device-status", &raw),
        }
    }
}
