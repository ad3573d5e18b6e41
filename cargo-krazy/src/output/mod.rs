//! The destination of a finished image: a file, replaced in one step, or a whole block device, written and verified.
//!
//! The image is always assembled in a sparse scratch file first ([`Destination::scratch`]); [`deliver`] then renames
//! it or copies it to the device. Until then nothing that existed before has been touched.

mod disk;
#[cfg(target_os = "linux")]
mod flash;
mod privilege;
mod replacement;
mod scratch;
pub(crate) mod sparse;

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::disk::size::Bytes;

pub(crate) use self::disk::{Disk, System};
pub(crate) use self::replacement::check_not_running;
use self::replacement::replace;
pub(crate) use self::scratch::Scratch;
use crate::failure::{Exit, Explain, Failure, Result};
use crate::shell::Shell;

/// A checked destination of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A file, existing or not, in an existing directory. Symbolic links are resolved.
    File(PathBuf),
    /// A disk whose owner agreed to lose what is on it.
    Device(Disk),
}

/// A delivered image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// The file or device.
    pub(crate) path: PathBuf,
    /// The image's length; a device may be larger.
    pub(crate) bytes: Bytes,
    /// True if it is a device.
    pub(crate) device: bool,
}

/// A destination that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// A block device where a file is needed.
    #[error("`{}` is a disk", .0.display())]
    IsDisk(PathBuf),
    /// A directory.
    #[error("`{}` is a directory", .0.display())]
    IsDirectory(PathBuf),
    /// A pipe, a terminal.
    #[error("`{}` is neither a file nor a block device", .0.display())]
    IsSpecial(PathBuf),
    /// A mistyped name below `/dev`.
    #[error("there is no device `{}`", .0.display())]
    NoDevice(PathBuf),
    /// A file in a directory that does not exist.
    #[error("the directory of `{}` does not exist", path.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// A full disk.
    #[error("no space is left for `{}`", .0.display())]
    NoSpace(PathBuf),
    /// Another error of the operating system.
    #[error("failed to write `{}`: {why}", path.display())]
    Write {
        /// The file or device.
        path: PathBuf,
        /// The error.
        why: String,
    },
    /// A disk, without a terminal to ask for consent.
    #[error("`{}` would be overwritten: {disk}", disk.path.display())]
    NeedsConsent {
        /// The disk.
        disk: Box<Disk>,
    },
    /// A disk whose owner did not consent.
    #[error("`{}` was left as it is", .0.display())]
    Declined(PathBuf),
    /// A disk of a host other than Linux.
    #[cfg(not(target_os = "linux"))]
    #[error("writing to `{}` works on Linux only", .0.display())]
    LinuxOnly(PathBuf),
}

impl Explain for OutputError {
    fn exit(&self) -> Exit {
        match self {
            OutputError::NeedsConsent { .. } | OutputError::Declined(_) => Exit::Usage,
            _ => Exit::Image,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            OutputError::IsDisk(_) | OutputError::IsDirectory(_) => "give the name of a file",
            OutputError::NoDevice(_) => "`lsblk` lists the disks of this machine",
            OutputError::NoDirectory { directory, .. } => {
                return Some(format!("make it first: `mkdir -p '{}'`", directory.display()));
            }
            OutputError::NoSpace(_) => "free some space, or choose another path with `--output`",
            OutputError::NeedsConsent { .. } => "add `--yes` to overwrite it",
            #[cfg(not(target_os = "linux"))]
            OutputError::LinuxOnly(_) => "write a file, and copy it with `dd`",
            OutputError::IsSpecial(_) | OutputError::Write { .. } | OutputError::Declined(_) => return None,
        };
        Some(help.to_owned())
    }
}

impl Destination {
    /// Checks that an image of `len` bytes may go to `path`, before any work is done for it. Writes nothing.
    ///
    /// A disk must be unused, and its owner must agree: by `yes`, or by typing its name on the terminal.
    pub(crate) fn open(path: &Path, len: Bytes, yes: bool, shell: Shell) -> Result<Self> {
        Self::check(&System::host(), path, &mut |disk| {
            disk.check_fits(len)?;
            if !yes {
                ask(disk, shell)?;
            }
            privilege::obtain(disk, shell)
        })
    }

    /// Checks that a file may be made or replaced at `path`, as [`open`](Self::open) does; a disk is none. Symbolic
    /// links are resolved. Writes nothing.
    pub(crate) fn file(path: &Path) -> Result<PathBuf> {
        match Self::check(&System::host(), path, &mut |_| Ok(()))? {
            Destination::File(path) => Ok(path),
            Destination::Device(disk) => Err(OutputError::IsDisk(disk.path).into()),
        }
    }

    /// [`open`](Self::open) with the kernel's files and the owner's consent taken from the arguments.
    fn check(system: &System, path: &Path, consent: &mut dyn FnMut(&Disk) -> Result<()>) -> Result<Self> {
        let resolved = match fs::metadata(path) {
            Ok(metadata) if metadata.file_type().is_block_device() => {
                let disk = Disk::examine(system, path)?;
                disk.check_unused(system)?;
                consent(&disk)?;
                return Ok(Destination::Device(disk));
            }
            Ok(metadata) if metadata.is_dir() => return Err(OutputError::IsDirectory(path.to_owned()).into()),
            Ok(metadata) if metadata.is_file() => {
                fs::canonicalize(path).with_context(|| format!("failed to resolve `{}`", path.display()))?
            }
            Ok(_) => return Err(OutputError::IsSpecial(path.to_owned()).into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => Err(error).with_context(|| format!("failed to inspect `{}`", path.display()))?,
        };
        let directory = directory_of(&resolved);
        // A mistyped device name would otherwise fill the memory behind /dev with a file.
        if is_of_devices(directory) {
            return Err(OutputError::NoDevice(path.to_owned()).into());
        }
        if !directory.is_dir() {
            let (path, directory) = (path.to_owned(), directory.to_owned());
            return Err(OutputError::NoDirectory { path, directory }.into());
        }
        Ok(Destination::File(resolved))
    }

    /// Returns the file or device.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Destination::File(path) => path,
            Destination::Device(disk) => &disk.path,
        }
    }

    /// Returns an empty temporary file to assemble the image in: beside the file it becomes, or in `directory` on the
    /// way to a device. It is removed when dropped or interrupted, and only its owner may read it: an image holds the
    /// appliance's keys.
    pub(crate) fn scratch(&self, directory: &Path) -> Result<Scratch> {
        let directory = match self {
            Destination::File(path) => directory_of(path),
            Destination::Device(_) => directory,
        };
        Scratch::in_directory(directory)
    }
}

/// Returns true if files in `directory`, links resolved, would be in the memory behind `/dev`. `/dev/shm` is for files.
fn is_of_devices(directory: &Path) -> bool {
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    directory.starts_with("/dev") && !directory.starts_with("/dev/shm")
}

/// Moves or copies the finished image at `image` to its destination, and to stable storage. The file at `image` is
/// moved or may be removed afterwards.
pub(crate) fn deliver(image: &Path, destination: &Destination, shell: Shell) -> Result<Delivered> {
    let metadata = fs::metadata(image).with_context(|| format!("failed to inspect `{}`", image.display()))?;
    let bytes = Bytes(metadata.len());
    match destination {
        Destination::File(path) => replace(image, path)?,
        Destination::Device(disk) => flash(image, disk, shell)?,
    }
    let path = destination.path().to_owned();
    Ok(Delivered { path, bytes, device: matches!(destination, Destination::Device(_)) })
}

/// Returns the failure to write to `path` because of `error`.
pub(crate) fn write_failure(path: &Path, error: &io::Error) -> Failure {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull => OutputError::NoSpace(path).into(),
        _ => OutputError::Write { path, why: error.to_string() }.into(),
    }
}

#[cfg(target_os = "linux")]
fn flash(image: &Path, disk: &Disk, shell: Shell) -> Result<()> {
    flash::flash(&System::host(), image, disk, shell)
}

#[cfg(not(target_os = "linux"))]
fn flash(_: &Path, disk: &Disk, _: Shell) -> Result<()> {
    Err(OutputError::LinuxOnly(disk.path.clone()).into())
}

/// Returns the directory of a file; that of a bare name is the current one.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Asks the user at the terminal to type the disk's name.
fn ask(disk: &Disk, shell: Shell) -> Result<()> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(OutputError::NeedsConsent { disk: Box::new(disk.clone()) }.into());
    }
    let name = &disk.name;
    shell.warn(format!("everything on `{}` will be lost: {disk}", disk.path.display()));
    shell.question(format!("type `{name}` to go on, anything else to stop"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("failed to read the answer")?;
    Ok(check_consent(&answer, disk)?)
}

fn check_consent(answer: &str, disk: &Disk) -> Result<(), OutputError> {
    match answer.trim() == disk.name {
        true => Ok(()),
        false => Err(OutputError::Declined(disk.path.clone())),
    }
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
    fn file_is_replaced_whole_and_keeps_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.img");
        fs::write(&path, "old").unwrap();
        let link = directory.path().join("link.img");
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
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left over");
    }

    #[test]
    fn abandoned_image_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.img");
        fs::write(&path, "old").unwrap();
        drop(open(&path).unwrap().scratch(directory.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn impossible_destinations_are_named_before_any_work() {
        let directory = tempfile::tempdir().unwrap();
        let message = |path: &Path| open(path).unwrap_err().to_string();
        assert_eq!(message(directory.path()), format!("`{}` is a directory", directory.path().display()));
        let missing = directory.path().join("x/y.img");
        let error = open(&missing).unwrap_err();
        assert_eq!(error.to_string(), format!("the directory of `{}` does not exist", missing.display()));
        assert!(error.next_step().unwrap().starts_with("make it first: `mkdir -p"));
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
    fn full_disk_is_reported() {
        let error = File::options().write(true).open("/dev/full").unwrap().write_all(b"x").unwrap_err();
        let failure = write_failure(Path::new("a.img"), &error);
        assert_eq!(failure.to_string(), "no space is left for `a.img`");
    }

    #[test]
    fn only_the_name_of_a_disk_is_consent() {
        let disk = Disk::example();
        check_consent("sdx\n", &disk).unwrap();
        for answer in ["", "y", "yes\n", "sdy\n"] {
            let error = check_consent(answer, &disk).unwrap_err();
            assert_eq!(error.to_string(), "`/dev/sdx` was left as it is");
            assert_eq!(error.exit(), Exit::Usage);
        }
    }
}
