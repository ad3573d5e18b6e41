//! `cargo krazy put`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde::Serialize;

use crate::device::upload::{Piece, body};
use crate::device::{DeviceArgs, DeviceError, paths};
use crate::failure::{Exit, Failure};
use crate::shell::Shell;

/// How long an upload may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

/// Copies a file to a device
///
/// The file on the device, which is below /data, is replaced as a whole or not at all.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy put kitchen weather.toml /data/weather/weather.toml")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The file here
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file on the device; with `/` at the end, the folder it goes into
    #[arg(value_name = "PATH")]
    path: String,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    file: &'a Path,
    path: &'a str,
    bytes: u64,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let reading = || format!("failed to read `{}`", self.file.display());
        let mut path = self.path.clone();
        if path.ends_with('/') {
            let name = self.file.file_name().and_then(|name| name.to_str());
            path.push_str(name.ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    format!("`{}` has no name to use on the device", self.file.display()),
                )
                .help("give the whole PATH")
            })?);
        }
        let url = paths::file(&path)?;
        let file = File::open(&self.file).with_context(reading)?;
        let metadata = file.metadata().with_context(reading)?;
        if !metadata.is_file() {
            // Its length says nothing: an empty file would be sent.
            let failure = Failure::new(Exit::Usage, format!("`{}` is not a file", self.file.display()));
            return Err(failure.help("write what is to be sent to a file first").into());
        }
        let bytes = metadata.len();
        let bar = shell.bytes_bar("Sending", bytes);
        let moved = Arc::new(AtomicU64::new(0));
        let body = body(vec![Piece { file: Arc::new(file), start: 0, len: bytes }], Arc::clone(&moved));
        let now = || {
            let moved = moved.load(Ordering::Relaxed);
            bar.set_position(moved);
            moved
        };
        client.send(Method::PUT, &url, body, bytes, PATIENCE, now).map_err(DeviceError::into_failure)?;
        bar.finish_and_clear();
        shell.status("Sent", format!("{} to {path} ({bytes} bytes)", self.file.display()));
        let (host, file) = (client.device(), self.file.as_path());
        shell.message(&Message { reason: "file-sent", host, file, path: &path, bytes })
    }
}
