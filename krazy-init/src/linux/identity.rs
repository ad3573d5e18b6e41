//! The device's credentials in `/data/krazy` and their copies in front of the partitions
//! ([`krazy_boot::disk::identity`]): the copies follow the files, and replace them when `/data` is lost or damaged, so that
//! the device can still be managed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use krazy_boot::api::credentials::{
    CERTIFICATE, MAX_FILE, PRIVATE_KEY, RESTORED, TOKENS, UPDATE_KEYS, VERSION_FLOOR,
};
use krazy_boot::disk::identity::{IdentityCopies, IdentityError, IdentityFile};

use super::block::Disk;
use super::data::DATA;

/// The files without which nobody can manage the device.
const REQUIRED: [&str; 4] = [CERTIFICATE, PRIVATE_KEY, TOKENS, UPDATE_KEYS];

/// The state of credentials and copies after [`keep`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The copies are those of the files.
    Copied,
    /// The files were incomplete and have been restored from a copy, to this directory.
    Restored(PathBuf),
    /// There are neither complete files nor a copy.
    Missing,
}

/// The failure to copy or restore credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The disk cannot be read or written.
    #[error("{}: {}", .0.display(), .1)]
    Disk(PathBuf, #[source] io::Error),
    /// A file cannot be written.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// The files make no copy.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Makes the copies on `disk` equal to the files if these are complete, or else restores the files.
pub(crate) fn keep(disk: &Disk) -> Result<Kept, KeepError> {
    let copies = copies(disk)?;
    if let Some(files) = read_files(Path::new(DATA)) {
        return write_copies(disk, &copies, &files).map(|()| Kept::Copied);
    }
    let Ok(identity) = copies.newest() else { return Ok(Kept::Missing) };
    // Where the directory itself is damaged, nothing can be written to it, and memory takes its place.
    match restore(Path::new(DATA), &identity.files) {
        Ok(()) => Ok(Kept::Restored(DATA.into())),
        Err(_) => restore(Path::new(RESTORED), &identity.files).map(|()| Kept::Restored(RESTORED.into())),
    }
}

/// Makes the copies on `disk` equal to the files in use, which have changed.
pub(crate) fn copy(disk: &Disk) -> Result<(), KeepError> {
    let restored = Path::new(RESTORED);
    let directory = if restored.is_dir() { restored } else { Path::new(DATA) };
    match read_files(directory) {
        Some(files) => write_copies(disk, &copies(disk)?, &files),
        None => {
            let missing = io::Error::new(io::ErrorKind::NotFound, "the credentials are incomplete");
            Err(KeepError::File(directory.join(krazy_boot::api::credentials::DIRECTORY), missing))
        }
    }
}

fn copies(disk: &Disk) -> Result<IdentityCopies, KeepError> {
    let mut whole = File::open(disk.node()).map_err(|error| KeepError::Disk(disk.node(), error))?;
    Ok(IdentityCopies::read(&mut whole))
}

fn write_copies(disk: &Disk, copies: &IdentityCopies, files: &[IdentityFile]) -> Result<(), KeepError> {
    let writes = copies.writes(files)?;
    disk.write_in_order(&writes).map_err(|error| KeepError::Disk(disk.node(), error))
}

/// Reads the credentials in `directory`; `None` if a required one is missing or cannot be read.
fn read_files(directory: &Path) -> Option<Vec<IdentityFile>> {
    let read = |path: &str| {
        let mut bytes = Vec::new();
        let file = File::open(directory.join(path))?;
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(IdentityFile { path: path.to_owned(), bytes })
    };
    let mut files = REQUIRED.into_iter().map(read).collect::<Result<Vec<_>, _>>().ok()?;
    if files.iter().any(|file| file.bytes.is_empty()) {
        return None;
    }
    match read(VERSION_FLOOR) {
        Ok(floor) => files.push(floor),
        // Few devices have one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A copy without it would remove the floor.
        Err(_) => return None,
    }
    Some(files)
}

fn restore(directory: &Path, files: &[IdentityFile]) -> Result<(), KeepError> {
    for IdentityFile { path, bytes } in files {
        let path = directory.join(path);
        write_file(&path, bytes).map_err(|error| KeepError::File(path, error))?;
    }
    Ok(())
}

/// Writes a file for root alone, with the directories above it.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let new = path.with_extension("restored");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_all(directory: &Path, names: &[&str]) {
        for name in names {
            write_file(&directory.join(name), name.as_bytes()).unwrap();
        }
    }

    #[test]
    fn incomplete_or_empty_credentials_are_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path(), &REQUIRED[..3]);
        assert_eq!(read_files(dir.path()), None);
        fs::write(dir.path().join(UPDATE_KEYS), "").unwrap();
        assert_eq!(read_files(dir.path()), None);
        write_all(dir.path(), &REQUIRED);
        assert_eq!(read_files(dir.path()).unwrap().len(), 4);
        write_all(dir.path(), &[VERSION_FLOOR]);
        assert_eq!(read_files(dir.path()).unwrap().len(), 5);
    }

    #[test]
    fn restored_credentials_are_the_copied_ones_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_all(from.path(), &REQUIRED);
        let files = read_files(from.path()).unwrap();
        restore(to.path(), &files).unwrap();
        assert_eq!(read_files(to.path()).unwrap(), files);
        let mode = |name: &str| fs::metadata(to.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(PRIVATE_KEY), mode("krazy"), mode("krazy/tls")), (0o600, 0o700, 0o700));
    }
}
