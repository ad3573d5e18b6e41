//! Where an appliance's kernel comes from, and what is in it.
//!
//! [`obtain`] turns a configured source into a [`KernelBundle`] on this machine. Whatever the source, the result
//! is the same: a kernel image, a folder of uncompressed modules, and a [`ModuleIndex`] that answers which
//! modules an image needs. A source that was used before costs a few milliseconds and no network.
//!
//! # A bundle of one's own
//!
//! A `path` or `url` source is a Debian kernel package (`.deb`), or a folder or tar archive (plain, zstd, xz) of
//! this layout, of which only the image must be there:
//!
//! ```text
//! vmlinuz                          bzImage (x86) or Image (arm64)
//! config                           the configuration it was built with
//! lib/modules/RELEASE/kernel/…     modules, plain or compressed with xz or zstd
//! lib/modules/RELEASE/modules.builtin
//! dtbs/VENDOR/BOARD.dtb            device trees
//! firmware/…                       as in /lib/firmware
//! ```
//!
//! That is what `make install`, `modules_install` and `dtbs_install` make, with the image renamed. A kernel
//! image alone, with everything built in, works as well.

mod archive;
pub mod build;
mod bundle;
mod cache;
mod debian;
mod download;
mod firmware;
mod image;
mod inventory;
pub mod lock;
mod modinfo;
mod modules;
mod selection;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unpack;
mod update;

use std::io;
use std::path::Path;

pub(crate) use archive::sorted_entries;
pub use bundle::KernelBundle;
pub use cache::{CacheGuard, KernelCache};
pub use debian::{Request as DebianRequest, newest as newest_debian};
pub use download::{DownloadError, Expected, Fetcher};
pub use firmware::BootFirmware;
pub use inventory::{CachedKernel, Inventory, LockedEntry};
pub use lock::{KernelLock, LockedKernel};
pub use modinfo::Module;
pub use modules::ModuleIndex;
pub use selection::Selection;
pub use update::{Change, Update};

use crate::board::{Board, Boot};
use crate::config::{Appliance, DEFAULT_SUITE, KernelSource};
use crate::failure::{Exit, Failure};
use crate::shell::Shell;
use krazy_boot::digest::is_sha256;

/// Bytes of a single file in a bundle at most. The largest module of trixie, amdgpu, has 28 MB.
const MAX_FILE: u64 = 256 << 20;
/// Bytes of an unpacked archive at most. Trixie's amd64 package has 112 MB before modules are uncompressed.
const MAX_UNPACKED: u64 = 4 << 30;
/// Bytes of a download from an URL at most.
const MAX_DOWNLOAD: u64 = 4 << 30;

/// The kernel of `appliance`, through the user's cache and the workspace's lock file.
pub fn of_appliance(appliance: &Appliance, shell: Shell) -> anyhow::Result<KernelBundle> {
    let mut lock = KernelLock::load(&appliance.workspace_root)?.frozen(appliance.locked);
    let cache = KernelCache::of_user()?;
    obtain(&appliance.kernel, appliance.board, &mut lock, &cache, appliance.offline, shell)
}

/// The firmware that `appliance`'s board starts with, if it needs any on `/boot`: that of the default suite, locked
/// like a kernel.
pub fn firmware_of_appliance(appliance: &Appliance, shell: Shell) -> anyhow::Result<Option<BootFirmware>> {
    let Some(request) = firmware_request(appliance.board) else { return Ok(None) };
    let mut lock = KernelLock::load(&appliance.workspace_root)?.frozen(appliance.locked);
    let cache = KernelCache::of_user()?;
    debian::obtain(request, appliance.board, &mut lock, &cache, appliance.offline, shell).map(Some)
}

/// What is looked for in the archive for the firmware of `board`.
pub fn firmware_request(board: &Board) -> Option<DebianRequest<'static>> {
    match board.boot {
        Boot::Bios => None,
        Boot::RaspberryPi { firmware, .. } => {
            Some(DebianRequest { package: firmware, suite: DEFAULT_SUITE, mirror: None })
        }
    }
}

/// The kernel of `source` for `board`, from the cache where it is there.
///
/// A Debian kernel is the one in `lock`; if there is none, the newest is looked up, and entered into the file
/// of `lock`. `offline` forbids every access to the network.
pub fn obtain(
    source: &KernelSource,
    board: &Board,
    lock: &mut KernelLock,
    cache: &KernelCache,
    offline: bool,
    shell: Shell,
) -> anyhow::Result<KernelBundle> {
    match source {
        KernelSource::Debian { package, suite, mirror } => {
            let request = DebianRequest { package, suite, mirror: mirror.as_deref() };
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
) -> anyhow::Result<KernelBundle> {
    let sha256 = sha256.to_ascii_lowercase();
    if !is_sha256(&sha256) {
        return Err(Failure::new(Exit::Config, format!("`sha256` of the kernel {url} is not 64 hex digits"))
            .help("`sha256sum FILE` prints it")
            .into());
    }
    let arch = board.debian_arch;
    if let Some(bundle) = cache.find(&sha256, arch)? {
        return Ok(bundle);
    }
    if offline {
        let message = format!("the kernel {url} is not in the cache, and --offline forbids to fetch it");
        return Err(Failure::new(Exit::Fetch, message).help("run once without --offline").into());
    }
    fetch_url(url, &sha256, arch, cache, &Fetcher::new(shell)?, shell)
}

fn fetch_url(
    url: &str,
    sha256: &str,
    arch: &str,
    cache: &KernelCache,
    fetcher: &Fetcher,
    shell: Shell,
) -> anyhow::Result<KernelBundle> {
    let _guard = cache.guard(shell)?;
    // Another process may have fetched it while we waited.
    if let Some(bundle) = cache.find(sha256, arch)? {
        return Ok(bundle);
    }
    let file = cache.download(sha256)?;
    shell.status("Fetching", url);
    let expected = Expected { size: None, sha256: sha256.to_owned(), limit: MAX_DOWNLOAD };
    fetcher.to_file(url, &file, &expected).map_err(DownloadError::into_failure)?;
    let bundle = cache.insert(sha256, arch, &archive::Archive::open(&file)?, url, shell)?;
    std::fs::remove_file(&file).map_err(io_failure("remove", &file))?;
    Ok(bundle)
}

/// Turns an I/O error into a failure that says what failed and where.
fn io_failure<'p>(verb: &'p str, path: &'p Path) -> impl Fn(io::Error) -> Failure + 'p {
    move |error| {
        let failure = Failure::new(Exit::Fetch, format!("failed to {verb} {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::StorageFull => {
                failure.help("make room, or set KRAZY_CACHE_DIR to a folder on a larger disk")
            }
            io::ErrorKind::PermissionDenied => failure.help("check the owner and the mode of the path"),
            _ => failure,
        }
    }
}
