//! The kernels a workspace has locked and those this machine has in its cache. Reads both, changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use krazy_boot::disk::size::Bytes;
use serde::Serialize;

use crate::board::Board;
use crate::cache::UNFINISHED;
use crate::config::KernelSource;
use crate::failure::Result;
use crate::files::{io_failure, sorted_entries};
use crate::kernel::bundle::{DESCRIPTION, KernelBundle};
use crate::kernel::source::cache::KernelCache;
use crate::lock_file::{LockFile, LockedPackage};

/// An entry of the lock file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LockedEntry {
    /// The entry itself.
    #[serde(flatten)]
    pub(crate) kernel: LockedPackage,
    /// True if its bundle is in the cache.
    pub(crate) cached: bool,
}

/// A bundle in the cache.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CachedKernel {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// The kernel's release. Unset for a bundle of another version of this program, which is made anew when
    /// it is needed.
    pub(crate) release: Option<String>,
    /// Its origin, if that is known.
    pub(crate) origin: Option<String>,
    /// Bytes of all its files.
    pub(crate) bytes: Bytes,
    /// Time of its creation, in seconds since 1970.
    pub(crate) created: u64,
    /// The boards of this workspace that use it; none if only other workspaces use it, or no one does.
    pub(crate) used_by: Vec<String>,
}

/// Everything `cargo krazy kernel list` shows.
#[derive(Clone, Debug)]
pub(crate) struct Inventory {
    /// The lock file, which may not exist.
    pub(crate) lock: PathBuf,
    /// Its entries.
    pub(crate) locked: Vec<LockedEntry>,
    /// The cache's directory, which may not exist.
    pub(crate) cache: PathBuf,
    /// Its bundles, the newest first.
    pub(crate) cached: Vec<CachedKernel>,
    /// The request of the appliance that nothing is locked for: board, package and suite.
    unlocked: Option<(String, String, String)>,
    now: SystemTime,
}

impl Inventory {
    /// Lists `lock` and `cache` at the time `now` for an appliance for `board` with a kernel of `source`.
    pub(crate) fn new(
        source: &KernelSource,
        board: &Board,
        lock: &LockFile,
        cache: &KernelCache,
        now: SystemTime,
    ) -> Result<Self> {
        let board = board.name;
        let mut users: Vec<_> =
            lock.packages().iter().map(|kernel| (kernel.cache_key(), kernel.board.clone())).collect();
        let mut unlocked = None;
        match source {
            KernelSource::Debian { package, suite, .. } => {
                if lock.package(board, suite, package).is_none() {
                    unlocked = Some((board.to_owned(), package.clone(), suite.clone()));
                }
            }
            KernelSource::Url { sha256, .. } => users.push((sha256.to_ascii_lowercase(), board.to_owned())),
            KernelSource::Path(path) => {
                let path = std::fs::canonicalize(path).map_err(io_failure("read", path))?;
                users.push((KernelCache::path_key(&path), board.to_owned()));
            }
        }
        let cached = bundles(cache, &users)?;
        let has = |key: &str| cached.iter().any(|(cached, _)| cached == key);
        let locked = lock.packages().iter();
        Ok(Inventory {
            lock: lock.path().to_owned(),
            locked: locked
                .map(|kernel| LockedEntry { kernel: kernel.clone(), cached: has(&kernel.cache_key()) })
                .collect(),
            cache: cache.directory().to_owned(),
            cached: cached.into_iter().map(|(_, bundle)| bundle).collect(),
            unlocked,
            now,
        })
    }
}

/// The bundles of `cache` and their keys, the newest first. `users` are pairs of a key and a board.
fn bundles(cache: &KernelCache, users: &[(String, String)]) -> Result<Vec<(String, CachedKernel)>> {
    let directory = cache.bundles();
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut bundles = Vec::new();
    for (name, path, metadata) in sorted_entries(&directory)? {
        // The architecture stands last, and has no hyphen.
        let Some((key, _)) = name.rsplit_once('-') else { continue };
        if name.starts_with(UNFINISHED) || !metadata.is_dir() {
            continue;
        }
        let known = KernelBundle::identity(&path)?;
        let description = path.join(DESCRIPTION);
        let created =
            std::fs::metadata(&description).map_or_else(|_| metadata.modified(), |file| file.modified());
        let created = created.map_err(io_failure("read", &path))?;
        let (release, origin) = known.unzip();
        let mut used_by: Vec<_> =
            users.iter().filter(|(used, _)| used == key).map(|(_, board)| board.clone()).collect();
        used_by.dedup();
        let bundle = CachedKernel {
            bytes: Bytes(length(&path)?),
            release,
            origin,
            // A time before 1970 is a clock that was not set.
            created: created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            used_by,
            path,
        };
        bundles.push((key.to_owned(), bundle));
    }
    bundles.sort_by_key(|(_, bundle)| std::cmp::Reverse(bundle.created));
    Ok(bundles)
}

/// Bytes of all files below `directory`.
fn length(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for (_, path, metadata) in sorted_entries(directory)? {
        sum += if metadata.is_dir() { length(&path)? } else { metadata.len() };
    }
    Ok(sum)
}

/// Prints it as two tables.
impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Locked in {}", self.lock.display())?;
        let locked = self.locked.iter().map(|LockedEntry { kernel, cached }| {
            let origin = format!("{} of Debian {}", kernel.package, kernel.suite);
            let size = Bytes(kernel.files().iter().map(|file| file.size).sum()).to_string();
            let here = if *cached { "yes" } else { "no" }.to_owned();
            [kernel.board.clone(), origin, kernel.version.clone(), kernel.release.clone(), size, here]
        });
        table(f, ["BOARD", "ORIGIN", "VERSION", "RELEASE", "DOWNLOAD", "CACHED"], locked)?;
        if let Some((board, package, suite)) = &self.unlocked {
            writeln!(
                f,
                "  {package} of Debian {suite} is not locked for {board} yet; \
                 `cargo krazy kernel fetch` locks the newest"
            )?;
        }
        writeln!(f, "\nCached in {}", self.cache.display())?;
        let cached = self.cached.iter().map(|bundle| {
            let unknown = "made by another version of cargo krazy";
            let used_by = match &bundle.used_by[..] {
                [] => "nothing here".to_owned(),
                boards => boards.join(" "),
            };
            [
                bundle.release.clone().unwrap_or_else(|| "?".to_owned()),
                bundle.origin.clone().unwrap_or_else(|| unknown.to_owned()),
                bundle.bytes.to_string(),
                age(self.now, UNIX_EPOCH + Duration::from_secs(bundle.created)),
                used_by,
            ]
        });
        table(f, ["RELEASE", "ORIGIN", "SIZE", "FETCHED", "USED BY"], cached)?;
        if self.cached.iter().any(|bundle| bundle.used_by.is_empty()) {
            writeln!(
                f,
                "\nWhat nothing here uses may serve other workspaces; a bundle that is removed is fetched again \
                 when it is needed."
            )?;
        }
        Ok(())
    }
}

/// Columns as wide as their content, or a word for no rows at all.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return writeln!(f, "  nothing");
    }
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(f, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Returns the time since `then`, in the largest unit that fits.
fn age(now: SystemTime, then: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    match units.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => {
            let count = seconds / length;
            format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
        }
        None => "just now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_one_unit() {
        let after = |seconds| age(UNIX_EPOCH + Duration::from_secs(seconds), UNIX_EPOCH);
        assert_eq!(after(59), "just now");
        assert_eq!(after(60), "1 minute ago");
        assert_eq!(after(7200), "2 hours ago");
        assert_eq!(after(86_400 * 40), "40 days ago");
        assert_eq!(
            age(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(9)),
            "just now",
            "a clock that went back"
        );
    }
}
