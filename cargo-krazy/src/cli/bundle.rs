//! `cargo krazy bundle`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use krazy_boot::disk::size::Bytes;
use serde::Serialize;

use crate::bundle::{self, store::Store};
use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::ops::{self, image};
use crate::output::Destination;
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
pub struct Args {
    /// The file to write [default: target/krazy/NAME-BOARD-VERSION.krazy]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    // Last, for its headings hold for every option after them.
    /// What to build.
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Serialize)]
struct Finished<'a> {
    reason: &'static str,
    bundle: &'a Path,
    bytes: Bytes,
    name: &'a str,
    version: &'a str,
    board: &'a str,
    build_id: &'a str,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> Result<()> {
        let plan = Plan::new(config::load(&self.build.resolve())?, None)?;
        // Before anything is built.
        let output = self.output.as_deref().map(Destination::file).transpose()?;
        let store = Store::of_user()?;
        let made = ops::bundle::make(&image::prepare(&plan, shell)?, &store)?;
        let manifest = &made.manifest;
        // The build has made the folder.
        let output = output.unwrap_or_else(|| {
            let file = format!("{}-{}-{}.krazy", manifest.appliance, manifest.board, manifest.version);
            plan.appliance.target_directory.join("krazy").join(file)
        });
        let bytes = bundle::save(&made, &store, &output)?;
        shell.status("Finished", format!("{} ({bytes})", output.display()));
        shell.message(&Finished {
            reason: "bundle-finished",
            bundle: &output,
            bytes,
            name: &manifest.appliance,
            version: &manifest.version,
            board: &manifest.board,
            build_id: &manifest.build_id,
        })
    }
}
