//! `cargo krazy floor`.

use cargo_metadata::semver::Version;
use krazy_boot::api::update::{Floor, UpdateStatus};
use reqwest::Method;
use serde::Serialize;

use crate::device::status::API;
use crate::device::{Client, DeviceArgs, DeviceError};
use crate::shell::{MessageFormat, Shell};

/// Shows and sets the lowest version that a device takes as an update
///
/// So that an old bundle, signed but with a hole that is known by now, cannot be brought back. `--force` does not get
/// past it: lower it first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy floor show kitchen
  cargo krazy floor set kitchen 1.4.0")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows it
    Show(DeviceArgs),
    /// Sets it
    Set(Set),
    /// Takes it away: every version is taken
    Clear(DeviceArgs),
}

#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    device: DeviceArgs,
    /// A semantic version, as in Cargo.toml
    #[arg(value_name = "VERSION")]
    version: Version,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    floor: Option<String>,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        match self.action {
            Action::Show(device) => show(&device.client()?, shell),
            Action::Set(args) => set(&args.device.client()?, Some(args.version.to_string()), shell),
            Action::Clear(device) => set(&device.client()?, None, shell),
        }
    }
}

fn show(client: &Client, shell: Shell) -> anyhow::Result<()> {
    let status: UpdateStatus = client.get(&format!("{API}/update")).map_err(DeviceError::into_failure)?;
    if shell.format() == MessageFormat::Json {
        return shell.message(&Message {
            reason: "version-floor",
            host: client.device(),
            floor: status.floor,
        });
    }
    shell.output(format!("{}\n", status.floor.as_deref().unwrap_or("none")))
}

fn set(client: &Client, version: Option<String>, shell: Shell) -> anyhow::Result<()> {
    let floor = Floor { version };
    let body = serde_json::to_vec(&floor)?;
    let path = format!("{API}/update/floor");
    client.order(Method::PUT, &path, Some(body)).map_err(DeviceError::into_failure)?;
    let host = client.device();
    match &floor.version {
        Some(version) => shell.status("Set", format!("`{host}` takes version {version} and newer ones")),
        None => shell.status("Cleared", format!("`{host}` takes every version")),
    }
    shell.message(&Message { reason: "version-floor", host, floor: floor.version })
}
