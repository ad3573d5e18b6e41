//! A device that a user named: an entry of hosts.toml, a running machine, or an address.

use std::path::{Path, PathBuf};

use super::hosts::{self, Address, AddressError};
use super::machines;
use crate::failure::{Exit, Explain, Result};

/// A device before its first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The name on the command line.
    pub(crate) name: String,
    /// The address.
    pub(crate) address: Address,
    /// The appliance whose credentials it accepts, if its entry names one.
    pub(crate) appliance: Option<String>,
}

/// A name that stands for no device.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("no machine of `run-qemu` is running as `{0}`")]
    NoMachine(String),
    #[error("{error}")]
    Address { error: AddressError, hosts: PathBuf },
}

impl Explain for TargetError {
    fn exit(&self) -> Exit {
        match self {
            TargetError::NoMachine(_) => Exit::Device,
            TargetError::Address { .. } => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            TargetError::NoMachine(_) => "start one with `cargo krazy run-qemu`".to_owned(),
            TargetError::Address { hosts, .. } => format!("the names of devices are in {}", hosts.display()),
        })
    }
}

impl Target {
    /// Finds the device that `text` names: an entry of hosts.toml, a running machine, or an address.
    pub(crate) fn find(text: &str, state_dir: &Path) -> Result<Self> {
        let target = |address, appliance| Target { name: text.to_owned(), address, appliance };
        if let Some(host) = hosts::read(state_dir)?.remove(text) {
            return Ok(target(host.address, host.appliance));
        }
        if machines::is_name(text) {
            let host = machines::find(state_dir, text);
            let host = host.ok_or_else(|| TargetError::NoMachine(text.to_owned()))?;
            return Ok(target(host.address, host.appliance));
        }
        let address = text
            .parse()
            .map_err(|error| TargetError::Address { error, hosts: state_dir.join(hosts::FILE) })?;
        Ok(target(address, None))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::device::hosts::Host;

    #[test]
    fn names_take_precedence_over_addresses() {
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
}
