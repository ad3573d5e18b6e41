//! The kernels this machine has: unpacked once, used by every project.
//!
//! ```text
//! CACHE/kernel/lock            held while something is added
//! CACHE/kernel/downloads/      what arrives; kept when interrupted, removed when unpacked
//! CACHE/kernel/firmware/SHA256/ boot firmware
//! CACHE/kernel/bundles/KEY/    one bundle each, complete since it got its name
//! CACHE/kernel/sources/, builds/   what kernels of one's own are built in; see [`super::build`]
//! ```
//!
//! KEY is the SHA-256 of what was unpacked, or a hash of its path for `path` sources, with the architecture.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure};
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::archive::Archive;
use crate::kernel::bundle::firmware::{self, BootFirmware};
use crate::kernel::bundle::unpack::unpack;
use crate::kernel::files::io_failure;
use crate::kernel::files::sorted_entries;
use crate::shell::Shell;
use crate::user_directories;
use krazy_boot::digest::hex;

/// What the names of unfinished bundles begin with.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// A folder of kernels.
#[derive(Clone, Debug)]
pub(crate) struct KernelCache {
    folder: PathBuf,
}

/// Keeps other processes from changing a part of the cache until it is dropped.
#[derive(Debug)]
pub(crate) struct CacheGuard {
    _file: File,
}

impl KernelCache {
    /// The cache in `folder`, which holds other caches of this program too.
    pub(crate) fn new(folder: impl AsRef<Path>) -> Self {
        KernelCache { folder: folder.as_ref().join("kernel") }
    }

    /// The user's cache: `$KRAZY_CACHE_DIR`, else `$XDG_CACHE_HOME/krazy`, else `~/.cache/krazy`.
    pub(crate) fn of_user() -> anyhow::Result<Self> {
        Ok(KernelCache::new(user_directories::CACHE.find()?))
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until no other process adds to the cache, and keeps it so.
    pub(crate) fn guard(&self, shell: Shell) -> anyhow::Result<CacheGuard> {
        std::fs::create_dir_all(&self.folder).map_err(io_failure("create", &self.folder))?;
        exclusive(&self.folder.join("lock"), "fetches a kernel", shell)
    }

    /// The file a download with this SHA-256 goes to.
    pub(crate) fn download(&self, sha256: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("downloads");
        std::fs::create_dir_all(&folder).map_err(io_failure("create", &folder))?;
        Ok(folder.join(sha256))
    }

    /// The bundle made of the file with this SHA-256.
    pub(crate) fn find(&self, sha256: &str, arch: &str) -> anyhow::Result<Option<KernelBundle>> {
        KernelBundle::open(&self.bundle_folder(sha256, arch), None)
    }

    /// Unpacks `archive`, whose file has this SHA-256. The caller holds the [`CacheGuard`].
    pub(crate) fn insert(
        &self,
        sha256: &str,
        arch: &str,
        archive: &Archive,
        origin: &str,
        shell: Shell,
    ) -> anyhow::Result<KernelBundle> {
        self.make(&self.bundle_folder(sha256, arch), arch, archive, origin, None, shell)
    }

    /// The bundle of a file or folder on this machine; remade when that has changed, by its size and time.
    pub(crate) fn of_path(&self, path: &Path, arch: &str, shell: Shell) -> anyhow::Result<KernelBundle> {
        let path = std::fs::canonicalize(path).map_err(|error| {
            Failure::new(Exit::Fetch, format!("failed to read the kernel {}: {error}", path.display())).help(
                "`path` of the kernel is a folder, a .deb, a .tar.zst or a kernel image; see the README",
            )
        })?;
        let mut hasher = Sha256::new();
        fingerprint(&path, &mut hasher)?;
        let fingerprint = hex(&hasher.finalize());
        let folder = self.bundle_folder(&Self::path_key(&path), arch);
        if let Some(bundle) = KernelBundle::open(&folder, Some(&fingerprint))? {
            return Ok(bundle);
        }
        let _guard = self.guard(shell)?;
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let origin = format!("path {}", file_name.unwrap_or_default());
        self.make(&folder, arch, &Archive::open(&path)?, &origin, Some(&fingerprint), shell)
    }

    /// Returns the boot firmware made of the file with this SHA-256.
    pub(super) fn firmware(&self, sha256: &str) -> Option<BootFirmware> {
        BootFirmware::open(&self.firmwares().join(sha256))
    }

    /// Unpacks `archive`, whose file has this SHA-256. The caller holds the [`CacheGuard`].
    pub(super) fn insert_firmware(
        &self,
        sha256: &str,
        archive: &Archive,
        origin: &str,
        shell: Shell,
    ) -> anyhow::Result<BootFirmware> {
        let folder = self.firmwares().join(sha256);
        self.complete(&folder, origin, shell, |new| firmware::unpack(archive, new, origin))?;
        BootFirmware::open(&folder).ok_or_else(|| vanished(&folder).into())
    }

    fn firmwares(&self) -> PathBuf {
        self.folder.join("firmware")
    }

    /// The KEY of what is made of `path`, which is canonical.
    pub(super) fn path_key(path: &Path) -> String {
        let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
        format!("path-{}", hex(&hash[..16]))
    }

    /// The folder of the trees that kernels are built from.
    pub(crate) fn sources(&self) -> PathBuf {
        self.folder.join("sources")
    }

    /// The folder of what builds compile.
    pub(crate) fn builds(&self) -> PathBuf {
        self.folder.join("builds")
    }

    /// The folder of all bundles.
    pub(super) fn bundles(&self) -> PathBuf {
        self.folder.join("bundles")
    }

    fn bundle_folder(&self, key: &str, arch: &str) -> PathBuf {
        self.bundles().join(format!("{key}-{arch}"))
    }

    fn make(
        &self,
        folder: &Path,
        arch: &str,
        archive: &Archive,
        origin: &str,
        fingerprint: Option<&str>,
        shell: Shell,
    ) -> anyhow::Result<KernelBundle> {
        self.complete(folder, origin, shell, |new| {
            let unpacked = unpack(archive, new, arch, origin)?;
            KernelBundle::describe(new, &unpacked, origin, fingerprint)
        })?;
        KernelBundle::open(folder, fingerprint)?.ok_or_else(|| vanished(folder).into())
    }

    /// Makes `folder` with the content that `unpack` puts into an unfinished one beside it; a rename completes it, so
    /// that it is there wholly or not at all. What it replaces is removed.
    fn complete(
        &self,
        folder: &Path,
        origin: &str,
        shell: Shell,
        unpack: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let parent = folder.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(parent).map_err(io_failure("create", parent))?;
        remove_unfinished(parent)?;
        shell.status("Unpacking", origin);
        let new = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(parent)
            .map_err(io_failure("write", parent))?;
        unpack(new.path())?;
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(io_failure("remove", folder))?;
        }
        std::fs::rename(new.path(), folder).map_err(io_failure("write", folder))?;
        // It has another name now, under which the guard must not remove it.
        let _renamed = new.keep();
        Ok(())
    }
}

fn vanished(folder: &Path) -> Failure {
    Failure::new(Exit::Fetch, format!("{} vanished while it was made", folder.display()))
}

/// Waits until no other process that `does` something holds the lock file `path`, and holds it.
pub(crate) fn exclusive(path: &Path, does: &str, shell: Shell) -> anyhow::Result<CacheGuard> {
    let file = File::create(path).map_err(io_failure("write", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            shell.status("Blocking", format!("waiting for another process that {does}"));
            file.lock().map_err(io_failure("lock", path))?;
        }
        Err(TryLockError::Error(error)) => return Err(io_failure("lock", path)(error).into()),
    }
    Ok(CacheGuard { _file: file })
}

/// Removes what killed processes left behind. The caller holds the guard, so nobody else is at work.
pub(crate) fn remove_unfinished(bundles: &Path) -> anyhow::Result<()> {
    for (name, path, _) in sorted_entries(bundles)? {
        if name.starts_with(UNFINISHED) {
            std::fs::remove_dir_all(&path).map_err(io_failure("remove", &path))?;
        }
    }
    Ok(())
}

/// Sizes, times and names of a file or of everything in a folder.
fn fingerprint(path: &Path, hasher: &mut Sha256) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(path).map_err(io_failure("read", path))?;
    if !metadata.is_dir() {
        stamp(path, &metadata, hasher);
        return Ok(());
    }
    for (_, path, metadata) in sorted_entries(path)? {
        if metadata.is_dir() {
            fingerprint(&path, hasher)?;
        } else {
            stamp(&path, &metadata, hasher);
        }
    }
    Ok(())
}

fn stamp(path: &Path, metadata: &std::fs::Metadata, hasher: &mut Sha256) {
    hasher.update(path.as_os_str().as_encoded_bytes());
    for number in [metadata.len(), metadata.ino(), metadata.mtime() as u64, metadata.mtime_nsec() as u64] {
        hasher.update(number.to_le_bytes());
    }
    hasher.update([0]);
}
