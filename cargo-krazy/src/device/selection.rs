//! Which device is meant, and whose credentials it takes.

use std::path::{Path, PathBuf};

use super::client::Client;
use super::credentials::Credentials;
use super::discovery;
use super::hosts::{self, Address};
use super::machines;
use crate::board::BOARDS;
use crate::config::{self, OwnFeatures, Request};
use crate::failure::{Exit, Failure};
use crate::provision;

/// The device of a command that talks to one.
#[derive(Debug, clap::Args)]
pub struct DeviceArgs {
    /// The device: an address, a name from hosts.toml, or `qemu` for the machine of `run-qemu`
    #[arg(value_name = "HOST[:PORT]")]
    host: String,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// Whose credentials a device takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Credentials")]
pub struct CredentialArgs {
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

/// A device, found but not yet asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it stands on the command line.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// Whose credentials it takes, if its name says so.
    pub appliance: Option<String>,
}

impl DeviceArgs {
    /// A client for the device. Nothing is sent yet.
    pub fn client(&self) -> anyhow::Result<Client> {
        let state = provision::state_dir()?;
        let target = Target::find(&self.host, &state)?.located()?;
        let appliance = self.credentials.appliance(&target, &state)?;
        Client::new(&target, &appliance, &Credentials::find(&appliance, &state)?)
    }
}

impl CredentialArgs {
    /// The name of the appliance that `target` is.
    ///
    /// What stands on the command line counts most, then the host's entry, then the package of the working
    /// directory. Outside of packages, it is the only appliance there is.
    pub fn appliance(&self, target: &Target, state_dir: &Path) -> Result<String, Failure> {
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
                [] => "there are none on this machine: make an image first, or copy the appliance's folder \
                       from the machine that did"
                    .to_owned(),
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

/// Appliances with a folder of secrets in `state_dir`, sorted.
fn appliances(state_dir: &Path) -> Vec<String> {
    // A folder that cannot be listed has none to offer.
    let entries = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().join("secrets").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

impl Target {
    /// The device that `text` names: an entry of hosts.toml, a running machine, or an address.
    pub fn find(text: &str, state_dir: &Path) -> Result<Self, Failure> {
        let target = |address, appliance| Target { name: text.to_owned(), address, appliance };
        if let Some(host) = hosts::read(state_dir)?.remove(text) {
            return Ok(target(host.address, host.appliance));
        }
        if machines::is_name(text) {
            let host = machines::find(state_dir, text).ok_or_else(|| {
                Failure::new(Exit::Device, format!("no machine of `run-qemu` is running as `{text}`"))
                    .help("start one with `cargo krazy run-qemu`")
            })?;
            return Ok(target(host.address, host.appliance));
        }
        let address = text.parse().map_err(|error: String| {
            let file: PathBuf = state_dir.join(hosts::FILE);
            Failure::new(Exit::Usage, error).help(format!("names of devices stand in {}", file.display()))
        })?;
        Ok(target(address, None))
    }

    /// The same with an IP address in the place of a name in `.local`.
    pub fn located(self) -> anyhow::Result<Self> {
        Ok(Target { address: discovery::resolve(self.address)?, ..self })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::device::hosts::Host;

    #[test]
    fn names_come_before_addresses() {
        let state = tempfile::tempdir().unwrap();
        let find = |text: &str| Target::find(text, state.path());
        assert_eq!(find("attic").unwrap().address.to_string(), "attic:8443");
        fs::write(state.path().join(hosts::FILE), "[attic]\naddress = \"::1\"\nappliance = \"a\"\n").unwrap();
        let attic = find("attic").unwrap();
        assert_eq!(
            (attic.address.to_string().as_str(), attic.appliance.as_deref()),
            ("[::1]:8443", Some("a"))
        );
        assert_eq!(find("qemu").unwrap_err().to_string(), "no machine of `run-qemu` is running as `qemu`");
        let address = "127.0.0.1:1234".parse().unwrap();
        let host = Host { address, appliance: Some("hello".into()) };
        let _registered = machines::register(state.path(), host).unwrap();
        assert_eq!(find("qemu").unwrap().address.port, 1234);
        assert!(find("a/b").unwrap_err().to_string().contains("not an address"));
    }

    #[test]
    fn the_command_line_beats_the_host_and_the_only_appliance_is_taken() {
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
