//! Device nodes that services may use without being root. A node belongs to the group of the first pattern it matches,
//! and the services that name this pattern are in that group: several services can share a device that way, and a
//! device may come long after them. The names of a node are its own and those of its links in `/dev/serial`. The same
//! holds for files in `/sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use krazy_boot::manifest::accounts::FIRST_DEVICE_GID;

use crate::linux::modules::matches;
use crate::linux::serial_links;
use crate::linux::sysfs_files;

/// The directory of device nodes.
const DEV: &str = "/dev";

/// The directory of the kernel's devices and their attributes.
const SYS: &str = "/sys";

/// The depth of directories in `/dev` that is searched; the kernel creates fewer levels.
const MAX_DEPTH: u32 = 4;

/// Read and write for owner and group.
const NODE_MODE: u32 = 0o660;

/// All patterns of an appliance, sorted; the position is the group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceGroups(Vec<String>);

impl DeviceGroups {
    /// The groups for these patterns, such as `/dev/ttyUSB*` and `/sys/class/leds/*/brightness`.
    pub(super) fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        DeviceGroups(BTreeSet::from_iter(patterns).into_iter().collect())
    }

    /// The groups of a service that names `patterns`.
    pub(super) fn of(&self, patterns: &[String]) -> impl Iterator<Item = u32> {
        let position = |pattern: &String| self.0.iter().position(|known| known == pattern);
        patterns.iter().filter_map(position).map(group)
    }

    /// Hands over the nodes and files that exist. Returns the problems.
    pub(super) fn apply(&self) -> Vec<String> {
        let mut problems = self.apply_to_files(Path::new(SYS), None);
        if !self.0.is_empty() {
            walk(Path::new(DEV), 0, &mut |path| {
                if let Err(error) = self.apply_to(path) {
                    problems.push(format!("{} cannot be handed over: {error}", path.display()));
                }
            });
        }
        problems
    }

    /// Hands over `node` if it matches a pattern. A file that is no device is left alone.
    pub(super) fn apply_to(&self, node: &Path) -> io::Result<()> {
        let names = names(node, &self.0);
        let Some(position) =
            self.0.iter().position(|pattern| names.iter().any(|name| matches(pattern, name)))
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

    /// Hands over the files of one device, named by its subsystem and its name there, or of all devices. Returns the
    /// problems.
    pub(super) fn apply_to_files(&self, sysfs: &Path, device: Option<(&str, &str)>) -> Vec<String> {
        let mut files = BTreeMap::new();
        for (position, pattern) in self.0.iter().enumerate() {
            let Some(pattern) = pattern.strip_prefix(SYS).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            for file in sysfs_files::matching(sysfs, pattern, device) {
                files.entry(file).or_insert(position);
            }
        }
        let failure = |(file, position): (PathBuf, usize)| match hand_over_file(&file, group(position)) {
            // A file of a device that is gone already.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Some(format!("{} cannot be handed over: {error}", file.display()))
            }
            _ => None,
        };
        files.into_iter().filter_map(failure).collect()
    }
}

/// Calls `each` with everything below `directory` that is no directory.
pub(super) fn walk(directory: &Path, depth: u32, each: &mut dyn FnMut(&Path)) {
    // A directory that cannot be listed is gone, as devices are unplugged.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each(&path);
        } else if depth < MAX_DEPTH {
            walk(&path, depth + 1, each);
        }
    }
}

/// Returns the names of `node` by which `patterns` may mean it: its own, and those of its links if any pattern means these.
pub(super) fn names(node: &Path, patterns: &[String]) -> Vec<String> {
    let mut names = vec![node.to_string_lossy().into_owned()];
    if let Ok(name) = node.strip_prefix(DEV)
        && patterns.iter().any(|pattern| pattern.starts_with("/dev/serial/"))
    {
        let links = serial_links::names(Path::new(serial_links::SYSFS), &name.to_string_lossy());
        names.extend(links.into_iter().map(|link| format!("{DEV}/{link}")));
    }
    names
}

/// Gives `group` the rights that root has to `file`. A file that root cannot write is left alone.
fn hand_over_file(file: &Path, group: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(file)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let wanted = mode | (mode & 0o600) >> 3;
    if mode & 0o200 == 0 || (metadata.gid(), mode) == (group, wanted) {
        return Ok(());
    }
    lchown(file, None, Some(group))?;
    fs::set_permissions(file, Permissions::from_mode(wanted))
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
    fn writable_files_of_sysfs_belong_to_the_group_of_the_first_pattern() {
        // Only root can give files away.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let led = dir.path().join("class/leds/red");
        fs::create_dir_all(&led).unwrap();
        for (name, mode) in [("brightness", 0o644), ("max_brightness", 0o444), ("reset", 0o200)] {
            fs::write(led.join(name), "").unwrap();
            fs::set_permissions(led.join(name), Permissions::from_mode(mode)).unwrap();
        }
        let patterns = ["/dev/i2c-1", "/sys/class/leds/*/*", "/sys/class/leds/red/brightness"];
        let groups = DeviceGroups::new(patterns.map(str::to_owned));
        let owned = |name: &str| {
            let metadata = fs::metadata(led.join(name)).unwrap();
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
        };
        assert_eq!(groups.apply_to_files(dir.path(), Some(("leds", "green"))), [""; 0]);
        assert_eq!(owned("brightness"), (0, 0, 0o644));
        for _ in 0..2 {
            assert_eq!(groups.apply_to_files(dir.path(), Some(("leds", "red"))), [""; 0]);
            assert_eq!(owned("brightness"), (0, FIRST_DEVICE_GID + 1, 0o664));
            assert_eq!(owned("max_brightness"), (0, 0, 0o444));
            assert_eq!(owned("reset"), (0, FIRST_DEVICE_GID + 1, 0o220));
        }
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
