//! `cargo krazy logs`.

use krazy_boot::api::logs::LogStream;

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::logs::{self, LogOptions};
use crate::shell::Shell;

/// Shows the output of a service
///
/// The newest lines of its standard output and standard error in the order of their times. A line begins with the wall
/// time and the seconds since the device started. `-f` goes on with new lines until it is interrupted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy logs 10.0.0.5 weather
  cargo krazy logs qemu hello -f --err")]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The service: a name that `cargo krazy ps` lists
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Go on with new lines as they are written
    #[arg(short, long, help_heading = "Log")]
    follow: bool,
    /// Standard output only
    #[arg(long, help_heading = "Log", conflicts_with = "err")]
    out: bool,
    /// Standard error only
    #[arg(long, help_heading = "Log")]
    err: bool,
    /// How many of the newest lines of each, at most 1000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1000))]
    lines: u32,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let client = self.device.client()?;
        let streams: &[LogStream] = match (self.out, self.err) {
            (false, false) => &[LogStream::Out, LogStream::Err],
            (_, false) => &[LogStream::Out],
            (_, true) => &[LogStream::Err],
        };
        let options = LogOptions { service: &self.service, streams, lines: self.lines, follow: self.follow };
        logs::print(&client, options, shell)
    }
}
