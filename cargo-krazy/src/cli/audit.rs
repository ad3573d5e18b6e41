//! `cargo krazy audit`.

use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::failure::Result;
use crate::ops::audit;
use crate::shell::Shell;

/// Shows how far the services of an appliance are restricted
///
/// For each service the exposure from 0 (everything is restricted) to 10 (it is root), and the keys that lift
/// restrictions. It reads the metadata and builds nothing: programs without a service table are listed by their crate.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy audit
  cargo krazy audit --message-format json")]
pub(super) struct Args {
    /// The appliance.
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let audit = audit::audit(&config::load(&self.build.resolve())?);
        shell.report("audit", &audit.0, &audit)
    }
}
