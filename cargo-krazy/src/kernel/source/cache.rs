//! The kernels this machine has: unpacked once, used by every project.
//!
//! ```text
//! CACHE/kernel/lock            held while something is added
//! CACHE/kernel/downloads/      downloads; kept when interrupted, removed when unpacked
//! CACHE/kernel/firmware/SHA256/ boot firmware
//! CACHE/kernel/bundles/KEY/    one bundle each, complete since it got its name
//! CACHE/kernel/sources/, builds/   source trees and build directories; see [`super::build`]
//! ```
//!
//! KEY is the SHA-256 of what was unpacked, or a hash of its path for `path` sources, with the architecture.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::SourceError;
use crate::cache::{self, CacheGuard};
use crate::config::Appliance;
use crate::download::Expected;
use crate::failure::Result;
use crate::files::{io_failure, sorted_entries};
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::archive::Archive;
use crate::kernel::bundle::firmware::{self, BootFirmware};
use crate::kernel::bundle::unpack::unpack;
use crate::shell::Shell;
use crate::toolchain::Environment;
use crate::user_directories;
use crate::vendored::Vendored;
use krazy_boot::digest::hex;

/// A directory of kernels.
#[derive(Clone, Debug)]
pub(crate) struct KernelCache {
    directory: PathBuf,
    vendored: Option<Vendored>,
}

impl KernelCache {
    /// The cache in `directory`, which holds other caches of this program too.
    pub(crate) fn new(directory: impl AsRef<Path>) -> Self {
        KernelCache { directory: directory.as_ref().join("kernel"), vendored: None }
    }

    /// The user's cache: `$KRAZY_CACHE_DIR`, else `$XDG_CACHE_HOME/krazy`, else `~/.cache/krazy`.
    pub(crate) fn of_user() -> Result<Self> {
        Ok(KernelCache::new(user_directories::CACHE.find()?))
    }

    /// The user's cache, and what was vendored for `appliance`.
    pub(crate) fn of_appliance(appliance: &Appliance) -> Result<Self> {
        let package = appliance.manifest_path.parent().unwrap_or(Path::new("."));
        let vendored = Vendored::find(package, Environment::current().cargo_home().as_deref());
        Ok(KernelCache { vendored, ..KernelCache::of_user()? })
    }

    /// Returns the file of a download, verified, if it was vendored.
    pub(super) fn vendored(&self, expected: &Expected) -> Result<Option<PathBuf>> {
        Ok(self.vendored.as_ref().map(|vendored| vendored.download(expected)).transpose()?.flatten())
    }

    /// Its path.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until no other process adds to the cache, and keeps it so.
    pub(crate) fn guard(&self, shell: Shell) -> Result<CacheGuard> {
        std::fs::create_dir_all(&self.directory).map_err(io_failure("create", &self.directory))?;
        cache::exclusive(&self.directory.join("lock"), "fetches a kernel", shell)
    }

    /// The file a download with this SHA-256 goes to.
    pub(crate) fn download(&self, sha256: &str) -> Result<PathBuf> {
        let directory = self.directory.join("downloads");
        std::fs::create_dir_all(&directory).map_err(io_failure("create", &directory))?;
        Ok(directory.join(sha256))
    }

    /// The bundle made of the file with this SHA-256.
    pub(crate) fn find(&self, sha256: &str, arch: &str) -> Result<Option<KernelBundle>> {
        KernelBundle::open(&self.bundle_directory(sha256, arch), None)
    }

    /// Unpacks `archive`, whose file has this SHA-256. The caller holds the [`CacheGuard`].
    pub(crate) fn insert(
        &self,
        sha256: &str,
        arch: &str,
        archive: &Archive,
        origin: &str,
        shell: Shell,
    ) -> Result<KernelBundle> {
        self.make(&self.bundle_directory(sha256, arch), arch, archive, origin, None, shell)
    }

    /// The bundle of a file or directory on this machine; remade when that has changed, by its size and time.
    pub(crate) fn of_path(&self, path: &Path, arch: &str, shell: Shell) -> Result<KernelBundle> {
        let path = std::fs::canonicalize(path)
            .map_err(|error| SourceError::Path { path: path.to_owned(), error })?;
        let mut hasher = Sha256::new();
        fingerprint(&path, &mut hasher)?;
        let fingerprint = hex(&hasher.finalize());
        let directory = self.bundle_directory(&Self::path_key(&path), arch);
        if let Some(bundle) = KernelBundle::open(&directory, Some(&fingerprint))? {
            return Ok(bundle);
        }
        let _guard = self.guard(shell)?;
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let origin = format!("path {}", file_name.unwrap_or_default());
        self.make(&directory, arch, &Archive::open(&path)?, &origin, Some(&fingerprint), shell)
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
    ) -> Result<BootFirmware> {
        let directory = self.firmwares().join(sha256);
        self.complete(&directory, origin, shell, |new| firmware::unpack(archive, new, origin))?;
        BootFirmware::open(&directory).ok_or_else(|| vanished(&directory).into())
    }

    fn firmwares(&self) -> PathBuf {
        self.directory.join("firmware")
    }

    /// The KEY of what is made of `path`, which is canonical.
    pub(super) fn path_key(path: &Path) -> String {
        let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
        format!("path-{}", hex(&hash[..16]))
    }

    /// The directory of the trees that kernels are built from.
    pub(crate) fn sources(&self) -> PathBuf {
        self.directory.join("sources")
    }

    /// The directory of what builds compile.
    pub(crate) fn builds(&self) -> PathBuf {
        self.directory.join("builds")
    }

    /// The directory of all bundles.
    pub(super) fn bundles(&self) -> PathBuf {
        self.directory.join("bundles")
    }

    fn bundle_directory(&self, key: &str, arch: &str) -> PathBuf {
        self.bundles().join(format!("{key}-{arch}"))
    }

    fn make(
        &self,
        directory: &Path,
        arch: &str,
        archive: &Archive,
        origin: &str,
        fingerprint: Option<&str>,
        shell: Shell,
    ) -> Result<KernelBundle> {
        self.complete(directory, origin, shell, |new| {
            let unpacked = unpack(archive, new, arch, origin)?;
            KernelBundle::describe(new, &unpacked, origin, fingerprint)
        })?;
        KernelBundle::open(directory, fingerprint)?.ok_or_else(|| vanished(directory).into())
    }

    /// Fills `directory`, which is there wholly or not at all.
    fn complete(
        &self,
        directory: &Path,
        origin: &str,
        shell: Shell,
        unpack: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        shell.status("Unpacking", origin);
        cache::complete(directory, unpack)
    }
}

fn vanished(directory: &Path) -> SourceError {
    SourceError::Vanished { path: directory.to_owned() }
}

/// Hashes sizes, times and names of a file or of everything in a directory. Not the content: an unchanged source is to
/// cost milliseconds.
fn fingerprint(path: &Path, hasher: &mut Sha256) -> Result<()> {
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
