//! `cargo krazy discover`.

use std::time::Duration;

use crate::failure::Result;
use crate::ops::discover::discover;
use crate::shell::{MessageFormat, Shell};

/// Lists the devices that announce themselves in the local network
///
/// An announcement proves nothing: a device shows that it is the right one by its certificate, when a command connects
/// to it. Other commands take the names listed here. A device does not announce itself if its metadata sets
/// `admind = { mdns = false }`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy discover
  cargo krazy push kitchen.local")]
pub(super) struct Args {
    /// How long to listen
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let found = discover(Duration::from_secs(self.timeout))?;
        if found.0.is_empty() && shell.format() == MessageFormat::Human {
            shell.note("no device answered; it must be in the same network, and multicast must get through");
            return Ok(());
        }
        shell.report("device-found", &found.0, &found)
    }
}
