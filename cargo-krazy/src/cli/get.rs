//! `cargo krazy get`.

use std::path::{Path, PathBuf};

use crate::cli::device_args::DeviceArgs;
use crate::failure::{Exit, Explain, Result};
use crate::ops::get::{get, stream};
use crate::shell::{MessageFormat, Shell};

/// Copies a file from a device
///
/// Files are below /data; logs are /tmp/SERVICE.log and /tmp/SERVICE.err. The local file appears complete or not at
/// all.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy get kitchen /data/weather/history.db
  cargo krazy get kitchen /tmp/weather.log - | grep error")]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The file on the device
    #[arg(value_name = "PATH")]
    path: String,
    /// The destination: a file, a directory, or `-` for standard output [default: the working directory]
    #[arg(value_name = "TO", default_value = ".", hide_default_value = true)]
    to: PathBuf,
}

/// Standard output asked for twice.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot carry both a file and messages")]
struct SharedOutput;

impl Explain for SharedOutput {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("name a file to write to in place of `-`".to_owned())
    }
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let client = self.device.client()?;
        if self.to == Path::new("-") {
            if shell.format() == MessageFormat::Json {
                return Err(SharedOutput.into());
            }
            return stream(&client, &self.path, &mut std::io::stdout().lock(), shell).map(drop);
        }
        let received = get(&client, &self.path, &self.to, shell)?;
        shell.status("Received", format!("{} ({} bytes)", received.file.display(), received.bytes));
        shell.message("file-received", &received)
    }
}
