//! `cargo krazy ps`.

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::ps;
use crate::shell::{MessageFormat, Shell};

/// Lists the services of a device
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let client = self.device.client()?;
        let raw = ps::list(&client)?;
        match shell.format() {
            MessageFormat::Human => shell.output(ps::read(&client, &raw)?.to_string()),
            MessageFormat::Json => raw.iter().try_for_each(|service| shell.message("service", service)),
        }
    }
}
