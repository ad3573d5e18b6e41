//! `cargo krazy image`.

use std::path::PathBuf;

use crate::cli::BuildArgs;
use crate::config;
use crate::plan::Plan;
use crate::shell::{MessageFormat, Shell};

/// Makes the disk image of an appliance
///
/// Installs the own package and everything under `install` in its metadata, fetches the kernel, and writes a disk
/// with a boot sector, /boot, two roots and /data.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy image                       the package here, to target/krazy/NAME-x86_64.img
  cargo krazy image -p weather -o w.img   another package, to another file
  cargo krazy image --dry-run             only print what would be done")]
pub struct Args {
    /// The file or block device to write [default: target/krazy/NAME-BOARD.img]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Print the plan and do nothing
    #[arg(long, required = true)]
    pub dry_run: bool,
    /// What to build.
    #[command(flatten)]
    pub build: BuildArgs,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let plan = Plan::new(config::load(&self.build.resolve())?, self.output)?;
        match shell.format() {
            MessageFormat::Human => shell.output(plan.to_string()),
            MessageFormat::Json => shell.message(&plan.message()),
        }
    }
}
