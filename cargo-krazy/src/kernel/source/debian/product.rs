//! The products that packages of the archive are unpacked into.

use super::Request;
use crate::failure::Result;
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::archive::Archive;
use crate::kernel::bundle::firmware::BootFirmware;
use crate::kernel::source::cache::KernelCache;
use crate::shell::Shell;

/// The product of a package on this machine: a kernel, or the firmware that starts one.
pub(crate) trait Product: Sized {
    /// Its kind, for messages.
    const WHAT: &'static str;
    /// The archive's component it is in.
    const COMPONENT: &'static str;

    /// Returns the start of the names of its package and of all packages it may stand for.
    fn prefix(request: Request<'_>) -> &str;
    /// Returns the product of the file with this SHA-256 from the cache.
    fn find(cache: &KernelCache, sha256: &str, arch: &str) -> Result<Option<Self>>;
    /// Unpacks a package's `archive` into the cache. The caller holds the cache's guard.
    fn insert(
        cache: &KernelCache,
        sha256: &str,
        arch: &str,
        archive: &Archive,
        origin: &str,
        shell: Shell,
    ) -> Result<Self>;
    /// Returns the release that it names, if it names one.
    fn release(&self) -> Option<&str>;
}

impl Product for KernelBundle {
    const WHAT: &'static str = "kernel";
    const COMPONENT: &'static str = "main";

    fn prefix(_: Request<'_>) -> &str {
        "linux-"
    }

    fn find(cache: &KernelCache, sha256: &str, arch: &str) -> Result<Option<Self>> {
        cache.find(sha256, arch)
    }

    fn insert(
        cache: &KernelCache,
        sha256: &str,
        arch: &str,
        archive: &Archive,
        origin: &str,
        shell: Shell,
    ) -> Result<Self> {
        cache.insert(sha256, arch, archive, origin, shell)
    }

    fn release(&self) -> Option<&str> {
        Some(&self.release)
    }
}

impl Product for BootFirmware {
    const WHAT: &'static str = "firmware";
    const COMPONENT: &'static str = "non-free-firmware";

    fn prefix(request: Request<'_>) -> &str {
        request.package
    }

    fn find(cache: &KernelCache, sha256: &str, _arch: &str) -> Result<Option<Self>> {
        Ok(cache.firmware(sha256))
    }

    fn insert(
        cache: &KernelCache,
        sha256: &str,
        _arch: &str,
        archive: &Archive,
        origin: &str,
        shell: Shell,
    ) -> Result<Self> {
        cache.insert_firmware(sha256, archive, origin, shell)
    }

    fn release(&self) -> Option<&str> {
        None
    }
}
