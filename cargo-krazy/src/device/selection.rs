//! The device of a command, and the appliance whose credentials it accepts.

use std::path::Path;

use super::client::Client;
use super::credentials::Credentials;
use super::target::Target;
use crate::board::BOARDS;
use crate::config::{self, OwnFeatures, Request};
use crate::failure::{Exit, Failure};
use crate::provision;

/// The device of a command that talks to one.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// The device: an address, a name from hosts.toml, or `qemu` for the machine of `run-qemu`
    #[arg(value_name = "HOST[:PORT]")]
    host: String,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// The credentials of a device.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Credentials")]
pub(crate) struct CredentialArgs {
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
    /// A client for the device. Nothing is sent yet.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let state = provision::state_dir()?;
        let target = Target::find(&self.host, &state)?.located()?;
        let appliance = self.credentials.appliance(&target, &state)?;
        Client::new(&target, &appliance, &Credentials::find(&appliance, &state)?)
    }
}

impl CredentialArgs {
    /// The name of the appliance that `target` is.
    ///
    /// The command line takes precedence, then the host's entry, then the package of the working directory. Outside of
    /// packages, it is the only appliance on this machine.
    pub(crate) fn appliance(&self, target: &Target, state_dir: &Path) -> Result<String, Failure> {
        if let Some(name) = &self.appliance {
            return Ok(name.clone());
        }
        if self.package.is_none()
            && self.manifest.manifest_path.is_none()
            && let Some(name) = &target.appliance
        {
            return Ok(name.clone());
        }
        let explicit = self.package.is_some() || self.manifest.manifest_path.is_some();
        let failure = match config::load(&self.request()) {
            Ok(appliance) => return Ok(appliance.name),
            Err(failure) => failure,
        };
        match &appliances(state_dir)[..] {
            [only] if !explicit => Ok(only.clone()),
            _ if explicit => Err(failure),
            names => Err(Failure::new(
                Exit::Device,
                format!("whose credentials `{}` takes is not known: {failure}", target.name),
            )
            .help(match names {
                [] => {
                    "there are none on this machine: make an image first, or copy the appliance's directory \
                       from the machine that did"
                        .to_owned()
                }
                names => format!("give `--appliance` with one of: {}", names.join(", ")),
            })),
        }
    }

    fn request(&self) -> Request {
        Request {
            manifest_path: self.manifest.manifest_path.clone(),
            package: self.package.clone(),
            board: &BOARDS[0],
            features: OwnFeatures::default(),
            profile: None,
            disk: None,
            locked: false,
            offline: true,
        }
    }
}

/// Returns the appliances with a directory of secrets in `state_dir`, sorted.
fn appliances(state_dir: &Path) -> Vec<String> {
    // A directory that cannot be listed has none to offer.
    let entries = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().join("secrets").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appliance_of_the_command_line_takes_precedence_over_the_hosts() {
        let state = tempfile::tempdir().unwrap();
        let nowhere = state.path().join("Cargo.toml");
        let target = Target::find("x", state.path()).unwrap();
        let known = Target { appliance: Some("of-host".into()), ..target.clone() };
        let given = CredentialArgs { appliance: Some("given".into()), ..CredentialArgs::default() };
        assert_eq!(given.appliance(&known, state.path()).unwrap(), "given");
        assert_eq!(CredentialArgs::default().appliance(&known, state.path()).unwrap(), "of-host");
        let mut package = CredentialArgs::default();
        package.manifest.manifest_path = Some(nowhere);
        assert!(package.appliance(&known, state.path()).is_err(), "a package that was named is the one");
    }
}
