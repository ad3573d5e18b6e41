//! The root of the inactive slot, which is mounted for a moment to read its manifest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::{self, Manifest, ManifestError};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::linux::block::{Disk, NoPartition};
use crate::linux::mounts;

const MOUNT_POINT: &str = "/run/krazy/other-root";

const FLAGS: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The reason why a root could not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// Its partition is missing.
    #[error(transparent)]
    NoPartition(#[from] NoPartition),
    /// The mount point cannot be created or released.
    #[error("{MOUNT_POINT}: {0}")]
    MountPoint(#[source] io::Error),
    /// The partition holds no SquashFS.
    #[error("{} holds no root: {source}", node.display())]
    Mount { node: PathBuf, source: io::Error },
    /// The manifest cannot be read.
    #[error("its root has no manifest: {0}")]
    NoManifest(#[source] io::Error),
    /// The manifest is not one of this format.
    #[error("in its root, {0}")]
    Manifest(#[from] ManifestError),
}

/// Returns the manifest of the root of `slot`.
pub(super) fn read_manifest(disk: &Disk, slot: Slot) -> Result<Manifest, RootError> {
    let node = disk.require_partition(slot.root_partition())?;
    // Nothing of it exists in the first stage.
    fs::create_dir_all(MOUNT_POINT).map_err(RootError::MountPoint)?;
    mounts::mount_at(&node.to_string_lossy(), MOUNT_POINT, "squashfs", FLAGS, "")
        .map_err(|source| RootError::Mount { node, source })?;
    let bytes = fs::read(Path::new(MOUNT_POINT).join(manifest::PATH));
    // The next update writes this partition, so it must not stay mounted, whatever was read.
    rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH)
        .map_err(|error| RootError::MountPoint(error.into()))?;
    Ok(Manifest::from_json(&bytes.map_err(RootError::NoManifest)?)?)
}
