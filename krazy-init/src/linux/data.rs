//! `/data`: the partition that stays, or a tmpfs in its place, and the folders in it.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::block::Disk;
use super::{make, mounts};

/// Where it is mounted.
pub(crate) const DATA: &str = "/data";

/// Its partition's number.
pub(crate) const PARTITION: u8 = 4;

/// What belongs to the machine: provisioning, seed, time. Relative to [`DATA`].
pub(crate) const MACHINE_FOLDER: &str = krazy_boot::api::credentials::DIRECTORY;

/// Mount flags of `/data` from the disk: programs run from the verified root, not from here, but a service may
/// keep tools of its own, so `noexec` is not set.
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOATIME);

/// An error found in the file system leaves it readable: services keep their data, and `/data` says so.
const OPTIONS: &str = "errors=remount-ro,commit=5";

/// How `/data` came to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DataMount {
    /// From this partition.
    Disk(PathBuf),
    /// A tmpfs, and why.
    Temporary(String),
}

/// Mounts `/data` from `disk`; if that fails, a tmpfs. A partition with nothing on it gets a file system first, which
/// the second value tells; any other is never written to make it fit.
///
/// Fails only if not even a tmpfs can be mounted, for want of a mount point.
pub(crate) fn mount(disk: Option<&Disk>) -> io::Result<(DataMount, bool)> {
    match from_disk(disk) {
        Ok((node, is_new)) => Ok((DataMount::Disk(node), is_new)),
        Err(why) => {
            mounts::mount_at("tmpfs", DATA, "tmpfs", FLAGS, "mode=0755,size=50%")?;
            Ok((DataMount::Temporary(why), false))
        }
    }
}

fn from_disk(disk: Option<&Disk>) -> Result<(PathBuf, bool), String> {
    let disk = disk.ok_or("the root is on no disk with partitions")?;
    let node = disk
        .partition(PARTITION)
        .ok_or_else(|| format!("{} has no partition {PARTITION}", disk.node().display()))?;
    let source = node.to_string_lossy();
    let mount = || mounts::mount_at(&source, DATA, "ext4", FLAGS, OPTIONS);
    let failed = |error: io::Error| format!("{source} cannot be mounted: {error}");
    match mount() {
        Ok(()) => return Ok((node, false)),
        // The kernel's words for what is no ext4, or none intact, are "invalid argument" and "structure needs cleaning".
        Err(error) if [Some(libc::EINVAL), Some(libc::EUCLEAN)].contains(&error.raw_os_error()) => {}
        Err(error) => return Err(failed(error)),
    }
    let made = match disk.signature() {
        Ok(Some(signature)) => make::file_system(&node, signature),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match made {
        Ok(true) => mount().map(|()| (node.clone(), true)).map_err(failed),
        Ok(false) => Err(format!("{source} holds no intact ext4 file system, and is not blank")),
        Err(error) => {
            Err(format!("{source} holds no intact ext4 file system, and none can be made: {error}"))
        }
    }
}

/// Makes the machine's own folder, closed to services.
pub(crate) fn prepare_machine_folder() -> io::Result<()> {
    let folder = Path::new(DATA).join(MACHINE_FOLDER);
    make_folder(&folder)?;
    own(&folder, 0)
}

/// The HOME of account `user`. Names that mean something else on `/data` are set apart.
pub(crate) fn home(user: &str) -> PathBuf {
    match user {
        MACHINE_FOLDER | "lost+found" => Path::new(DATA).join(format!("service-{user}")),
        _ => Path::new(DATA).join(user),
    }
}

/// Makes `folder` private to `uid`. What is in it may belong to another account: a service can get or lose
/// `user = "root"`, and the number of a name changes when names collide. Then it is [handed over](hand_over) first.
pub(crate) fn prepare_home(folder: &Path, uid: u32) -> io::Result<Home> {
    make_folder(folder)?;
    let metadata = fs::symlink_metadata(folder)?;
    // What is no folder is refused there.
    if is_owned(&metadata, uid) || !metadata.is_dir() || fs::read_dir(folder)?.next().is_none() {
        own(folder, uid).map(|()| Home::Ready)
    } else {
        Ok(Home::Foreign)
    }
}

/// In whose hands a service's folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// The service's.
    Ready,
    /// Another account's, with what is in it.
    Foreign,
}

/// Gives `folder` and all that is in it to `uid`, which can take minutes.
///
/// Meanwhile the folder itself is root's: after a power cut, this slot and the other one see that it is not theirs, and
/// begin anew. For a service of root's a half-done one will do, since root may read everything.
pub(crate) fn hand_over(folder: &Path, uid: u32) -> io::Result<()> {
    own(folder, 0)?;
    hand_over_content(folder, uid, 0)?;
    own(folder, uid)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn is_owned(metadata: &Metadata, uid: u32) -> bool {
    metadata.uid() == uid && metadata.gid() == uid
}

fn own(folder: &Path, uid: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    if !metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder"));
    }
    if !is_owned(&metadata, uid) {
        lchown(folder, Some(uid), Some(uid))?;
    }
    if metadata.permissions().mode() & 0o7777 != 0o700 {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Deeper than any real tree, less than what a hostile one would need to exhaust the stack.
const DEEPEST: u32 = 128;

fn hand_over_content(folder: &Path, uid: u32, depth: u32) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("folders in {} are nested too deeply", folder.display())));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            hand_over_content(&entry.path(), uid, depth + 1)?;
        }
        lchown(entry.path(), Some(uid), Some(uid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_folder_is_nobodys_home() {
        assert_eq!(home("web"), Path::new("/data/web"));
        assert_eq!(home("krazy"), Path::new("/data/service-krazy"));
    }

    #[test]
    fn a_home_is_private_and_changes_hands() {
        let me = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("web");
        assert_eq!(prepare_home(&folder, me).unwrap(), Home::Ready);
        fs::create_dir(folder.join("deep")).unwrap();
        fs::write(folder.join("deep/state"), "x").unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(prepare_home(&folder, me).unwrap(), Home::Ready);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        // Only root can give files away.
        if me == 0 {
            assert_eq!(prepare_home(&folder, 12_345).unwrap(), Home::Foreign);
            hand_over(&folder, 12_345).unwrap();
            for path in ["", "deep", "deep/state"] {
                assert_eq!(fs::metadata(folder.join(path)).unwrap().uid(), 12_345, "{path}");
            }
            assert_eq!(prepare_home(&folder, 12_345).unwrap(), Home::Ready);
            // Cut off while it went to a third account, it is neither's.
            own(&folder, 0).unwrap();
            for uid in [12_345, 23_456] {
                assert_eq!(prepare_home(&folder, uid).unwrap(), Home::Foreign);
            }
        }
    }

    #[test]
    fn a_link_is_not_taken_for_a_home() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("web");
        std::os::unix::fs::symlink("/etc", &folder).unwrap();
        assert_eq!(prepare_home(&folder, 1).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
