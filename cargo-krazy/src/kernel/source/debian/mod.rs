//! Kernels from the Debian archive: pre-compiled, signed, and the same for every build until asked otherwise.
//!
//! ```text
//! InRelease ─signature→ Packages.xz ─hash→ meta package → kernel package ─hash→ .deb → bundle
//!     └── only to find the newest; a locked kernel starts here ──────────────┘
//! ```

mod error;
mod mirror;
mod packages;
mod product;
mod release;
mod signature;
mod version;

use std::io::{BufReader, Read};
use std::time::SystemTime;

use lzma_rust2::XzReader;

#[cfg(test)]
pub(crate) use self::signature::testing;
pub(crate) use self::signature::{Keyring, SignatureError};
pub(crate) use self::version::compare as compare_versions;

use self::error::{ArchiveError, Distrust, RequestError};
use self::packages::Package;
pub(crate) use self::product::Product;
use self::release::Release;
use crate::board::Board;
use crate::failure::{Exit, Failure, Result};
use crate::kernel::bundle::archive::Archive;
use crate::kernel::files::{MAX_FILE, MAX_UNPACKED, io_failure};
use crate::kernel::source::cache::KernelCache;
use crate::kernel::source::download::{DownloadError, Expected, Fetcher};
use crate::lock_file::{LockFile, LockedPackage, is_pool_path};
use crate::shell::Shell;

/// The official mirror network.
const OFFICIAL: &str = "https://deb.debian.org";

/// Bytes of an InRelease file at most; trixie's has 140 KB.
const MAX_RELEASE: u64 = 16 << 20;
/// Bytes of a compressed Packages file at most; trixie's has 10 MB.
const MAX_PACKAGES: u64 = 256 << 20;
/// Bytes of a kernel package at most; trixie's has 108 MB.
const MAX_DEB: u64 = 2 << 30;

/// A configured package of Debian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'r> {
    /// The meta package.
    pub(crate) package: &'r str,
    /// The suite's name.
    pub(crate) suite: &'r str,
    /// A mirror's base URL, if one is configured.
    pub(crate) mirror: Option<&'r str>,
}

/// Returns the kernel or firmware of `request` for `board`: locked and cached, or locked and fetched, or resolved anew and
/// locked.
pub(crate) fn obtain<P: Product>(
    request: Request<'_>,
    board: &Board,
    lock: &mut LockFile,
    cache: &KernelCache,
    offline: bool,
    shell: Shell,
) -> Result<P> {
    let locked = lock.package(board.name, request.suite, request.package).cloned();
    if let Some(locked) = &locked
        && let Some(product) = P::find(cache, &locked.sha256, board.debian_arch)?
    {
        return Ok(product);
    }
    if locked.is_none() && lock.is_frozen() {
        return Err(ArchiveError::NotLocked {
            what: P::WHAT,
            board: board.name,
            package: request.package.to_owned(),
            suite: request.suite.to_owned(),
            lock_file: lock.path().to_owned(),
        }
        .into());
    }
    if offline {
        return Err(offline_error(P::WHAT, locked, request, board).into());
    }
    let mirrors = mirror::candidates(request.mirror, request.suite)?;
    let archive =
        DebianArchive { mirrors, keyring: Keyring::debian()?, fetcher: Fetcher::new(shell)?, shell };
    archive.obtain(request, locked, board, lock, cache)
}

/// Returns the newest kernel or firmware that `request` stands for, without downloading it. Its release is taken from its
/// name or version.
pub(crate) fn newest<P: Product>(request: Request<'_>, board: &Board, shell: Shell) -> Result<LockedPackage> {
    let mirrors = mirror::candidates(request.mirror, request.suite)?;
    let archive =
        DebianArchive { mirrors, keyring: Keyring::debian()?, fetcher: Fetcher::new(shell)?, shell };
    archive.newest::<P>(request, board)
}

fn offline_error(
    what: &'static str,
    locked: Option<LockedPackage>,
    request: Request<'_>,
    board: &Board,
) -> ArchiveError {
    let board = board.name;
    match locked {
        Some(LockedPackage { name, version, .. }) => ArchiveError::NotCached { what, board, name, version },
        None => ArchiveError::Offline {
            what,
            board,
            package: request.package.to_owned(),
            suite: request.suite.to_owned(),
        },
    }
}

fn locked_kernel(request: Request<'_>, board: &Board, package: Package) -> LockedPackage {
    LockedPackage {
        board: board.name.to_owned(),
        package: request.package.to_owned(),
        suite: request.suite.to_owned(),
        release: match package.name.strip_prefix("linux-image-") {
            Some(release) => release.to_owned(),
            None => package.version.clone(),
        },
        name: package.name,
        version: package.version,
        path: package.path,
        size: package.size,
        sha256: package.sha256,
    }
}

/// The archive as this machine reaches it.
struct DebianArchive {
    mirrors: Vec<String>,
    keyring: Keyring,
    fetcher: Fetcher,
    shell: Shell,
}

impl DebianArchive {
    fn obtain<P: Product>(
        &self,
        request: Request<'_>,
        locked: Option<LockedPackage>,
        board: &Board,
        lock: &mut LockFile,
        cache: &KernelCache,
    ) -> Result<P> {
        let mut kernel = match locked {
            Some(kernel) => kernel,
            None => self.newest::<P>(request, board)?,
        };
        let _guard = cache.guard(self.shell)?;
        let product = match P::find(cache, &kernel.sha256, board.debian_arch)? {
            Some(product) => product,
            None => self.fetch::<P>(&kernel, board, lock, cache)?,
        };
        if let Some(release) = product.release() {
            release.clone_into(&mut kernel.release);
        }
        lock.set_package(kernel)?;
        Ok(product)
    }

    fn fetch<P: Product>(
        &self,
        kernel: &LockedPackage,
        board: &Board,
        lock: &LockFile,
        cache: &KernelCache,
    ) -> Result<P> {
        let expected = Expected { size: Some(kernel.size), sha256: kernel.sha256.clone(), limit: MAX_DEB };
        if kernel.size > MAX_DEB {
            return Err(ArchiveError::TooLarge { name: kernel.name.clone(), bytes: kernel.size }.into());
        }
        let file = cache.download(&kernel.sha256)?;
        self.shell.status("Fetching", format!("{} {} from Debian", kernel.name, kernel.version));
        let fetched = self.on_a_mirror(|mirror| {
            self.fetcher.to_file(&format!("{mirror}/{}", kernel.path), &file, &expected)
        });
        fetched.map_err(|error| match error {
            DownloadError::NotFound { url, .. } => ArchiveError::Gone {
                what: P::WHAT,
                name: kernel.name.clone(),
                version: kernel.version.clone(),
                url,
                lock_file: lock.path().to_owned(),
            }
            .into(),
            other => Failure::from(other),
        })?;
        let origin = format!("Debian {} {} {}", kernel.suite, kernel.name, kernel.version);
        let archive = Archive::open(&file)?;
        let product = P::insert(cache, &kernel.sha256, board.debian_arch, &archive, &origin, self.shell)?;
        std::fs::remove_file(&file).map_err(io_failure("remove", &file))?;
        Ok(product)
    }

    fn newest<P: Product>(&self, request: Request<'_>, board: &Board) -> Result<LockedPackage> {
        Ok(locked_kernel(request, board, self.resolve::<P>(request, board.debian_arch)?))
    }

    /// Returns the package with the newest kernel.
    fn resolve<P: Product>(&self, request: Request<'_>, arch: &str) -> Result<Package> {
        if !is_pool_path(request.suite) || request.suite.contains('/') {
            return Err(RequestError::Suite { suite: request.suite.to_owned() }.into());
        }
        let mut last = None;
        for (at, mirror) in self.mirrors.iter().enumerate() {
            match self.resolve_on::<P>(mirror, request, arch) {
                Ok(package) => return Ok(package),
                // A name that is wrong on one mirror is wrong on all.
                Err(error) if matches!(error.exit(), Exit::Config | Exit::Interrupted) => {
                    return Err(error);
                }
                Err(error) => {
                    if let Some(next) = self.mirrors.get(at + 1) {
                        self.shell.note(format!("{error}; trying {next}"));
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| ArchiveError::NoMirror.into()))
    }

    fn resolve_on<P: Product>(&self, mirror: &str, request: Request<'_>, arch: &str) -> Result<Package> {
        let base = format!("{mirror}/dists/{}", request.suite);
        let release_url = format!("{base}/InRelease");
        let signed = self.fetcher.to_memory(&release_url, MAX_RELEASE, None)?;
        let release = self
            .verified(&signed, request.suite)
            .map_err(|why| ArchiveError::Refused { url: release_url, why })?;
        let path = format!("{}/binary-{arch}/Packages.xz", P::COMPONENT);
        let index = release
            .file(&path)
            .ok_or_else(|| ArchiveError::NoIndex { suite: request.suite.to_owned(), path: path.clone() })?;
        let expected = Expected { size: Some(index.size), sha256: index.sha256.clone(), limit: MAX_PACKAGES };
        let name = if release.by_hash { index.by_hash() } else { path.clone() };
        let url = format!("{base}/{name}");
        let compressed = self.fetcher.to_memory(&url, MAX_PACKAGES.min(index.size), Some(&expected))?;
        // The hash is right, so this is the archive's own file; the limits hold all the same.
        let text = XzReader::new_mem_limit(&compressed[..], true, (MAX_FILE >> 10) as u32);
        let packages = packages::packages(BufReader::new(text.take(MAX_UNPACKED)), P::prefix(request));
        let packages = packages.map_err(|error| ArchiveError::Index { url, error })?;
        let package = packages::resolve(&packages, request.package, request.suite)?;
        self.shell
            .verbose("Resolved", format!("{} to {} {}", request.package, package.name, package.version));
        Ok(package.clone())
    }

    /// Reads an `InRelease` whose signature holds.
    fn verified(&self, signed: &[u8], suite: &str) -> Result<Release, Distrust> {
        let now = SystemTime::now();
        let text = self.keyring.signed_text(str::from_utf8(signed)?, now)?;
        Ok(Release::parse(&text, suite, now)?)
    }

    /// Runs `action` on one mirror after the other until it succeeds. Returns the last one's error if all fail.
    fn on_a_mirror(&self, action: impl Fn(&str) -> Result<(), DownloadError>) -> Result<(), DownloadError> {
        let mut result = Ok(());
        for mirror in &self.mirrors {
            result = action(mirror);
            match &result {
                Ok(()) | Err(DownloadError::Local(_)) => break,
                Err(error) => self.shell.verbose("Failed", error.to_string()),
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;
