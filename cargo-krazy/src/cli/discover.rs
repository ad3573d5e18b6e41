//! `cargo krazy discover`.

use std::time::Duration;

use serde::Serialize;

use crate::device::discovery::{self, Found};
use crate::shell::{MessageFormat, Shell};
use crate::table::Table;

/// Lists the devices that announce themselves in the local network
///
/// What they say is not proven: whoever is connected shows with the certificate. Names that are listed can be given to
/// other commands. A device does not announce itself if its metadata sets `admind = { mdns = false }`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy discover
  cargo krazy push kitchen.local")]
pub struct Args {
    /// How long to listen
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    #[serde(flatten)]
    device: &'a Found,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let found = discovery::browse(Duration::from_secs(self.timeout))?;
        if shell.format() == MessageFormat::Json {
            let message = |device| Message { reason: "device-found", device };
            return found.iter().try_for_each(|device| shell.message(&message(device)));
        }
        if found.is_empty() {
            shell.note("no device answered; it must be in the same network, and multicast must get through");
            return Ok(());
        }
        let mut table = Table::new(["HOST", "ADDRESS", "PORT", "APPLIANCE", "VERSION"]);
        for Found { host, addresses, port, appliance, version } in &found {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let address = addresses.first().map(ToString::to_string);
            table.row([
                host.clone(),
                or_none(&address),
                port.to_string(),
                or_none(appliance),
                or_none(version),
            ]);
        }
        shell.output(table.to_string())
    }
}
