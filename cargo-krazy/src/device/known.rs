//! Devices by name that have shown an id: whoever takes one of them apart must not pass for another one.
//!
//! `devices.toml` in the appliance's directory has the id of each, and the next one while it is exchanged. Addresses are not
//! among them, because they move, names in `.local` neither, because two devices of an appliance may exchange theirs, nor
//! machines of `run-qemu`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::hosts::Address;
use super::{discovery, machines};
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
            "no token was sent. If its disk or the device itself was replaced, or its credentials were exchanged from \
             another machine, remove the line of `{device}` from {}; otherwise another device of the appliance \
             answers at its address",
            file.display()
        ))
    }
}

/// Fails if the device called `name` had another id. Remembers one that is new. `directory` is the appliance's.
pub(super) fn check(directory: &Path, name: &str, id: Option<DeviceId>) -> Result<(), Failure> {
    if !is_remembered(name) {
        return Ok(());
    }
    let devices = read(directory)?;
    let expected = devices.get(name).map_or(&[][..], Vec::as_slice);
    match (expected, id) {
        ([], None) => Ok(()),
        ([], Some(id)) => {
            // A directory that cannot be written, such as that of a container, is no reason not to use the device.
            let _not_remembered =
                edit(directory, |devices| devices.entry(name.to_owned()).or_default().push(id));
            Ok(())
        }
        (ids, Some(id)) if ids.contains(&id) => Ok(()),
        ([expected, ..], found) => {
            let (device, file) = (name.to_owned(), directory.join(FILE));
            Err(OtherDevice { device, expected: *expected, found, file }.into())
        }
    }
}

/// Remembers that the device called `name` may have the id `id` soon. One that has no id yet may also get none.
pub(super) fn expect(directory: &Path, name: &str, id: DeviceId) -> Result<(), Failure> {
    if !is_remembered(name) {
        return Ok(());
    }
    edit(directory, |devices| {
        if let Some(ids) = devices.get_mut(name) {
            ids.push(id);
        }
    })
}

/// Remembers that the device called `name` has the id `id` from now on, and not `earlier`, which it may have under other
/// names.
pub(super) fn remember(
    directory: &Path,
    name: &str,
    earlier: Option<DeviceId>,
    id: DeviceId,
) -> Result<(), Failure> {
    edit(directory, |devices| {
        for ids in devices.values_mut().filter(|ids| earlier.is_some_and(|earlier| ids.contains(&earlier))) {
            *ids = vec![id];
        }
        if is_remembered(name) {
            devices.insert(name.to_owned(), vec![id]);
        }
    })
}

/// Changes what is remembered. Several devices are asked at once.
fn edit(directory: &Path, change: impl FnOnce(&mut BTreeMap<String, Vec<DeviceId>>)) -> Result<(), Failure> {
    let lock = || -> io::Result<File> {
        let handle = File::open(directory)?;
        flock(&handle, FlockOperation::LockExclusive)?;
        Ok(handle)
    };
    let _exclusive = lock().map_err(|error| not_remembered(directory, &error.into()))?;
    let mut devices = read(directory)?;
    let before = devices.clone();
    change(&mut devices);
    if devices == before {
        return Ok(());
    }
    write(directory, &devices).map_err(|error| not_remembered(directory, &error))
}

fn is_remembered(name: &str) -> bool {
    let moves = |host: &str| {
        let ip = host.split('%').next().unwrap_or(host);
        host == "localhost" || discovery::is_local(host) || ip.parse::<IpAddr>().is_ok()
    };
    !machines::is_name(name) && !name.parse::<Address>().is_ok_and(|address| moves(&address.host))
}

fn read(directory: &Path) -> Result<BTreeMap<String, Vec<DeviceId>>, Failure> {
    let path = directory.join(FILE);
    let failed = |why: String| Failure::from(anyhow::anyhow!("failed to read {}: {why}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn write(directory: &Path, devices: &BTreeMap<String, Vec<DeviceId>>) -> anyhow::Result<()> {
    let scratch = Scratch::in_directory(directory)?;
    scratch.as_file().write_all(toml::to_string(devices)?.as_bytes())?;
    scratch.as_file().sync_all()?;
    Ok(scratch.persist(&directory.join(FILE))?)
}

fn not_remembered(directory: &Path, error: &anyhow::Error) -> Failure {
    let path = directory.join(FILE);
    anyhow::anyhow!("failed to remember the device in {}: {error:#}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use krazy_boot::digest::Hex;

    use super::*;

    #[test]
    fn device_that_took_the_place_of_another_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name, id: Option<u8>| super::check(dir.path(), name, id.map(|byte| Hex([byte; 16])));
        for name in ["kitchen", "kitchen.example.org:443"] {
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
    fn both_ids_are_expected_while_one_is_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let id = |byte| Hex([byte; 16]);
        let check = |found: Option<u8>| super::check(dir.path(), "kitchen", found.map(id));
        // One that has none yet may keep what it has.
        expect(dir.path(), "kitchen", id(1)).unwrap();
        check(None).unwrap();
        check(Some(1)).unwrap();
        expect(dir.path(), "kitchen", id(2)).unwrap();
        check(Some(1)).unwrap();
        check(Some(2)).unwrap();
        remember(dir.path(), "kitchen", Some(id(1)), id(2)).unwrap();
        check(Some(2)).unwrap();
        check(Some(1)).unwrap_err();
        check(None).unwrap_err();
    }

    #[test]
    fn devices_that_are_asked_at_once_are_all_remembered() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for byte in 0..16 {
                let directory = dir.path();
                scope
                    .spawn(move || check(directory, &format!("host-{byte}"), Some(Hex([byte; 16]))).unwrap());
            }
        });
        assert_eq!(read(dir.path()).unwrap().len(), 16);
    }

    #[test]
    fn addresses_and_machines_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "10.0.0.5",
            "10.0.0.5:99",
            "[fe80::1]:8443",
            "::1",
            "qemu",
            "qemu-2",
            "a.local",
            "localhost:99",
            "fe80::1%eth0",
        ] {
            for byte in [1, 2] {
                check(dir.path(), name, Some(Hex([byte; 16]))).unwrap();
            }
        }
        assert!(!dir.path().join(FILE).exists());
    }
}
