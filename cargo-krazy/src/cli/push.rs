//! `cargo krazy push`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::build_args::BuildArgs;
use crate::failure::Result;
use crate::ops::push::{self, BundleSource, Options, PushRequest};
use crate::shell::Shell;

/// Updates running devices
///
/// Builds the appliance for the board of each device, sends the differences from the running build to the inactive
/// slot, restarts the device into that slot on trial, and confirms it when the required services are stable. A device
/// that does not become stable goes back to the earlier build by itself and reports the reason. /data is not touched.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy push 10.0.0.5
  cargo krazy push kitchen attic garage          several at once
  cargo krazy push qemu --no-confirm             on trial until `cargo krazy confirm qemu`
  cargo krazy push kitchen --bundle w.krazy      a bundle made by `cargo krazy bundle`")]
pub(super) struct Args {
    /// The devices: addresses, names from hosts.toml, or `qemu` for the machine of `run-qemu`
    #[arg(value_name = "HOST[:PORT]", required = true)]
    hosts: Vec<String>,
    /// Push this bundle instead of building
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Leave the new build on trial; `cargo krazy confirm` keeps it
    #[arg(long)]
    no_confirm: bool,
    /// Only fill the inactive slot; `cargo krazy switch` boots it later
    #[arg(long, conflicts_with = "no_confirm")]
    stage: bool,
    /// Push a build that was rejected before, runs already or is another appliance's; end an update in progress
    #[arg(long)]
    force: bool,
    /// Ask the devices and print what would be done
    #[arg(long)]
    dry_run: bool,
    /// How long a device may take to restart and become stable
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    timeout: NonZeroU64,
    /// The appliance whose credentials the devices take [default: the one that is pushed]
    #[arg(long, value_name = "NAME")]
    appliance: Option<String>,
    // Last, for its headings hold for every option after them.
    /// The appliance to build.
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let target = self.build.board();
        let build = self.build.resolve();
        let request = PushRequest {
            hosts: self.hosts,
            source: match self.bundle {
                Some(path) => BundleSource::File(path),
                None => BundleSource::Build { build, target },
            },
            appliance: self.appliance,
            dry_run: self.dry_run,
            options: Options {
                confirm: !self.no_confirm,
                restart: !self.stage,
                force: self.force,
                limit: Duration::from_secs(self.timeout.get()),
            },
        };
        let reports = push::run(request, shell)?;
        reports.announce(shell)?;
        reports.into_result()
    }
}
