//! The subcommands.

use super::{
    bundle, certificate, confirm, discover, doctor, floor, get, image, inspect, kernel, logs, poweroff, ps,
    push, put, reboot, rollback, run_qemu, service, status, switch, token,
};
use crate::failure::Result;
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
    /// Updates running devices
    Push(push::Args),
    /// Makes a signed update bundle of an appliance
    Bundle(bundle::Args),
    /// Lists the devices that announce themselves in the local network
    Discover(discover::Args),
    /// Shows what a device runs, and in what condition it is
    Status(status::Args),
    /// Lists the services of a device
    Ps(ps::Args),
    /// Shows what a service wrote
    Logs(logs::Args),
    /// Starts, stops, restarts and signals the services of a device
    Service(service::Args),
    /// Copies a file from a device
    Get(get::Args),
    /// Copies a file to a device
    Put(put::Args),
    /// Restarts a device
    Reboot(reboot::Args),
    /// Switches a device off
    Poweroff(poweroff::Args),
    /// Keeps the build a device has on trial
    Confirm(confirm::Args),
    /// Goes back to the build in a device's other slot
    Rollback(rollback::Args),
    /// Makes a device try what its other slot holds
    Switch(switch::Args),
    /// Shows and sets the lowest version that a device takes as an update
    Floor(floor::Args),
    /// Adds, lists, exchanges and revokes the tokens of a device
    Token(token::Args),
    /// Shows and exchanges the certificate of a device
    Certificate(certificate::Args),
}

impl Command {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> Result<()> {
        match self {
            Command::Image(args) => Ok(args.exec(shell)?),
            Command::Inspect(args) => Ok(args.exec(shell)?),
            Command::Doctor(args) => Ok(args.exec(shell)?),
            Command::Kernel(args) => Ok(args.exec(shell)?),
            Command::RunQemu(args) => Ok(args.exec(shell)?),
            Command::Push(args) => Ok(args.exec(shell)?),
            Command::Bundle(args) => Ok(args.exec(shell)?),
            Command::Discover(args) => Ok(args.exec(shell)?),
            Command::Status(args) => Ok(args.exec(shell)?),
            Command::Ps(args) => Ok(args.exec(shell)?),
            Command::Logs(args) => Ok(args.exec(shell)?),
            Command::Service(args) => Ok(args.exec(shell)?),
            Command::Get(args) => Ok(args.exec(shell)?),
            Command::Put(args) => Ok(args.exec(shell)?),
            Command::Reboot(args) => Ok(args.exec(shell)?),
            Command::Poweroff(args) => Ok(args.exec(shell)?),
            Command::Confirm(args) => Ok(args.exec(shell)?),
            Command::Rollback(args) => Ok(args.exec(shell)?),
            Command::Switch(args) => Ok(args.exec(shell)?),
            Command::Floor(args) => Ok(args.exec(shell)?),
            Command::Token(args) => Ok(args.exec(shell)?),
            Command::Certificate(args) => Ok(args.exec(shell)?),
        }
    }
}
