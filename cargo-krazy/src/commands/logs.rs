//! `cargo krazy logs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::device::events::Parser;
use crate::device::{DeviceArgs, DeviceError, paths};
use crate::failure::{Exit, Failure};
use crate::shell::{MessageFormat, Shell};

/// The device says something at least every 15 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shows what a service wrote
///
/// The newest lines of its standard output, each with wall time and time since the start. `-f` goes on with new ones
/// until it is interrupted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy logs 10.0.0.5 weather
  cargo krazy logs qemu hello -f --err")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The service: a name that `cargo krazy ps` lists
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Go on with new lines as they are written
    #[arg(short, long, help_heading = "Log")]
    follow: bool,
    /// Standard error instead of standard output
    #[arg(long, help_heading = "Log")]
    err: bool,
    /// How many of the newest lines, at most 1000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1000))]
    lines: u32,
}

#[derive(Deserialize)]
struct Lines {
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    stream: String,
    text: String,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    service: &'a str,
    stream: &'a str,
    text: &'a str,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let stream = if self.err { "err" } else { "out" };
        let query = format!("?stream={stream}&lines={}", self.lines);
        let print = |stream: &str, text: &str| match shell.format() {
            MessageFormat::Human => shell.output(format!("{text}\n")),
            MessageFormat::Json => {
                shell.message(&Message { reason: "log-line", service: &self.service, stream, text })
            }
        };
        if !self.follow {
            let path = paths::service(&self.service, "logs") + &query;
            let Lines { lines } = client.get(&path).map_err(DeviceError::into_failure)?;
            return lines.iter().try_for_each(|line| print(&line.stream, &line.text));
        }
        let mut parser = Parser::default();
        let mut failed = None;
        let path = paths::service(&self.service, "tail") + &query;
        let ended = client.listen(&path, PATIENCE, |bytes| {
            for event in parser.feed(bytes) {
                if event.name == "problem" {
                    return Err(Failure::new(Exit::Device, event.data));
                }
                // New lines of both streams come.
                if event.name == stream
                    && let Err(error) = print(&event.name, &event.data)
                {
                    // Nobody listens any more.
                    failed = Some(error);
                    return Ok(false);
                }
            }
            Ok(true)
        });
        ended.map_err(DeviceError::into_failure)?;
        failed.map_or(Ok(()), Err)
    }
}
