//! Whether a slot's root is one that could run.

use std::fs;
use std::io;
use std::path::Path;

use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::{self, Manifest};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::linux::block::Disk;
use crate::linux::mounts;

/// Where the root is mounted while it is looked at.
const FOLDER: &str = "/run/krazy/other-root";

const FLAGS: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// What the root of `slot` says it is. The error says in words why it is none.
pub fn manifest(disk: &Disk, slot: Slot) -> Result<Manifest, String> {
    let number = slot.root_partition();
    let node = disk
        .partition(number)
        .ok_or_else(|| format!("{} has no partition {number}", disk.node().display()))?;
    match fs::create_dir(FOLDER) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("{FOLDER}: {error}"));
        }
        _ => {}
    }
    let source = node.to_string_lossy();
    mounts::mount_at(&source, FOLDER, "squashfs", FLAGS, "")
        .map_err(|error| format!("{source} holds no root: {error}"))?;
    let path = Path::new(FOLDER).join(manifest::PATH);
    let manifest = fs::read(&path)
        .map_err(|error| format!("its root has no manifest: {error}"))
        .and_then(|bytes| Manifest::from_json(&bytes).map_err(|error| format!("in its root, {error}")));
    rustix::mount::unmount(FOLDER, UnmountFlags::DETACH).map_err(|error| format!("{FOLDER}: {error}"))?;
    manifest
}
