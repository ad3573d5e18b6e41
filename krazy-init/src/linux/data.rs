//! `/data`: the partition that outlives updates, or a tmpfs in its place, and the directories in it.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use krazy_boot::disk::ext4_superblock::Superblock;
use rustix::fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, fstat, openat};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::path::Arg;

use super::block::{Disk, NoPartition};
use super::{format_data, mounts};

/// The mount point.
pub(crate) const DATA: &str = "/data";

/// The partition's number.
pub(crate) const PARTITION: u8 = 4;

/// The directory of the machine itself: credentials, seed, time. Relative to [`DATA`].
pub(crate) const MACHINE_DIRECTORY: &str = krazy_boot::manifest::accounts::MACHINE_DIRECTORY;

/// Mount flags. `noexec` is not among them, because a service may keep tools of its own here.
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOATIME);

/// A damaged file system stays readable. A commit every five seconds bounds what a power cut loses.
const OPTIONS: &str = "errors=remount-ro,commit=5";

/// The source of `/data`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DataMount {
    /// This partition.
    Disk(PathBuf),
    /// A tmpfs, for this reason.
    Temporary(String),
}

/// Mounts `/data` from `disk`, or a tmpfs if that fails. A blank partition is formatted first, in which case the second
/// value is true; any other content is never overwritten.
///
/// Fails only if the tmpfs cannot be mounted either, because the root lacks the mount point.
pub(crate) fn mount(disk: Option<&Disk>) -> io::Result<(DataMount, bool)> {
    match from_disk(disk) {
        Ok((node, is_new)) => Ok((DataMount::Disk(node), is_new)),
        Err(why) => {
            mounts::mount_at("tmpfs", DATA, "tmpfs", FLAGS, "mode=0755,size=25%")?;
            Ok((DataMount::Temporary(why.to_string()), false))
        }
    }
}

/// The reason why `/data` is not mounted from its partition.
#[derive(Debug, thiserror::Error)]
enum DataError {
    #[error("the root is on no disk with partitions")]
    NoDisk,
    #[error(transparent)]
    NoPartition(#[from] NoPartition),
    #[error("{} cannot be mounted: {source}", node.display())]
    Mount { node: PathBuf, source: io::Error },
    #[error("{} holds no intact ext4 file system, and is not blank", .0.display())]
    NotBlank(PathBuf),
    #[error("{} holds no intact ext4 file system, and none can be made: {source}", node.display())]
    Format { node: PathBuf, source: io::Error },
}

fn from_disk(disk: Option<&Disk>) -> Result<(PathBuf, bool), DataError> {
    let disk = disk.ok_or(DataError::NoDisk)?;
    let node = disk.require_partition(PARTITION)?;
    let mount = || mounts::mount_at(&node.to_string_lossy(), DATA, "ext4", FLAGS, OPTIONS);
    let failed = |source| DataError::Mount { node: node.clone(), source };
    match mount() {
        Ok(()) => return Ok((node, false)),
        // The kernel reports EINVAL for what is no ext4, and EUCLEAN for a damaged one.
        Err(error) if [Some(libc::EINVAL), Some(libc::EUCLEAN)].contains(&error.raw_os_error()) => {}
        Err(error) => return Err(failed(error)),
    }
    let formatted = match disk.signature() {
        Ok(Some(signature)) => format_data::format_if_blank(&node, signature),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match formatted {
        Ok(true) => mount().map(|()| (node.clone(), true)).map_err(failed),
        Ok(false) => Err(DataError::NotBlank(node)),
        Err(source) => Err(DataError::Format { node, source }),
    }
}

/// Reads the superblock of the file system on `node`; `None` if there is none of ext4, or it cannot be read.
pub(crate) fn superblock(node: &Path) -> Option<Superblock> {
    Superblock::read(&mut File::open(node).ok()?).ok()?
}

/// Creates the machine's directory, which services cannot read.
pub(crate) fn prepare_machine_directory() -> io::Result<()> {
    let directory = Path::new(DATA).join(MACHINE_DIRECTORY);
    create_private(&directory)?;
    take_ownership(&directory, 0)
}

/// Returns the state of the home `directory` of the account `uid`, without any write.
pub(crate) fn state_of_home(directory: &Path, uid: u32) -> io::Result<Home> {
    match fs::symlink_metadata(directory) {
        Ok(metadata) if !is_owned(&metadata, uid) => Ok(Home::Foreign),
        Ok(metadata) if metadata.is_dir() && is_private(&metadata) => Ok(Home::Ready),
        Ok(_) => Ok(Home::Unprepared),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Home::Unprepared),
        Err(error) => Err(error),
    }
}

/// Creates `directory`, or makes it private to `uid`. Its content may belong to another account: a service can get or
/// lose `user = "root"`, and the uid of a name changes when names collide. Then it is handed over, which can take minutes.
pub(crate) fn prepare_home(directory: &Path, uid: u32) -> io::Result<()> {
    create_private(directory)?;
    let metadata = fs::symlink_metadata(directory)?;
    // Anything but a directory is rejected by `take_ownership`.
    if is_owned(&metadata, uid) || !metadata.is_dir() || fs::read_dir(directory)?.next().is_none() {
        take_ownership(directory, uid)
    } else {
        hand_over(directory, uid)
    }
}

/// The state of a service's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// It is the service's.
    Ready,
    /// It is missing, or not private.
    Unprepared,
    /// Another account owns it, and perhaps its content, too.
    Foreign,
}

/// Changes the owner of `directory` and of its content to `uid`.
///
/// Meanwhile the directory itself belongs to root: after a power cut, both slots see that it is not handed over yet, and
/// start again. A service of root can use it half done, because root may read everything.
fn hand_over(directory: &Path, uid: u32) -> io::Result<()> {
    let directory = open_directory(CWD, directory)?;
    own(&directory, 0)?;
    hand_over_content(&directory, uid, 0)?;
    own(&directory, uid)
}

fn create_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn is_owned(metadata: &Metadata, uid: u32) -> bool {
    metadata.uid() == uid && metadata.gid() == uid
}

fn is_private(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o7777 == 0o700
}

/// Makes `directory` private to `uid`.
fn take_ownership(directory: &Path, uid: u32) -> io::Result<()> {
    own(&open_directory(CWD, directory)?, uid)
}

/// The same for an open directory.
fn own(directory: &OwnedFd, uid: u32) -> io::Result<()> {
    let found = fstat(directory)?;
    if (found.st_uid, found.st_gid) != (uid, uid) {
        fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
    }
    if found.st_mode & 0o7777 != 0o700 {
        fchmod(directory, Mode::RWXU)?;
    }
    Ok(())
}

/// Opens the directory `name` in `parent`, which is no link.
fn open_directory(parent: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        // A link that is not followed gives ENOTDIR or ELOOP.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"))
        }
        other => Ok(other?),
    }
}

/// More levels than a real tree has, and fewer than a hostile one needs to exhaust stack and descriptors.
const MAX_DEPTH: u32 = 128;

/// Changes the owner of everything in `directory`. Every step begins at an open directory and follows no link: a process
/// of the former account that has a descriptor in the tree may rename and replace entries meanwhile, and gives away
/// nothing but what it could give away itself.
fn hand_over_content(directory: &OwnedFd, uid: u32, depth: u32) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("its directories are nested too deeply"));
    }
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)));
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match open_directory(directory, name) {
            // Its content first: see `hand_over`.
            Ok(below) => {
                hand_over_content(&below, uid, depth + 1)?;
                fchown(&below, owner.0, owner.1)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            // Removed since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn home_is_private_and_can_be_handed_over() {
        let me = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("web");
        assert_eq!(state_of_home(&directory, me).unwrap(), Home::Unprepared);
        prepare_home(&directory, me).unwrap();
        assert_eq!(state_of_home(&directory, me).unwrap(), Home::Ready);
        fs::create_dir(directory.join("deep")).unwrap();
        fs::write(directory.join("deep/state"), "x").unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(state_of_home(&directory, me).unwrap(), Home::Unprepared);
        prepare_home(&directory, me).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o700);
        // Only root can give files away.
        if me == 0 {
            assert_eq!(state_of_home(&directory, 12_345).unwrap(), Home::Foreign);
            prepare_home(&directory, 12_345).unwrap();
            for path in ["", "deep", "deep/state"] {
                assert_eq!(fs::metadata(directory.join(path)).unwrap().uid(), 12_345, "{path}");
            }
            assert_eq!(state_of_home(&directory, 12_345).unwrap(), Home::Ready);
            // After a power cut during the handing over to a third account.
            take_ownership(&directory, 0).unwrap();
            for uid in [12_345, 23_456] {
                assert_eq!(state_of_home(&directory, uid).unwrap(), Home::Foreign);
            }
        }
    }

    #[test]
    fn tree_that_changes_while_it_is_handed_over_gives_away_nothing_outside() {
        // Only root can give files away.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (home, outside) = (dir.path().join("web"), dir.path().join("outside"));
        for directory in [&home, &outside] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(outside.join("secret"), "x").unwrap();
        for number in 0..200 {
            fs::create_dir(home.join(format!("d{number}"))).unwrap();
            fs::write(home.join(format!("d{number}/secret")), "x").unwrap();
        }
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A directory becomes a link to one of root, and a directory again.
                let (link, real) = (home.join("link"), home.join("d7"));
                std::os::unix::fs::symlink(&outside, &link).unwrap();
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    rustix::fs::renameat_with(CWD, &link, CWD, &real, exchange).unwrap();
                }
            });
            for round in 0..100 {
                hand_over(&home, 12_345 + round).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        for path in [&outside, &outside.join("secret")] {
            assert_eq!(fs::metadata(path).unwrap().uid(), 0, "{}", path.display());
        }
        assert_eq!(fs::metadata(home.join("d9/secret")).unwrap().uid(), 12_345 + 99);
    }

    #[test]
    fn symbolic_link_is_refused_as_a_home() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("web");
        std::os::unix::fs::symlink("/etc", &directory).unwrap();
        assert_ne!(state_of_home(&directory, 1).unwrap(), Home::Ready);
        assert_eq!(prepare_home(&directory, 1).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
