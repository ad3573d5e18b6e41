//! One file per subcommand: its arguments, and an `exec` that calls one operation.

pub mod doctor;
pub mod image;
pub mod inspect;
pub mod kernel;
pub mod run_qemu;

use crate::shell::Shell;

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Makes the disk image of an appliance
    Image(image::Args),
    /// Shows what is on an image or a disk
    Inspect(inspect::Args),
    /// Reports what this machine has and lacks for each board
    Doctor(doctor::Args),
    /// Shows, fetches, updates and builds the kernels that images are made with
    Kernel(kernel::Args),
    /// Boots the appliance in QEMU
    RunQemu(run_qemu::Args),
}

impl Command {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        match self {
            Command::Image(args) => args.exec(shell),
            Command::Inspect(args) => args.exec(shell),
            Command::Doctor(args) => args.exec(shell),
            Command::Kernel(args) => args.exec(shell),
            Command::RunQemu(args) => args.exec(shell),
        }
    }
}
