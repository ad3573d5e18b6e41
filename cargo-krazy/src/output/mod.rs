//! Where a finished image goes: a file, replaced in one step, or a whole block device, written and verified.
//!
//! The image is always assembled in a sparse scratch file first ([`Destination::scratch`]); [`deliver`] then
//! renames it or copies it to the device. Until then nothing that existed before has been touched.

mod disk;
#[cfg(target_os = "linux")]
mod flash;
mod replacement;
mod scratch;
pub(crate) mod sparse;

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use krazy_boot::disk::size::Bytes;

pub use self::disk::{Disk, System};
pub use self::replacement::refuse_if_running;
use self::replacement::replace;
pub use self::scratch::Scratch;
use crate::failure::{Exit, Failure};
use crate::shell::Shell;

/// A checked place for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file, existing or not, in an existing folder. Symbolic links are resolved.
    File(PathBuf),
    /// A disk whose owner agreed to lose what is on it.
    Device(Disk),
}

/// What became of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The file or device.
    pub path: PathBuf,
    /// The image's length; a device may be larger.
    pub bytes: Bytes,
    /// Whether it is a device.
    pub device: bool,
}

impl Destination {
    /// Checks that an image of `len` bytes may go to `path`, before any work is done for it. Writes nothing.
    ///
    /// A disk must be unused, and its owner must agree: by `yes`, or by typing its name on the terminal.
    pub fn open(path: &Path, len: Bytes, yes: bool, shell: Shell) -> Result<Self> {
        Self::check(&System::host(), path, &mut |disk| {
            disk.refuse_if_smaller(len)?;
            if yes { Ok(()) } else { ask(disk, shell) }
        })
    }

    /// Checks that a file may be made or replaced at `path`, as [`open`](Self::open) does; a disk is none. Symbolic
    /// links are resolved. Writes nothing.
    pub fn file(path: &Path) -> Result<PathBuf> {
        match Self::check(&System::host(), path, &mut |_| Ok(()))? {
            Destination::File(path) => Ok(path),
            Destination::Device(disk) => {
                let failure = Failure::new(Exit::Image, format!("`{}` is a disk", disk.path.display()));
                Err(failure.help("give the name of a file").into())
            }
        }
    }

    /// [`open`](Self::open) with the kernel's files and the owner's consent taken from the arguments.
    fn check(system: &System, path: &Path, consent: &mut dyn FnMut(&Disk) -> Result<()>) -> Result<Self> {
        let resolved = match fs::metadata(path) {
            Ok(metadata) if metadata.file_type().is_block_device() => {
                let disk = Disk::examine(system, path)?;
                disk.refuse_if_used(system)?;
                consent(&disk)?;
                return Ok(Destination::Device(disk));
            }
            Ok(metadata) if metadata.is_dir() => {
                let failure = Failure::new(Exit::Image, format!("`{}` is a folder", path.display()));
                return Err(failure.help("give the name of a file").into());
            }
            Ok(metadata) if metadata.is_file() => {
                fs::canonicalize(path).with_context(|| format!("failed to resolve `{}`", path.display()))?
            }
            Ok(_) => {
                let text = format!("`{}` is neither a file nor a block device", path.display());
                return Err(Failure::new(Exit::Image, text).into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to look at `{}`", path.display()));
            }
        };
        let folder = folder_of(&resolved);
        // A mistyped device name would otherwise fill the memory behind /dev with a file.
        if is_of_devices(folder) {
            let failure = Failure::new(Exit::Image, format!("there is no device `{}`", path.display()));
            return Err(failure.help("`lsblk` lists the disks of this machine").into());
        }
        if !folder.is_dir() {
            let text = format!("the folder of `{}` does not exist", path.display());
            let help = format!("make it first: `mkdir -p '{}'`", folder.display());
            return Err(Failure::new(Exit::Image, text).help(help).into());
        }
        Ok(Destination::File(resolved))
    }

    /// The file or device.
    pub fn path(&self) -> &Path {
        match self {
            Destination::File(path) => path,
            Destination::Device(disk) => &disk.path,
        }
    }

    /// An empty temporary file to assemble the image in: beside the file it becomes, or in `folder` on the way
    /// to a device. It is removed when dropped or interrupted, and only its owner may read it: an image holds the appliance's keys.
    pub fn scratch(&self, folder: &Path) -> Result<Scratch> {
        let folder = match self {
            Destination::File(path) => folder_of(path),
            Destination::Device(_) => folder,
        };
        Scratch::in_folder(folder)
    }
}

/// Whether files there would be in the memory behind `/dev`, wherever `folder` leads. `/dev/shm` is for files.
fn is_of_devices(folder: &Path) -> bool {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    folder.starts_with("/dev") && !folder.starts_with("/dev/shm")
}

/// Puts the finished image at `image` where it was meant to go, and on stable storage. The file at `image` is
/// moved or may be removed afterwards.
pub fn deliver(image: &Path, destination: &Destination, shell: Shell) -> Result<Delivered> {
    let metadata = fs::metadata(image).with_context(|| format!("failed to look at `{}`", image.display()))?;
    let bytes = Bytes(metadata.len());
    match destination {
        Destination::File(path) => replace(image, path)?,
        Destination::Device(disk) => flash(image, disk, shell)?,
    }
    let path = destination.path().to_owned();
    Ok(Delivered { path, bytes, device: matches!(destination, Destination::Device(_)) })
}

/// What to say when writing to `path` failed with `error`.
pub fn write_failure(path: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::StorageFull {
        return Failure::new(Exit::Image, format!("no space is left for `{}`", path.display()))
            .help("free some space, or choose another place with `--output`");
    }
    Failure::new(Exit::Image, format!("failed to write `{}`: {error}", path.display()))
}

#[cfg(target_os = "linux")]
fn flash(image: &Path, disk: &Disk, shell: Shell) -> Result<()> {
    flash::flash(&System::host(), image, disk, shell)
}

#[cfg(not(target_os = "linux"))]
fn flash(_: &Path, disk: &Disk, _: Shell) -> Result<()> {
    let text = format!("writing to `{}` works on Linux only", disk.path.display());
    Err(Failure::new(Exit::Image, text).help("write a file, and copy it with `dd`").into())
}

/// The folder a file is in; that of a bare name is the current one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Asks the person at the terminal to type the disk's name.
fn ask(disk: &Disk, shell: Shell) -> Result<()> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let text = format!("`{}` would be overwritten: {disk}", disk.path.display());
        return Err(Failure::new(Exit::Usage, text).help("add `--yes` if that is what you want").into());
    }
    let name = &disk.name;
    shell.warn(format!("everything on `{}` will be lost: {disk}", disk.path.display()));
    shell.question(format!("type `{name}` to go on, anything else to stop"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("failed to read the answer")?;
    agreed(&answer, disk)
}

fn agreed(answer: &str, disk: &Disk) -> Result<()> {
    if answer.trim() == disk.name {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, format!("`{}` was left as it is", disk.path.display())).into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn open(path: &Path) -> Result<Destination> {
        Destination::open(path, Bytes::mib(1), false, Shell::default())
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        fs::write(&path, "old").unwrap();
        let link = folder.path().join("link.img");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let destination = open(&link).unwrap();
        let scratch = destination.scratch(Path::new("/nowhere")).unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().mode() & 0o777, 0o600);
        scratch.as_file().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let mode = fs::metadata(&path).unwrap().mode();
        let delivered = deliver(scratch.path(), &destination, Shell::default()).unwrap();
        drop(scratch);
        let path = fs::canonicalize(path).unwrap();
        assert_eq!(delivered, Delivered { path: path.clone(), bytes: Bytes(3), device: false });
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode(), mode);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
    }

    #[test]
    fn an_abandoned_image_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        fs::write(&path, "old").unwrap();
        drop(open(&path).unwrap().scratch(folder.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn impossible_places_are_named_before_any_work() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| open(path).unwrap_err().to_string();
        assert_eq!(message(folder.path()), format!("`{}` is a folder", folder.path().display()));
        let missing = folder.path().join("x/y.img");
        let error = open(&missing).unwrap_err();
        assert_eq!(error.to_string(), format!("the folder of `{}` does not exist", missing.display()));
        assert!(Failure::help_of(&error).unwrap().starts_with("make it first: `mkdir -p"));
        for name in ["/dev/sdnone", "/dev/../dev/sdnone", "/dev/pts/sdnone"] {
            assert_eq!(message(Path::new(name)), format!("there is no device `{name}`"));
        }
        assert!(matches!(open(Path::new("/dev/shm/krazy.img")).unwrap(), Destination::File(_)));
        assert_eq!(message(Path::new("/dev/null")), "`/dev/null` is neither a file nor a block device");
        assert_eq!(open(Path::new("bare.img")).unwrap(), Destination::File("bare.img".into()));
        let file = Destination::file(Path::new("/dev/null")).unwrap_err();
        assert_eq!(file.to_string(), "`/dev/null` is neither a file nor a block device");
        assert_eq!(Destination::file(Path::new("bare.krazy")).unwrap(), Path::new("bare.krazy"));
    }

    #[test]
    fn a_full_disk_is_said() {
        let error = File::options().write(true).open("/dev/full").unwrap().write_all(b"x").unwrap_err();
        let failure = write_failure(Path::new("a.img"), &error);
        assert_eq!(failure.to_string(), "no space is left for `a.img`");
    }

    #[test]
    fn only_the_name_is_consent() {
        let disk = Disk::example();
        agreed("sdx\n", &disk).unwrap();
        for answer in ["", "y", "yes\n", "sdy\n"] {
            let error = agreed(answer, &disk).unwrap_err();
            assert_eq!(error.to_string(), "`/dev/sdx` was left as it is");
            assert_eq!(Failure::exit_of(&error), Exit::Usage);
        }
    }
}
