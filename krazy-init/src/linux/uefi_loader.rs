//! The UEFI loader on `/boot`, renewed from the one in the root: a disk of an earlier version gets it, and a newer one
//! replaces an older.
//!
//! The new loader is complete and durable in the spare file before the names are exchanged, so a power cut leaves one of
//! the two. vfat changes both entries in their one sector; between its two changes both name the same whole loader.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use krazy_boot::boot::uefi_loader::{DIRECTORY, SPARE, version_of};
use rustix::fs::{CWD, RenameFlags};

/// A loader in the root, and its place on `/boot`.
#[derive(Debug)]
pub(crate) struct UefiLoader {
    content: Vec<u8>,
    directory: PathBuf,
    file: PathBuf,
    spare: PathBuf,
}

impl UefiLoader {
    /// Returns the loader in the directory `source` for the file system at `boot`, if it has to be written there.
    pub(crate) fn outdated(source: &Path, boot: &Path) -> io::Result<Option<Self>> {
        let entry = match fs::read_dir(source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?.next().transpose()?,
        };
        let Some(entry) = entry else { return Ok(None) };
        let directory = boot.join(DIRECTORY);
        let loader = UefiLoader {
            content: fs::read(entry.path())?,
            file: directory.join(entry.file_name()),
            spare: directory.join(SPARE),
            directory,
        };
        Ok(if loader.is_needed()? { Some(loader) } else { None })
    }

    /// Returns the version, for messages.
    pub(crate) fn version(&self) -> u16 {
        version_of(&self.content).unwrap_or_default()
    }

    fn is_needed(&self) -> io::Result<bool> {
        let installed = match fs::read(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            installed => installed?,
        };
        // One of a later version starts this build, too. One of the same version that differs is damaged.
        let is_later = version_of(&installed).is_some_and(|version| version > self.version());
        Ok(!is_later && (installed != self.content || !self.spare.exists()))
    }

    /// Writes it. `sync` makes everything on `/boot` durable.
    pub(crate) fn install(&self, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        self.write_spare()?;
        sync()?;
        if self.file.exists() {
            rustix::fs::renameat_with(CWD, &self.spare, CWD, &self.file, RenameFlags::EXCHANGE)?;
        } else {
            fs::rename(&self.spare, &self.file)?;
            self.write_spare()?;
        }
        sync()
    }

    fn write_spare(&self) -> io::Result<()> {
        let mut spare = File::create(&self.spare)?;
        spare.write_all(&self.content)?;
        spare.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krazy_boot::boot::uefi_loader::mark;

    const NAME: &str = "BOOTX64.EFI";

    fn loader(version: u16, seed: u8) -> Vec<u8> {
        let mut content = [&[seed; 3000][..], &mark()].concat();
        let at = content.len() - 2;
        content[at..].copy_from_slice(&version.to_le_bytes());
        content
    }

    struct Device(tempfile::TempDir);

    impl Device {
        fn new(own: Option<&[u8]>) -> Self {
            let device = Device(tempfile::tempdir().unwrap());
            fs::create_dir_all(device.0.path().join("boot")).unwrap();
            if let Some(own) = own {
                fs::create_dir(device.source()).unwrap();
                fs::write(device.source().join(NAME), own).unwrap();
            }
            device
        }

        fn source(&self) -> PathBuf {
            self.0.path().join("uefi")
        }

        /// Renews the loader, and returns both files if there was something to do.
        fn renew(&self) -> Option<[Vec<u8>; 2]> {
            let boot = self.0.path().join("boot");
            let loader = UefiLoader::outdated(&self.source(), &boot).unwrap()?;
            loader.install(|| Ok(())).unwrap();
            Some([NAME, SPARE].map(|name| fs::read(boot.join(DIRECTORY).join(name)).unwrap()))
        }
    }

    #[test]
    fn disk_without_a_loader_gets_it_twice() {
        let own = loader(2, 7);
        let device = Device::new(Some(&own));
        assert_eq!(device.renew(), Some([own.clone(), own]));
        assert_eq!(device.renew(), None);
        assert_eq!(Device::new(None).renew(), None, "an appliance without one");
    }

    #[test]
    fn older_and_damaged_loaders_are_replaced_and_kept_as_the_spare() {
        let own = loader(2, 7);
        let device = Device::new(Some(&own));
        device.renew();
        let file = device.0.path().join("boot").join(DIRECTORY).join(NAME);
        for other in [loader(1, 1), loader(2, 9), b"torn".to_vec()] {
            fs::write(&file, &other).unwrap();
            assert_eq!(device.renew(), Some([own.clone(), other]));
        }
        fs::write(&file, loader(3, 1)).unwrap();
        assert_eq!(device.renew(), None, "a later version stays");
    }

    #[test]
    fn failed_sync_leaves_the_old_loader() {
        let device = Device::new(Some(&loader(2, 7)));
        device.renew();
        let boot = device.0.path().join("boot");
        let file = boot.join(DIRECTORY).join(NAME);
        fs::write(&file, loader(1, 1)).unwrap();
        let newer = UefiLoader::outdated(&device.source(), &boot).unwrap().unwrap();
        assert!(newer.install(|| Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(fs::read(&file).unwrap(), loader(1, 1));
    }
}
