//! Tokens that an interrupted exchange of a device's identity may leave on it, kept until they are revoked.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{DeviceId, Secrets, store};

/// The file among the appliance's secrets.
const FILE: &str = "pending-identities.toml";

/// The work that is left once it is known whether a device took a new identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The name of the new token, to be revoked if the device did not.
    pub(crate) added: String,
    /// The names of earlier tokens, to be revoked if it did.
    pub(crate) earlier: Vec<String>,
}

impl Secrets {
    /// The work that is left, by the new id.
    pub(crate) fn pending(&self) -> anyhow::Result<BTreeMap<DeviceId, Pending>> {
        read(&self.directory)
    }

    /// Keeps what is left to do when the identity `id` is exchanged.
    pub(crate) fn begin_identity(&self, id: DeviceId, pending: Pending) -> anyhow::Result<()> {
        self.edit(|all| drop(all.insert(id, pending)))
    }

    /// Nothing is left to do for the identity `id`.
    pub(crate) fn finish_identity(&self, id: DeviceId) -> anyhow::Result<()> {
        self.edit(|all| drop(all.remove(&id)))
    }

    fn edit(&self, change: impl FnOnce(&mut BTreeMap<DeviceId, Pending>)) -> anyhow::Result<()> {
        let directory = &self.directory;
        let edit = || -> anyhow::Result<()> {
            let _exclusive = store::lock(directory, FlockOperation::LockExclusive)?;
            let mut all = read(directory)?;
            change(&mut all);
            store::write_file(&directory.join(FILE), &toml::to_string(&all)?)
        };
        edit().with_context(|| format!("failed to keep the state of an exchange in {}", directory.display()))
    }
}

fn read(directory: &Path) -> anyhow::Result<BTreeMap<DeviceId, Pending>> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    toml::from_str(&store::read_file(&path)?).with_context(|| format!("{} is damaged", path.display()))
}

#[cfg(test)]
mod tests {
    use krazy_boot::digest::Hex;

    use super::*;
    use crate::provision::provision;

    #[test]
    fn exchanges_are_kept_until_they_are_finished() {
        let state = tempfile::tempdir().unwrap();
        let secrets = provision("weather", state.path()).unwrap();
        assert!(secrets.pending().unwrap().is_empty());
        let pending = |earlier: &[&str]| Pending {
            added: "device-01010101".to_owned(),
            earlier: earlier.iter().map(|&name| name.to_owned()).collect(),
        };
        secrets.begin_identity(Hex([1; 16]), pending(&["admin", "admin-2"])).unwrap();
        secrets.begin_identity(Hex([2; 16]), pending(&[])).unwrap();
        secrets.finish_identity(Hex([3; 16])).unwrap();
        secrets.finish_identity(Hex([2; 16])).unwrap();
        let left = provision("weather", state.path()).unwrap().pending().unwrap();
        assert_eq!(left, BTreeMap::from([(Hex([1; 16]), pending(&["admin", "admin-2"]))]));
    }
}
