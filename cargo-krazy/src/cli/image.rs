//! `cargo krazy image`.

use std::path::PathBuf;

use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::failure::Result;
use crate::ops::convert::{Conversion, Format};
use crate::ops::image::{self, Data};
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
  cargo krazy image -o /dev/sdX           to a disk, after a question
  cargo krazy image --format qcow2        for a hypervisor, to target/krazy/NAME-x86_64.qcow2
  cargo krazy image --dry-run             only print what would be done")]
pub(super) struct Args {
    /// The file or block device to write [default: target/krazy/NAME-BOARD.img]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The format of the file. Another one than `raw` is made from that, which stays at its default path
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "raw")]
    format: Format,
    /// Write to a block device without asking
    #[arg(long)]
    yes: bool,
    /// Print the plan and do nothing
    #[arg(long)]
    dry_run: bool,
    // Last, for its headings hold for every option after them.
    /// The appliance to build.
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let appliance = config::load(&self.build.resolve())?;
        let (plan, conversion) = match self.format {
            Format::Raw => (Plan::new(appliance, self.output)?, None),
            format => {
                let plan = Plan::new(appliance, None)?;
                let conversion = Conversion::new(format, &plan.output, self.output.as_deref())?;
                (plan, Some(conversion))
            }
        };
        if self.dry_run {
            return shell.report("plan", &[plan.message()], &plan);
        }
        let built = image::build(&plan, self.yes, Data::New, shell)?;
        // Reading the whole image back takes longer than making it; only scripts ask for its hash.
        if shell.format() == MessageFormat::Json {
            shell.message("image-finished", &built.hashed()?)?;
        }
        match conversion {
            None => Ok(()),
            Some(conversion) => conversion.run(&built.path, shell),
        }
    }
}
