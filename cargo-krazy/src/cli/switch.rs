//! `cargo krazy switch`.

use krazy_boot::disk::slot::Slot;

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::order::{self, Order};
use crate::shell::Shell;

/// Boots a slot of a device on trial
///
/// The device restarts into the slot, once: `cargo krazy confirm` keeps it there, otherwise the device returns by
/// itself. A slot that is empty or incomplete is refused.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The slot
    #[arg(value_name = "a|b")]
    slot: Slot,
    /// Do not restart the device: it tries the slot at its next start
    #[arg(long, help_heading = "Switch")]
    no_reboot: bool,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let order = Order::Switch { slot: self.slot, restart: !self.no_reboot };
        order::give(&self.device.client()?, order, shell)
    }
}
