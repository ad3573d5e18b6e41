//! `cargo krazy image`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use krazy_boot::disk::size::Bytes;
use serde::Serialize;

use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::ops::image::{self, Built, Data};
use crate::plan::Plan;
use crate::shell::{MessageFormat, Shell};
use krazy_boot::digest::{Sha256Hash, sha256_of};

/// Makes the disk image of an appliance
///
/// Installs the own package and everything under `install` in its metadata, fetches the kernel, and writes a disk
/// with a boot sector, /boot, two roots and /data.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy image                       the package here, to target/krazy/NAME-x86_64.img
  cargo krazy image -p weather -o w.img   another package, to another file
  cargo krazy image -o /dev/sdX           to a disk, after a question
  cargo krazy image --dry-run             only print what would be done")]
pub struct Args {
    /// The file or block device to write [default: target/krazy/NAME-BOARD.img]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Write to a block device without asking
    #[arg(long)]
    pub yes: bool,
    /// Print the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
    // Last, for its headings hold for every option after them.
    /// What to build.
    #[command(flatten)]
    pub build: BuildArgs,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> Result<()> {
        let plan = Plan::new(config::load(&self.build.resolve())?, self.output)?;
        if self.dry_run {
            return match shell.format() {
                MessageFormat::Human => shell.output(plan.to_string()),
                MessageFormat::Json => shell.message(&plan.message()),
            };
        }
        let built = image::build(&plan, self.yes, Data::New, shell)?;
        // Reading the whole image back takes longer than making it; only scripts ask for its hash.
        if shell.format() == MessageFormat::Json {
            shell.message(&Finished::of(&built)?)?;
        }
        Ok(())
    }
}

/// The last message of `--message-format json`.
#[derive(Serialize)]
struct Finished<'a> {
    reason: &'static str,
    image: &'a Path,
    bytes: Bytes,
    /// Of the first `bytes` bytes of the file or device.
    sha256: Sha256Hash,
    fresh: bool,
    name: &'a str,
    version: &'a str,
    board: &'a str,
    build_id: &'a str,
}

impl<'a> Finished<'a> {
    fn of(built: &'a Built) -> Result<Self> {
        let Built { path, bytes, manifest, fresh } = built;
        Ok(Finished {
            reason: "image-finished",
            image: path,
            bytes: *bytes,
            sha256: File::open(path)
                .and_then(|file| sha256_of(&mut file.take(bytes.0)))
                .with_context(|| format!("failed to read back {}", path.display()))?,
            fresh: *fresh,
            name: &manifest.name,
            version: &manifest.version,
            board: &manifest.board,
            build_id: &manifest.build_id,
        })
    }
}
