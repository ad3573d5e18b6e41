//! `cargo krazy get`.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::device::{DeviceArgs, DeviceError, paths};
use crate::failure::{Exit, Failure};
use crate::output::{Destination, Scratch};
use crate::shell::{MessageFormat, Shell};

/// Copies a file from a device
///
/// Files are below /data; logs are /tmp/SERVICE.log and /tmp/SERVICE.err. The file here appears complete or not at
/// all.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy get kitchen /data/weather/history.db
  cargo krazy get kitchen /tmp/weather.log - | grep error")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The file on the device
    #[arg(value_name = "PATH")]
    path: String,
    /// Where it goes: a file, a folder, or `-` for standard output [default: the working directory]
    #[arg(value_name = "TO", default_value = ".", hide_default_value = true)]
    to: PathBuf,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    path: &'a str,
    file: &'a Path,
    bytes: u64,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let url = paths::file(&self.path)?;
        let bar = shell.bytes_bar("Receiving", 0);
        let mut count = 0_u64;
        let mut receive = |out: &mut dyn Write| {
            let piece = |bytes: &[u8]| {
                count += bytes.len() as u64;
                bar.set_position(count);
                out.write_all(bytes)
                    .map_err(|error| Failure::new(Exit::Image, format!("failed to write what came: {error}")))
            };
            client
                .read(&url, |len| bar.set_length(len.unwrap_or(0)), piece)
                .map_err(DeviceError::into_failure)
        };
        if self.to == Path::new("-") {
            if shell.format() == MessageFormat::Json {
                return Err(Failure::new(
                    Exit::Usage,
                    "standard output cannot carry both a file and messages",
                )
                .into());
            }
            receive(&mut io::stdout().lock())?;
            bar.finish_and_clear();
            return Ok(());
        }
        let name = Path::new(&self.path).file_name().unwrap_or(OsStr::new("file"));
        let file = if self.to.is_dir() { self.to.join(name) } else { self.to.clone() };
        let file = Destination::file(&file)?;
        let writing = || Failure::new(Exit::Image, format!("failed to write `{}`", file.display()));
        let scratch = Scratch::beside(&file)?;
        receive(&mut scratch.as_file())?;
        scratch.persist(&file).with_context(writing)?;
        bar.finish_and_clear();
        shell.status("Received", format!("{} ({count} bytes)", file.display()));
        let (host, path) = (client.device(), self.path.as_str());
        shell.message(&Message { reason: "file-received", host, path, file: &file, bytes: count })
    }
}
