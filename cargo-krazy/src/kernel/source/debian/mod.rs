//! Kernels from the Debian archive: pre-compiled, signed, and the same for every build until asked otherwise.
//!
//! ```text
//! InRelease ─signature→ Packages.xz ─hash→ meta package → kernel packages ─hash→ .deb files → bundle
//!     └── only to find the newest; a locked kernel starts here ───────────────┘
//! ```

mod error;
mod mirror;
pub(crate) mod packages;
mod product;
pub(crate) mod release;
pub(crate) mod signature;
pub(crate) mod version;

use std::io::{BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

use lzma_rust2::XzReader;

#[cfg(test)]
pub(crate) use self::signature::testing;
pub(crate) use self::signature::{Keyring, SignatureError};
pub(crate) use self::version::compare as compare_versions;

use self::error::{ArchiveError, Distrust, RequestError};
use self::mirror::Source;
use self::packages::Package;
pub(crate) use self::product::Product;
use self::release::Release;
use crate::board::Board;
use crate::download::{DownloadError, Expected, Fetcher, verify_file};
use crate::failure::{Exit, Failure, Result};
use crate::files::{MAX_FILE, MAX_UNPACKED, io_failure};
use crate::kernel::bundle::archive::Archive;
use crate::kernel::source::cache::KernelCache;
use crate::lock_file::{LockFile, LockedFile, LockedPackage, is_pool_path};
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
        && let Some(product) = P::find(cache, &locked.cache_key(), board.debian_arch)?
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
    if let Some(locked) = &locked
        && let Some(archive) = vendored(locked, cache)?
    {
        let _guard = cache.guard(shell)?;
        return insert(locked, &archive, board, cache, shell);
    }
    if offline {
        return Err(offline_error(P::WHAT, locked, request, board).into());
    }
    DebianArchive::new(request, shell)?.obtain(request, locked, board, lock, cache)
}

/// Downloads the packages of `request` to DIRECTORY/SHA256: the locked ones, or the newest, which are locked then.
pub(crate) fn vendor<P: Product>(
    request: Request<'_>,
    board: &Board,
    lock: &mut LockFile,
    directory: &Path,
    shell: Shell,
) -> Result<()> {
    let archive = DebianArchive::new(request, shell)?;
    let package = match lock.package(board.name, request.suite, request.package).cloned() {
        Some(locked) => locked,
        None => archive.newest::<P>(request, board)?,
    };
    lock.set_package(package.clone())?;
    for file in package.files() {
        let destination = directory.join(&file.sha256);
        if destination.is_file() {
            verify_file(&destination, &expected(&file))?;
        } else {
            archive.download(&file, package.origin(), &destination, P::WHAT, lock)?;
        }
    }
    Ok(())
}

/// Returns the newest kernel or firmware that `request` stands for, without downloading it. Its release is taken from its
/// name or version.
pub(crate) fn newest<P: Product>(request: Request<'_>, board: &Board, shell: Shell) -> Result<LockedPackage> {
    DebianArchive::new(request, shell)?.newest::<P>(request, board)
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

/// Returns the entry of a kernel or firmware in `first` and the packages beside it.
fn locked_package(
    request: Request<'_>,
    board: &Board,
    (first, others): (Package, Vec<Package>),
) -> LockedPackage {
    LockedPackage {
        board: board.name.to_owned(),
        package: request.package.to_owned(),
        suite: request.suite.to_owned(),
        from: Some(first.suite).filter(|suite| suite != request.suite),
        release: first.name.strip_prefix(packages::IMAGE).unwrap_or(&first.version).to_owned(),
        name: first.name,
        version: first.version,
        path: first.path,
        size: first.size,
        sha256: first.sha256,
        parts: others
            .into_iter()
            .map(|Package { name, version, path, size, sha256, .. }| LockedFile {
                name,
                version,
                path,
                size,
                sha256,
            })
            .collect(),
    }
}

fn expected(file: &LockedFile) -> Expected {
    Expected { size: Some(file.size), sha256: file.sha256.clone(), limit: MAX_DEB }
}

/// Returns the files of `kernel`, if all of them were vendored.
fn vendored(kernel: &LockedPackage, cache: &KernelCache) -> Result<Option<Archive>> {
    let mut packages = Vec::new();
    for file in kernel.files() {
        let Some(path) = cache.vendored(&expected(&file))? else { return Ok(None) };
        packages.push((file.name, path));
    }
    Ok(Some(Archive::Packages(packages)))
}

/// Unpacks the files of a kernel or firmware into the cache. The caller holds the cache's guard.
fn insert<P: Product>(
    kernel: &LockedPackage,
    archive: &Archive,
    board: &Board,
    cache: &KernelCache,
    shell: Shell,
) -> Result<P> {
    let origin = format!("Debian {} {} {}", kernel.origin(), kernel.name, kernel.version);
    P::insert(cache, &kernel.cache_key(), board.debian_arch, archive, &origin, shell)
}

/// The archive as this machine reaches it.
struct DebianArchive {
    /// The configured suite first, then that of its security updates.
    sources: Vec<Source>,
    keyring: Keyring,
    fetcher: Fetcher,
    shell: Shell,
}

impl DebianArchive {
    fn new(request: Request<'_>, shell: Shell) -> Result<Self> {
        if !is_pool_path(request.suite) || request.suite.contains('/') {
            return Err(RequestError::Suite { suite: request.suite.to_owned() }.into());
        }
        let sources = mirror::sources(request.mirror, request.suite)?;
        Ok(DebianArchive { sources, keyring: Keyring::debian()?, fetcher: Fetcher::new(shell)?, shell })
    }

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
        let product = match P::find(cache, &kernel.cache_key(), board.debian_arch)? {
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
        let mut packages = Vec::new();
        for file in kernel.files() {
            let destination = cache.download(&file.sha256)?;
            self.download(&file, kernel.origin(), &destination, P::WHAT, lock)?;
            packages.push((file.name, destination));
        }
        let archive = Archive::Packages(packages);
        let product = insert(kernel, &archive, board, cache, self.shell)?;
        if let Archive::Packages(packages) = &archive {
            for (_, file) in packages {
                std::fs::remove_file(file).map_err(io_failure("remove", file))?;
            }
        }
        Ok(product)
    }

    /// Downloads one .deb of `suite`, and verifies it. `what` is the kind of its product.
    fn download(
        &self,
        file: &LockedFile,
        suite: &str,
        destination: &Path,
        what: &'static str,
        lock: &LockFile,
    ) -> Result<()> {
        let LockedFile { name, version, path, size, .. } = file.clone();
        if size > MAX_DEB {
            return Err(ArchiveError::TooLarge { name, bytes: size }.into());
        }
        let source = self.sources.iter().find(|source| source.suite == suite && !source.mirrors.is_empty());
        let source = source.ok_or_else(|| ArchiveError::NoMirror { suite: suite.to_owned() })?;
        self.shell.status("Fetching", format!("{name} {version} from Debian"));
        let expected = expected(file);
        let fetched = self.on_a_mirror(source, |mirror| {
            self.fetcher.to_file(&format!("{mirror}/{path}"), destination, &expected)
        });
        fetched.map_err(|error| match error {
            DownloadError::NotFound { url, .. } => {
                ArchiveError::Gone { what, name, version, url, lock_file: lock.path().to_owned() }.into()
            }
            other => Failure::from(other),
        })
    }

    fn newest<P: Product>(&self, request: Request<'_>, board: &Board) -> Result<LockedPackage> {
        let mut packages = Vec::new();
        for source in &self.sources {
            // Of equal versions the last counts: the archive of security updates keeps earlier kernels for longer.
            packages.extend(self.packages(source, P::prefix(request), P::COMPONENT, board.debian_arch)?);
        }
        let (image, others) = packages::resolve(&packages, request.package, request.suite)?;
        for package in [image].into_iter().chain(others.iter().copied()) {
            let Package { name, version, suite, .. } = package;
            self.shell.verbose("Resolved", format!("{} to {name} {version} of {suite}", request.package));
        }
        Ok(locked_package(request, board, (image.clone(), others.into_iter().cloned().collect())))
    }

    /// Returns the packages of `source` whose names begin with `prefix`, from the first mirror that works.
    fn packages(&self, source: &Source, prefix: &str, component: &str, arch: &str) -> Result<Vec<Package>> {
        let mut last = None;
        for (at, mirror) in source.mirrors.iter().enumerate() {
            match self.packages_on(mirror, source, prefix, component, arch) {
                Ok(packages) => return Ok(packages),
                Err(error) if error.exit() == Exit::Interrupted => return Err(error),
                Err(error) => {
                    if let Some(next) = source.mirrors.get(at + 1) {
                        self.shell.note(format!("{error}; trying {next}"));
                    }
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) => Err(error),
            None if source.optional => Ok(self.none_of(source)),
            None => Err(ArchiveError::NoMirror { suite: source.suite.clone() }.into()),
        }
    }

    /// Returns no packages, and tells it.
    fn none_of(&self, source: &Source) -> Vec<Package> {
        let suite = &source.suite;
        self.shell
            .note(format!("the configured mirror has no `{suite}`: security updates are not looked for"));
        Vec::new()
    }

    fn packages_on(
        &self,
        mirror: &str,
        source: &Source,
        prefix: &str,
        component: &str,
        arch: &str,
    ) -> Result<Vec<Package>> {
        let suite = &source.suite;
        let base = format!("{mirror}/dists/{suite}");
        let release_url = format!("{base}/InRelease");
        let signed = match self.fetcher.to_memory(&release_url, MAX_RELEASE, None) {
            Err(DownloadError::NotFound { .. }) if source.optional => return Ok(self.none_of(source)),
            signed => signed?,
        };
        let release =
            self.verified(&signed, suite).map_err(|why| ArchiveError::Refused { url: release_url, why })?;
        let path = format!("{component}/binary-{arch}/Packages.xz");
        let index = release
            .file(&path)
            .ok_or_else(|| ArchiveError::NoIndex { suite: suite.clone(), path: path.clone() })?;
        let expected = Expected { size: Some(index.size), sha256: index.sha256.clone(), limit: MAX_PACKAGES };
        let name = if release.by_hash { index.by_hash() } else { path.clone() };
        let url = format!("{base}/{name}");
        let compressed = self.fetcher.to_memory(&url, MAX_PACKAGES.min(index.size), Some(&expected))?;
        // The hash is right, so this is the archive's own file; the limits hold all the same.
        let text = XzReader::new_mem_limit(&compressed[..], true, (MAX_FILE >> 10) as u32);
        let packages = packages::packages(BufReader::new(text.take(MAX_UNPACKED)), prefix, suite);
        Ok(packages.map_err(|error| ArchiveError::Index { url, error })?)
    }

    /// Reads an `InRelease` whose signature holds.
    fn verified(&self, signed: &[u8], suite: &str) -> Result<Release, Distrust> {
        let now = SystemTime::now();
        let text = self.keyring.signed_text(str::from_utf8(signed)?, now)?;
        Ok(Release::parse(&text, suite, now)?)
    }

    /// Runs `action` on one mirror after the other until it succeeds. Returns the last one's error if all fail.
    fn on_a_mirror(
        &self,
        source: &Source,
        action: impl Fn(&str) -> Result<(), DownloadError>,
    ) -> Result<(), DownloadError> {
        let mut result = Ok(());
        for mirror in &source.mirrors {
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
