//! `cargo krazy vendor`.

use std::path::PathBuf;

use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::failure::Result;
use crate::ops::vendor;
use crate::shell::Shell;

/// Brings everything an image needs into a directory, for builds without the network
///
/// DIR gets the crates of your workspace, of everything under `install` and of krazy-init and krazy-admind, with all their
/// dependencies; the kernel and the firmware of the board; and zig, unless this machine has another C compiler for it.
/// Krazy.lock then holds all versions. Standard output is the configuration that leads cargo and this program there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mkdir -p .cargo
  cargo krazy vendor vendor >> .cargo/config.toml   with the network
  cargo krazy image --offline                       without it")]
pub(super) struct Args {
    /// The directory to fill
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    // Last, for its headings hold for every option after them.
    /// The appliance to build.
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let vendored = vendor::vendor(&config::load(&self.build.resolve())?, &self.directory, shell)?;
        shell.report("vendored", &[&vendored], &vendored)
    }
}
