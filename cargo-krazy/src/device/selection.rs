//! The device of a command, and the appliance whose credentials it accepts.

use std::path::{Path, PathBuf};

use super::client::Client;
use super::credentials::Credentials;
use super::target::Target;
use crate::board::BOARDS;
use crate::config::{self, OwnFeatures, Request};
use crate::failure::{Exit, Explain, Failure, Result};
use crate::provision;

/// The device of a command that talks to one, and the choice of its appliance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The device: an address, or a name.
    pub(crate) host: String,
    /// The appliance that it is.
    pub(crate) appliance: Option<String>,
    /// The package whose appliance it is.
    pub(crate) package: Option<String>,
    /// That package's Cargo.toml.
    pub(crate) manifest_path: Option<PathBuf>,
}

/// A device whose appliance is not known.
#[derive(Debug, thiserror::Error)]
#[error("whose credentials `{device}` takes is not known: {failure}")]
struct UnknownAppliance {
    device: String,
    /// The reason for which the package does not tell.
    failure: Failure,
    /// The appliances on this machine.
    known: Vec<String>,
}

impl Explain for UnknownAppliance {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(match &self.known[..] {
            [] => "there are none on this machine: make an image first, or copy the appliance's directory from the \
                   machine that did"
                .to_owned(),
            names => format!("give `--appliance` with one of: {}", names.join(", ")),
        })
    }
}

impl Selection {
    /// Returns a client for the device. Nothing is sent yet.
    pub(crate) fn client(&self) -> Result<Client> {
        let state = provision::state_dir()?;
        let target = Target::find(&self.host, &state)?;
        let appliance = self.appliance(&target, &state)?;
        Client::new(&target, &appliance, &Credentials::find(&appliance, &state)?)
    }

    /// Returns the name of the appliance that `target` is.
    ///
    /// The command line takes precedence, then the host's entry, then the package of the working directory. Outside of
    /// packages, it is the only appliance on this machine.
    fn appliance(&self, target: &Target, state_dir: &Path) -> Result<String> {
        if let Some(name) = &self.appliance {
            return Ok(name.clone());
        }
        let explicit = self.package.is_some() || self.manifest_path.is_some();
        if !explicit && let Some(name) = &target.appliance {
            return Ok(name.clone());
        }
        let failure = match config::load(&self.request()) {
            Ok(appliance) => return Ok(appliance.name),
            Err(failure) if explicit => return Err(failure),
            Err(failure) => failure,
        };
        let mut known = appliances(state_dir);
        match known.len() {
            1 => Ok(known.remove(0)),
            _ => Err(UnknownAppliance { device: target.name.clone(), failure, known }.into()),
        }
    }

    fn request(&self) -> Request {
        Request {
            manifest_path: self.manifest_path.clone(),
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
        let given = Selection { appliance: Some("given".into()), ..Selection::default() };
        assert_eq!(given.appliance(&known, state.path()).unwrap(), "given");
        assert_eq!(Selection::default().appliance(&known, state.path()).unwrap(), "of-host");
        let package = Selection { manifest_path: Some(nowhere), ..Selection::default() };
        assert!(package.appliance(&known, state.path()).is_err(), "a package that was named is the one");
    }
}
