//! `cargo krazy reboot`, `poweroff`, `confirm` and `rollback`: orders without further arguments.

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::order::{self, Order};
use crate::shell::Shell;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Args {
    /// Restarts a device
    ///
    /// Stops all services and restarts the machine. An armed slot boots on trial.
    Reboot(DeviceArgs),
    /// Switches a device off
    ///
    /// Stops all services and switches the machine off. No command can switch it on again.
    Poweroff(DeviceArgs),
    /// Confirms the build that a device has on trial
    ///
    /// The build stays. Refused while a required service is not stable. On a device that is not on trial nothing
    /// changes.
    Confirm(DeviceArgs),
    /// Goes back to the build in a device's other slot
    ///
    /// A device on trial restarts into its confirmed slot. Any other device restarts into its other slot, on trial:
    /// `cargo krazy confirm` keeps that build, otherwise the device returns by itself.
    Rollback(DeviceArgs),
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let (device, order) = match self {
            Args::Reboot(device) => (device, Order::Reboot),
            Args::Poweroff(device) => (device, Order::Poweroff),
            Args::Confirm(device) => (device, Order::Confirm),
            Args::Rollback(device) => (device, Order::Rollback),
        };
        order::give(&device.client()?, order, shell)
    }
}
