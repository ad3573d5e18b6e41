//! `cargo krazy update`.

use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::failure::Result;
use crate::ops::update;
use crate::plan::Plan;
use crate::shell::Shell;

/// Takes newer versions and commits of the crates under `install`
///
/// Each entry is resolved anew, as far as its `version`, `branch` or `tag` allows, and installed; Krazy.lock then holds
/// what it was resolved to. An entry that does not compile stays as it was. The kernel has a command of its own, `cargo
/// krazy kernel update`, and the dependencies of your package have cargo's, `cargo update`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy update           every entry
  cargo krazy update dufs      one of them")]
pub(super) struct Args {
    /// The entries [default: all that Krazy.lock holds at a version or commit]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    // Last, for its headings hold for every option after them.
    /// The appliance to build.
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let plan = Plan::new(config::load(&self.build.resolve())?, None)?;
        update::update(&plan, &self.names, shell)
    }
}
