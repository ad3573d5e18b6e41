//! The `/dev` of each service that is not root: a directory in `/run/krazy`, which is mounted there in the namespace of the
//! service. It has the devices that every program may use, and copies of the nodes that the service may use, with the
//! same rights. A device that is plugged in later is added here, and so appears in the running service.
//! Source: Linux `Documentation/admin-guide/devices.txt`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, makedev, mknodat};

use super::device_groups::{names, walk};
use crate::linux::modules::matches;
use crate::linux::mounts;
use crate::linux::serial_links;

/// The directory of device nodes.
const DEV: &str = "/dev";

/// The parent of all directories, which only root can enter.
const TOP: &str = "/run/krazy/dev";

/// The directory of the services that were granted no devices. No service can have this name.
const COMMON: &str = ".common";

/// Devices of every program: name, major and minor number.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Mount points in each.
const MOUNT_POINTS: [&str; 2] = ["pts", "shm"];

/// The services with a `/dev` of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceDirectories {
    top: PathBuf,
    /// True if there is a service that was granted none.
    has_common: bool,
    /// Names of others, and the patterns of the nodes that each may use.
    services: Vec<(String, Vec<String>)>,
}

impl Default for DeviceDirectories {
    fn default() -> Self {
        DeviceDirectories { top: TOP.into(), has_common: false, services: Vec::new() }
    }
}

/// Returns the directory of the service `name`, which may use the nodes that match `patterns`.
pub(super) fn of(name: &str, patterns: &[String]) -> PathBuf {
    Path::new(TOP).join(if patterns.is_empty() { COMMON } else { name })
}

impl DeviceDirectories {
    /// Adds the service `name`, which may use the nodes that match `patterns`.
    pub(super) fn add_service(&mut self, name: &str, patterns: &[String]) {
        if patterns.is_empty() {
            self.has_common = true;
        } else {
            self.services.push((name.to_owned(), patterns.to_vec()));
        }
    }

    /// Makes the directories, with the nodes that exist. Returns the problems.
    pub(super) fn fill(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.services.is_empty() && !self.has_common {
            return problems;
        }
        if let Err(error) = make_directory(&self.top, 0o700) {
            return vec![format!("{}: {error}", self.top.display())];
        }
        let common = self.has_common.then_some(COMMON);
        for name in self.services.iter().map(|(name, _)| name.as_str()).chain(common) {
            if let Err(error) = make_common(&self.top.join(name)) {
                problems.push(format!("service {name} has no /dev: {error}"));
            }
        }
        if !self.services.is_empty() {
            walk(Path::new(DEV), 0, &mut |path| {
                if let Ok(name) = path.strip_prefix(DEV)
                    && let Err(error) = self.added(&name.to_string_lossy())
                    && error.kind() != io::ErrorKind::NotFound
                {
                    problems.push(format!("{} is not in the /dev of services: {error}", path.display()));
                }
            });
        }
        problems
    }

    /// Copies the node `name`, below `/dev`, for the services that may use it. A file that is no device is left alone.
    pub(super) fn added(&self, name: &str) -> io::Result<()> {
        let node = Path::new(DEV).join(name);
        for (service, patterns) in &self.services {
            let names = names(&node, patterns);
            if !patterns.iter().any(|pattern| names.iter().any(|name| matches(pattern, name))) {
                continue;
            }
            let directory = self.top.join(service);
            if copy(&node, &directory.join(name))? && serial_links::is_usb_line(name) {
                serial_links::create(Path::new(serial_links::SYSFS), &directory, name)?;
            }
        }
        Ok(())
    }

    /// Removes the copies of the node `name`, whose device is gone.
    pub(super) fn removed(&self, name: &str) {
        for (service, _) in &self.services {
            let directory = self.top.join(service);
            // Most services have no copy.
            if fs::remove_file(directory.join(name)).is_ok() && serial_links::is_usb_line(name) {
                // Links that are left lead nowhere.
                let _kept = serial_links::remove_all(Path::new(serial_links::SYSFS), &directory, name);
            }
        }
    }
}

/// Makes a `/dev` with the devices of every program.
fn make_common(directory: &Path) -> io::Result<()> {
    make_directory(directory, 0o755)?;
    for (name, major, minor) in NODES {
        make_node(&directory.join(name), FileType::CharacterDevice, makedev(major, minor))?;
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o666))?;
    }
    for name in MOUNT_POINTS {
        make_directory(&directory.join(name), 0o755)?;
    }
    let links = mounts::LINKS.iter().filter_map(|(link, to)| Some((link.strip_prefix("/dev/")?, *to)));
    for (link, to) in links.chain([("ptmx", "pts/ptmx")]) {
        replace(&directory.join(link), |link| symlink(to, link))?;
    }
    Ok(())
}

/// Makes a copy of a device node with its owner and rights. Returns false if it is no device.
fn copy(node: &Path, copy: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(node)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => FileType::CharacterDevice,
        kind if kind.is_block_device() => FileType::BlockDevice,
        _ => return Ok(false),
    };
    if let Some(parent) = copy.parent() {
        fs::create_dir_all(parent)?;
    }
    make_node(copy, kind, metadata.rdev())?;
    lchown(copy, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(copy, Permissions::from_mode(metadata.mode() & 0o7777))?;
    Ok(true)
}

/// Makes a node, unless it is there: a service may have it open.
fn make_node(path: &Path, kind: FileType, device: u64) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|old| old.rdev() == device && !old.file_type().is_symlink()) {
        return Ok(());
    }
    // Without rights until it has its owner.
    replace(path, |path| Ok(mknodat(rustix::fs::CWD, path, kind, Mode::empty(), device)?))
}

fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => make(path),
    }
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_has_common_devices_and_those_that_the_service_names() {
        let top = tempfile::tempdir().unwrap();
        let mut directories =
            DeviceDirectories { top: top.path().join("dev"), ..DeviceDirectories::default() };
        directories.add_service("web", &[]);
        directories.add_service("lp", &["/dev/ptm*".to_owned(), "/dev/nul?".to_owned()]);
        let probe = mknodat(
            rustix::fs::CWD,
            top.path().join("probe"),
            FileType::CharacterDevice,
            Mode::empty(),
            makedev(1, 3),
        );
        if probe.is_err() {
            // Only root can make nodes.
            return;
        }
        for _ in 0..2 {
            assert_eq!(directories.fill(), [""; 0]);
        }
        let at = |path: &str| fs::symlink_metadata(top.path().join("dev").join(path));
        let null = at(".common/null").unwrap();
        assert_eq!((null.rdev(), null.mode() & 0o7777), (makedev(1, 3), 0o666));
        assert!(at(".common/log").unwrap().is_symlink() && at(".common/shm").unwrap().is_dir());
        assert!(at(".common/ptmx").unwrap().is_symlink());
        assert!(at("lp/fd").is_ok() && at(".common/kmsg").is_err());
        directories.added("null").unwrap();
        assert_eq!(at("lp/null").unwrap().rdev(), makedev(1, 3));
        directories.removed("null");
        assert!(at("lp/null").is_err() && at(".common/null").is_ok());
        assert!(directories.added("nuls").is_err(), "a node that is gone already");
        directories.removed("nuls");
    }
}
