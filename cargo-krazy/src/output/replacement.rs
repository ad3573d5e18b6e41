//! An image takes the place of another, unless a machine runs from that one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::Result;

use super::scratch::Scratch;
use super::{folder_of, sparse, write_failure};
use crate::failure::{Exit, Failure};

/// Fails if a machine runs from the image at `path`: it would go on with a file that nobody sees any more, and what it
/// writes to its `/data` would be lost. QEMU locks the images it uses; what cannot be opened for writing is not asked.
pub fn refuse_if_running(path: &Path) -> Result<()> {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return Ok(()) };
    match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            let text = format!("a machine is running from `{}`", path.display());
            let help = "end it first, choose another place with `--output`, or update the running machine: \
                        `cargo krazy push qemu`";
            Err(Failure::new(Exit::Image, text).help(help).into())
        }
        // Some file systems have no locks.
        _ => Ok(()),
    }
}

/// Moves `image` over `path`: afterwards `path` is the old file or the whole new one, even after a power cut.
pub(super) fn replace(image: &Path, path: &Path) -> Result<()> {
    refuse_if_running(path)?;
    let folder = folder_of(path);
    let failed = |error: io::Error| write_failure(path, &error);
    if let Ok(existing) = fs::metadata(path) {
        fs::set_permissions(image, existing.permissions()).map_err(failed)?;
    }
    File::open(image).and_then(|file| file.sync_all()).map_err(failed)?;
    match fs::rename(image, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let copy = Scratch::in_folder(folder)?;
            let source = File::open(image).map_err(failed)?;
            sparse::copy(&source, copy.as_file()).map_err(failed)?;
            let permissions = fs::metadata(image).map_err(failed)?.permissions();
            fs::set_permissions(copy.path(), permissions).map_err(failed)?;
            copy.as_file().sync_all().map_err(failed)?;
            copy.persist(path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error).into()),
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn another_file_system_gets_a_sparse_copy() {
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
    fn an_image_that_a_machine_runs_from_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("a.img"), folder.path().join("new"));
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
