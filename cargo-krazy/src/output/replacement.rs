//! Replacement of an image by another, unless a machine runs from it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{directory_of, sparse, write_failure};
use crate::failure::{Exit, Explain, Result};

/// An image that a machine runs from.
#[derive(Debug, thiserror::Error)]
#[error("a machine is running from `{}`", .0.display())]
pub(crate) struct ImageInUse(PathBuf);

impl Explain for ImageInUse {
    fn exit(&self) -> Exit {
        Exit::Image
    }

    fn help(&self) -> Option<String> {
        let help = "stop it first, choose another path with `--output`, or update the running machine: \
                    `cargo krazy push qemu`";
        Some(help.to_owned())
    }
}

/// Fails if a machine runs from the image at `path`: it would continue with a deleted file, and its writes to `/data`
/// would be lost. QEMU locks the images it uses; a file that cannot be opened for writing is not checked.
pub(crate) fn check_not_running(path: &Path) -> Result<(), ImageInUse> {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return Ok(()) };
    match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(ImageInUse(path.to_owned())),
        // Some file systems have no locks.
        _ => Ok(()),
    }
}

/// Moves `image` over `path`: afterwards `path` is the old file or the whole new one, even after a power cut.
pub(super) fn replace(image: &Path, path: &Path) -> Result<()> {
    check_not_running(path)?;
    let directory = directory_of(path);
    let failed = |error: io::Error| write_failure(path, &error);
    if let Ok(existing) = fs::metadata(path) {
        fs::set_permissions(image, existing.permissions()).map_err(failed)?;
    }
    File::open(image).and_then(|file| file.sync_all()).map_err(failed)?;
    match fs::rename(image, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let copy = Scratch::in_directory(directory)?;
            let source = File::open(image).map_err(failed)?;
            sparse::copy(&source, copy.as_file()).map_err(failed)?;
            let permissions = fs::metadata(image).map_err(failed)?.permissions();
            fs::set_permissions(copy.path(), permissions).map_err(failed)?;
            copy.as_file().sync_all().map_err(failed)?;
            copy.persist(path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn other_file_system_gets_a_sparse_copy() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        assert_ne!(fs::metadata(here.path()).unwrap().dev(), fs::metadata(there.path()).unwrap().dev());
        let image = here.path().join("image");
        let mut file = File::create(&image).unwrap();
        file.seek(SeekFrom::Start(8 << 20)).unwrap();
        file.write_all(b"end").unwrap();
        let path = there.path().join("a.img");
        replace(&image, &path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), (8 << 20) + 3);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        assert!(fs::read(&path).unwrap().ends_with(b"end"));
    }

    #[test]
    fn image_in_use_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (path, new) = (directory.path().join("a.img"), directory.path().join("new"));
        fs::write(&path, "old").unwrap();
        fs::write(&new, "new").unwrap();
        // QEMU's locks belong to its open file, as these do, and are for some bytes only. Source: fcntl(2).
        let running = File::options().read(true).write(true).open(&path).unwrap();
        // SAFETY: plain data, valid when zeroed.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_start, lock.l_len) = (libc::F_RDLCK as _, 100, 1);
        // SAFETY: the structure is valid for the call.
        let locked = unsafe { libc::fcntl(running.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
        assert_eq!(locked, 0);
        let error = replace(&new, &path).unwrap_err().to_string();
        assert_eq!(error, format!("a machine is running from `{}`", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(running);
        replace(&new, &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }
}
