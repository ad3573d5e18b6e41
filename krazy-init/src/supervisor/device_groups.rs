//! Device nodes that services may use without being root. A node belongs to the group of the first pattern it matches,
//! and the services that name this pattern are in that group: several services can share a device that way, and a
//! device may come long after them.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown};
use std::path::Path;

use super::accounts::FIRST_DEVICE_GID;
use crate::linux::modules::matches;

/// The directory of device nodes.
const DEV: &str = "/dev";

/// The depth of directories in `/dev` that is searched; the kernel creates fewer levels.
const MAX_DEPTH: u32 = 4;

/// Read and write for owner and group.
const NODE_MODE: u32 = 0o660;

/// All patterns of an appliance, sorted; the position is the group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceGroups(Vec<String>);

impl DeviceGroups {
    /// The groups for these patterns, such as `/dev/ttyUSB*`.
    pub(super) fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        DeviceGroups(BTreeSet::from_iter(patterns).into_iter().collect())
    }

    /// The groups of a service that names `patterns`.
    pub(super) fn of(&self, patterns: &[String]) -> impl Iterator<Item = u32> {
        let position = |pattern: &String| self.0.iter().position(|known| known == pattern);
        patterns.iter().filter_map(position).map(group)
    }

    /// Hands over the nodes that exist. Returns the problems.
    pub(super) fn apply(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.0.is_empty() {
            self.walk(Path::new(DEV), 0, &mut problems);
        }
        problems
    }

    /// Hands over `node` if it matches a pattern. A file that is no device is left alone.
    pub(super) fn apply_to(&self, node: &Path) -> io::Result<()> {
        let Some(position) = self.0.iter().position(|pattern| matches(pattern, &node.to_string_lossy()))
        else {
            return Ok(());
        };
        let metadata = fs::symlink_metadata(node)?;
        if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
            lchown(node, Some(0), Some(group(position)))?;
            fs::set_permissions(
                node,
                Permissions::from_mode(metadata.permissions().mode() & 0o7777 | NODE_MODE),
            )?;
        }
        Ok(())
    }

    fn walk(&self, directory: &Path, depth: u32, problems: &mut Vec<String>) {
        // A directory that cannot be listed is gone, as devices are unplugged.
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < MAX_DEPTH {
                    self.walk(&path, depth + 1, problems);
                }
            } else if let Err(error) = self.apply_to(&path) {
                problems.push(format!("{} cannot be handed over: {error}", path.display()));
            }
        }
    }
}

fn group(position: usize) -> u32 {
    FIRST_DEVICE_GID + position as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_name_one_pattern_share_its_group() {
        let [usb, i2c] = ["/dev/ttyUSB*", "/dev/i2c-1"].map(str::to_owned);
        let groups = DeviceGroups::new([usb.clone(), i2c.clone(), i2c.clone()]);
        assert_eq!(groups.of(std::slice::from_ref(&i2c)).collect::<Vec<_>>(), [FIRST_DEVICE_GID]);
        assert_eq!(groups.of(&[usb, i2c]).collect::<Vec<_>>(), [FIRST_DEVICE_GID + 1, FIRST_DEVICE_GID]);
    }

    #[test]
    fn only_devices_are_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let groups = DeviceGroups::new([format!("{}/*", dir.path().display())]);
        groups.apply_to(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(groups.apply_to(&dir.path().join("gone")).is_err());
        groups.apply_to(Path::new("/dev/null")).unwrap();
    }
}
