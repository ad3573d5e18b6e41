//! The origin of a kernel: Debian's archive, a URL with its SHA-256, or a path on this machine.
//!
//! [`obtain`] turns a configured source into a [`KernelBundle`] in the user's cache. Whatever the source, the result
//! is the same. A source that was used before costs a few milliseconds and no network.

pub(crate) mod cache;
pub(crate) mod debian;
mod error;
mod inventory;
#[cfg(test)]
mod tests;
mod update;

use std::path::Path;

use krazy_boot::digest::is_sha256;

use self::cache::KernelCache;
use self::debian::Request;
use self::error::SourceError;
pub(crate) use self::inventory::Inventory;
pub(crate) use self::update::{Change, Update};
use super::bundle::KernelBundle;
use super::bundle::archive::Archive;
use super::bundle::firmware::BootFirmware;
use crate::board::{Board, Boot};
use crate::config::{Appliance, DEFAULT_SUITE, KernelSource};
use crate::download::{Expected, Fetcher, verify_file};
use crate::failure::Result;
use crate::files::io_failure;
use crate::lock_file::LockFile;
use crate::shell::Shell;

/// Bytes of a download from an URL at most.
const MAX_DOWNLOAD: u64 = 4 << 30;

/// Returns the kernel of `appliance`, through the user's cache and the workspace's lock file.
pub(crate) fn of_appliance(appliance: &Appliance, shell: Shell) -> Result<KernelBundle> {
    let mut lock = LockFile::load(&appliance.workspace_root)?.frozen(appliance.locked);
    let cache = KernelCache::of_appliance(appliance)?;
    obtain(&appliance.kernel, appliance.board, &mut lock, &cache, appliance.offline, shell)
        .map_err(|failure| appliance.origins.locate(&[&["kernel"]], failure))
}

/// Returns the firmware that `appliance`'s board starts with, if it needs any on `/boot`: that of the default suite, locked
/// like a kernel.
pub(crate) fn firmware_of_appliance(appliance: &Appliance, shell: Shell) -> Result<Option<BootFirmware>> {
    let Some(request) = firmware_request(appliance.board) else { return Ok(None) };
    let mut lock = LockFile::load(&appliance.workspace_root)?.frozen(appliance.locked);
    let cache = KernelCache::of_appliance(appliance)?;
    debian::obtain(request, appliance.board, &mut lock, &cache, appliance.offline, shell).map(Some)
}

/// Downloads the kernel of `appliance`, and the firmware of its board, to `directory`, as files named by their SHA-256. A
/// kernel on this machine is left where it is.
pub(crate) fn vendor(appliance: &Appliance, directory: &Path, shell: Shell) -> Result<()> {
    let mut lock = LockFile::load(&appliance.workspace_root)?.frozen(appliance.locked);
    let board = appliance.board;
    let kernel = match &appliance.kernel {
        KernelSource::Debian { package, suite, mirror } => {
            let request = Request { package, suite, mirror: mirror.as_deref() };
            debian::vendor::<KernelBundle>(request, board, &mut lock, directory, shell)
        }
        KernelSource::Url { url, sha256 } => vendor_url(url, sha256, directory, shell),
        KernelSource::Path(_) => Ok(()),
    };
    kernel.map_err(|failure| appliance.origins.locate(&[&["kernel"]], failure))?;
    match firmware_request(board) {
        Some(request) => debian::vendor::<BootFirmware>(request, board, &mut lock, directory, shell),
        None => Ok(()),
    }
}

fn vendor_url(url: &str, sha256: &str, directory: &Path, shell: Shell) -> Result<()> {
    let expected = expected(url, sha256)?;
    let file = directory.join(&expected.sha256);
    if file.is_file() {
        return Ok(verify_file(&file, &expected)?);
    }
    shell.status("Fetching", url);
    Ok(Fetcher::new(shell)?.to_file(url, &file, &expected)?)
}

/// Returns the package of the firmware of `board`.
pub(crate) fn firmware_request(board: &Board) -> Option<Request<'static>> {
    match board.boot {
        Boot::Pc { .. } => None,
        Boot::RaspberryPi { firmware, .. } => {
            Some(Request { package: firmware, suite: DEFAULT_SUITE, mirror: None })
        }
    }
}

/// Returns the kernel of `source` for `board`, from the cache if it is there.
///
/// A Debian kernel is the one in `lock`; if there is none, the newest is looked up, and entered into the file
/// of `lock`. `offline` forbids every access to the network.
pub(crate) fn obtain(
    source: &KernelSource,
    board: &Board,
    lock: &mut LockFile,
    cache: &KernelCache,
    offline: bool,
    shell: Shell,
) -> Result<KernelBundle> {
    match source {
        KernelSource::Debian { package, suite, mirror } => {
            let request = Request { package, suite, mirror: mirror.as_deref() };
            debian::obtain(request, board, lock, cache, offline, shell)
        }
        KernelSource::Url { url, sha256 } => from_url(url, sha256, board, cache, offline, shell),
        KernelSource::Path(path) => cache.of_path(path, board.debian_arch, shell),
    }
}

fn from_url(
    url: &str,
    sha256: &str,
    board: &Board,
    cache: &KernelCache,
    offline: bool,
    shell: Shell,
) -> Result<KernelBundle> {
    let expected = expected(url, sha256)?;
    let arch = board.debian_arch;
    if let Some(bundle) = cache.find(&expected.sha256, arch)? {
        return Ok(bundle);
    }
    if let Some(file) = cache.vendored(&expected)? {
        let _guard = cache.guard(shell)?;
        return cache.insert(&expected.sha256, arch, &Archive::open(&file)?, url, shell);
    }
    if offline {
        return Err(SourceError::NotCached { url: url.to_owned() }.into());
    }
    fetch_url(url, &expected, arch, cache, &Fetcher::new(shell)?, shell)
}

fn expected(url: &str, sha256: &str) -> Result<Expected, SourceError> {
    let sha256 = sha256.to_ascii_lowercase();
    if !is_sha256(&sha256) {
        return Err(SourceError::Checksum { url: url.to_owned() });
    }
    Ok(Expected { size: None, sha256, limit: MAX_DOWNLOAD })
}

fn fetch_url(
    url: &str,
    expected: &Expected,
    arch: &str,
    cache: &KernelCache,
    fetcher: &Fetcher,
    shell: Shell,
) -> Result<KernelBundle> {
    let sha256 = &expected.sha256;
    let _guard = cache.guard(shell)?;
    // Another process may have fetched it while we waited.
    if let Some(bundle) = cache.find(sha256, arch)? {
        return Ok(bundle);
    }
    let file = cache.download(sha256)?;
    shell.status("Fetching", url);
    fetcher.to_file(url, &file, expected)?;
    let bundle = cache.insert(sha256, arch, &Archive::open(&file)?, url, shell)?;
    std::fs::remove_file(&file).map_err(io_failure("remove", &file))?;
    Ok(bundle)
}
