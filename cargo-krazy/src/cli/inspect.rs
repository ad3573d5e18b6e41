//! `cargo krazy inspect`.

use std::path::PathBuf;

use crate::failure::Result;
use crate::ops::inspect::inspect;
use crate::shell::Shell;

/// Shows the content of an image or a disk
///
/// Partitions, the slot that boots, and for each slot the kernel, its command line, the appliance and its services.
/// The image is only read. Reading a disk may need root.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy inspect target/krazy/hello-x86_64.img
  cargo krazy inspect /dev/sdb --message-format json")]
pub(super) struct Args {
    /// The image file or block device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let report = inspect(&self.image)?;
        shell.report("inspection", std::slice::from_ref(&report), &report)
    }
}
