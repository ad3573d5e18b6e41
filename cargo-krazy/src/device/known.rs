//! Devices by name that have shown an id: whoever takes one of them apart must not pass for another one.
//!
//! `devices.toml` in the appliance's directory has the id of each. A name that is an address is not among them, because
//! addresses move, and neither is a machine of `run-qemu`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::hosts::Address;
use super::machines;
use crate::failure::{Exit, Explain, Failure};
use crate::output::Scratch;
use crate::provision::DeviceId;

/// The file in the appliance's directory.
const FILE: &str = "devices.toml";

/// A device that is not the one which had its name.
#[derive(Debug, thiserror::Error)]
#[error("`{device}` is not the device that it was: it has {}, not the id {expected}", described(*.found))]
struct OtherDevice {
    device: String,
    expected: DeviceId,
    found: Option<DeviceId>,
    file: PathBuf,
}

fn described(id: Option<DeviceId>) -> String {
    id.map_or_else(|| "the certificate that new images share".to_owned(), |id| format!("the id {id}"))
}

impl Explain for OtherDevice {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        let OtherDevice { device, file, .. } = self;
        Some(format!(
            "nothing was sent. If its disk or the device itself was replaced, remove the line of `{device}` from {}; \
             otherwise another device of the appliance answers at its address",
            file.display()
        ))
    }
}

/// Fails if the device called `name` had another id. Remembers one that is new. `directory` is the appliance's.
pub(super) fn check(directory: &Path, name: &str, id: Option<DeviceId>) -> Result<(), Failure> {
    if !is_remembered(name) {
        return Ok(());
    }
    match (read(directory)?.get(name).copied(), id) {
        (Some(expected), found) if found != Some(expected) => {
            let (device, file) = (name.to_owned(), directory.join(FILE));
            Err(OtherDevice { device, expected, found, file }.into())
        }
        (None, Some(id)) => remember(directory, name, id),
        _ => Ok(()),
    }
}

/// Remembers that the device called `name` has the id `id` from now on.
pub(super) fn remember(directory: &Path, name: &str, id: DeviceId) -> Result<(), Failure> {
    if !is_remembered(name) {
        return Ok(());
    }
    let mut devices = read(directory)?;
    devices.insert(name.to_owned(), id);
    write(directory, &devices)
}

fn is_remembered(name: &str) -> bool {
    let address = name.parse::<Address>();
    !machines::is_name(name) && !address.is_ok_and(|address| address.host.parse::<IpAddr>().is_ok())
}

fn read(directory: &Path) -> Result<BTreeMap<String, DeviceId>, Failure> {
    let path = directory.join(FILE);
    let failed = |why: String| Failure::from(anyhow::anyhow!("failed to read {}: {why}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn write(directory: &Path, devices: &BTreeMap<String, DeviceId>) -> Result<(), Failure> {
    let path = directory.join(FILE);
    let store = || -> anyhow::Result<()> {
        let scratch = Scratch::in_directory(directory)?;
        scratch.as_file().write_all(toml::to_string(devices)?.as_bytes())?;
        scratch.as_file().sync_all()?;
        Ok(scratch.persist(&path)?)
    };
    store().map_err(|error| {
        Failure::from(anyhow::anyhow!("failed to remember the device in {}: {error:#}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use krazy_boot::digest::Hex;

    use super::*;

    #[test]
    fn device_that_took_the_place_of_another_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name, id: Option<u8>| super::check(dir.path(), name, id.map(|byte| Hex([byte; 16])));
        for name in ["kitchen", "kitchen.local:443"] {
            check(name, None).unwrap();
            check(name, Some(1)).unwrap();
            check(name, Some(1)).unwrap();
            for other in [None, Some(2)] {
                let error = check(name, other).unwrap_err();
                assert!(error.to_string().starts_with(&format!("`{name}` is not the device that it was")));
                assert!(error.next_step().unwrap().contains("devices.toml"), "{error:?}");
            }
        }
        check("cellar", Some(2)).unwrap();
    }

    #[test]
    fn addresses_and_machines_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10.0.0.5", "10.0.0.5:99", "[fe80::1]:8443", "::1", "qemu", "qemu-2"] {
            for byte in [1, 2] {
                check(dir.path(), name, Some(Hex([byte; 16]))).unwrap();
            }
        }
        assert!(!dir.path().join(FILE).exists());
    }
}
