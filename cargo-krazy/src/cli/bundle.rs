//! `cargo krazy bundle`.

use std::path::PathBuf;

use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::failure::Result;
use crate::ops::bundle;
use crate::plan::Plan;
use crate::shell::Shell;

/// Makes a signed update bundle of an appliance
///
/// One file with kernel, initramfs and root, for every device of the appliance. `cargo krazy push --bundle` sends it,
/// from any machine with the appliance's credentials; nothing needs to be built there. The same inputs give the same
/// bytes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy bundle                      to target/krazy/NAME-BOARD-VERSION.krazy
  cargo krazy bundle -p weather -o w.krazy")]
pub(super) struct Args {
    /// The file to write [default: target/krazy/NAME-BOARD-VERSION.krazy]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    // Last, for its headings hold for every option after them.
    /// The appliance to build.
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let plan = Plan::new(config::load(&self.build.resolve())?, None)?;
        let saved = bundle::save(&plan, self.output.as_deref(), shell)?;
        shell.status("Finished", format!("{} ({})", saved.bundle.display(), saved.bytes));
        shell.message("bundle-finished", &saved)
    }
}
