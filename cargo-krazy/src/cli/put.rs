//! `cargo krazy put`.

use std::path::PathBuf;

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::put::put;
use crate::shell::Shell;

/// Copies a file to a device
///
/// The file on the device, which is below /data, is replaced as a whole or not at all.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy put kitchen weather.toml /data/weather/weather.toml")]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The local file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file on the device; with `/` at the end, the directory it goes into
    #[arg(value_name = "PATH")]
    path: String,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let client = self.device.client()?;
        let sent = put(&client, &self.file, &self.path, shell)?;
        shell.status("Sent", format!("{} to {} ({} bytes)", self.file.display(), sent.path, sent.bytes));
        shell.message("file-sent", &sent)
    }
}
