//! `cargo krazy inspect`.

use std::path::PathBuf;

use crate::ops::inspect;
use crate::shell::{MessageFormat, Shell};

/// Shows what is on an image or a disk
///
/// Partitions, which slot boots, and for each slot the kernel, its command line, the appliance and its services. Only
/// reads. Reading a device may need root.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy inspect target/krazy/hello-x86_64.img
  cargo krazy inspect /dev/sdb --message-format json")]
pub struct Args {
    /// The image file or block device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let report = inspect::inspect(&self.image)?;
        match shell.format() {
            MessageFormat::Human => shell.output(report.to_string()),
            MessageFormat::Json => shell.message(&report),
        }
    }
}
