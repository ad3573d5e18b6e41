//! Options of the commands that talk to one device.

use crate::device::{Client, Selection};
use crate::failure::Result;

/// The device of a command that talks to one.
#[derive(Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// The device: an address, a name from hosts.toml, or `qemu` for the machine of `run-qemu`
    #[arg(value_name = "HOST[:PORT]")]
    host: String,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// The credentials of a device.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Credentials")]
struct CredentialArgs {
    /// The appliance the device is [default: that of hosts.toml, else of the package]
    ///
    /// Its certificate must be the device's. Its token is sent, unless the environment variable KRAZY_TOKEN holds
    /// another one.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["package", "PATH"])]
    appliance: Option<String>,
    /// The package whose appliance the device is [default: that of the working directory]
    #[arg(short, long, value_name = "SPEC")]
    package: Option<String>,
    #[command(flatten)]
    manifest: clap_cargo::Manifest,
}

impl DeviceArgs {
    /// Returns a client for the device. Nothing is sent yet.
    pub(super) fn client(self) -> Result<Client> {
        let CredentialArgs { appliance, package, manifest } = self.credentials;
        let manifest_path = manifest.manifest_path;
        Selection { host: self.host, appliance, package, manifest_path }.client()
    }
}
