//! The difference between the newest package of a source and the locked one, and the lock file's change from one to the other.

use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;

use super::error::SourceError;
use crate::failure::Result;
use crate::kernel::source::debian::compare_versions;
use crate::lock_file::{LockFile, LockedPackage};

/// The relation of the newest kernel of a source to the locked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    /// It is the locked one.
    None,
    /// None was locked.
    First,
    /// Its version is higher.
    Newer,
    /// Its version is lower: a mirror that is behind, or a withdrawn kernel.
    Older,
    /// The version is the same, the package is not.
    Replaced,
}

/// A step from one kernel to another that has not been made. Prints as `6.1-1 → 6.2-1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Update {
    /// The locked package.
    pub(crate) old: Option<LockedPackage>,
    /// The package to lock.
    pub(crate) new: LockedPackage,
    /// The relation of the two.
    pub(crate) change: Change,
}

impl Update {
    /// From what `lock` has to `newest`. The file is left alone.
    pub(crate) fn new(lock: &LockFile, newest: LockedPackage) -> Self {
        let old = lock.package(&newest.board, &newest.suite, &newest.package).cloned();
        let change = match &old {
            None => Change::First,
            Some(old) => match compare_versions(&newest.version, &old.version) {
                Ordering::Greater => Change::Newer,
                Ordering::Less => Change::Older,
                Ordering::Equal if is_same(old, &newest) => Change::None,
                Ordering::Equal => Change::Replaced,
            },
        };
        // The entry of a kernel that was unpacked has the release it really has, not only the one of its name.
        let new = if change == Change::None { old.clone().unwrap_or(newest) } else { newest };
        Update { old, new, change }
    }

    /// Enters the new kernel into the file of `lock`. An older one is refused unless `downgrade` allows it.
    pub(crate) fn write(&self, lock: &mut LockFile, downgrade: bool) -> Result<()> {
        if let (Change::Older, Some(old), false) = (self.change, &self.old, downgrade) {
            let LockedPackage { package, suite, version, .. } = self.new.clone();
            let locked = old.version.clone();
            return Err(SourceError::Older { package, suite, newest: version, locked }.into());
        }
        lock.set_package(self.new.clone())
    }
}

/// Returns true if two entries mean the same files at the same places.
fn is_same(a: &LockedPackage, b: &LockedPackage) -> bool {
    a.origin() == b.origin() && a.files() == b.files()
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let new = &self.new.version;
        match (self.change, &self.old) {
            (Change::None, _) => write!(f, "{new} is the newest"),
            (Change::Newer, Some(old)) => write!(f, "{} → {new}", old.version),
            (Change::Older, Some(old)) => write!(f, "{} → {new} (a downgrade)", old.version),
            (Change::Replaced, Some(old)) if old.cache_key() == self.new.cache_key() => {
                write!(f, "{new}, at another place of the archive: {}", self.new.origin())
            }
            (Change::Replaced, _) => write!(f, "{new}, whose package changed at its source"),
            (Change::First | Change::Newer | Change::Older, _) => f.write_str(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use crate::lock_file::testing::{locked, part};

    fn lock(directory: &tempfile::TempDir) -> LockFile {
        LockFile::load(directory.path()).unwrap()
    }

    #[test]
    fn newer_kernel_replaces_the_locked_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = lock(&directory);
        for (version, change, text) in [
            ("6.12.9-1", Change::First, "6.12.9-1"),
            ("6.12.48-1", Change::Newer, "6.12.9-1 → 6.12.48-1"),
            ("6.12.48-1", Change::None, "6.12.48-1 is the newest"),
        ] {
            let update = Update::new(&lock, locked("x86_64", version));
            assert_eq!((update.change, update.to_string().as_str()), (change, text));
            update.write(&mut lock, false).unwrap();
            assert_eq!(lock.packages(), [locked("x86_64", version)]);
        }
    }

    #[test]
    fn downgrade_must_be_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = lock(&directory);
        lock.set_package(locked("x86_64", "6.12.48-1")).unwrap();
        let update = Update::new(&lock, locked("x86_64", "6.12.48-1~bpo1"));
        assert_eq!(update.to_string(), "6.12.48-1 → 6.12.48-1~bpo1 (a downgrade)");
        let error = update.write(&mut lock, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the newest linux-image-amd64 in Debian's `trixie` is 6.12.48-1~bpo1, older than the locked 6.12.48-1"
        );
        assert!(error.next_step().unwrap().contains("--allow-downgrade"));
        assert_eq!(lock.packages()[0].version, "6.12.48-1");
        update.write(&mut lock, true).unwrap();
        assert_eq!(lock.packages()[0].version, "6.12.48-1~bpo1");
    }

    #[test]
    fn same_version_is_kept_with_its_real_release_unless_its_file_changed() {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = lock(&directory);
        let real = LockedPackage { release: "6.12.48-real".into(), ..locked("x86_64", "6.12.48-1") };
        lock.set_package(real.clone()).unwrap();
        let update = Update::new(&lock, locked("x86_64", "6.12.48-1"));
        assert_eq!((update.change, &update.new), (Change::None, &real));

        let other = LockedPackage { sha256: "cd".repeat(32), ..locked("x86_64", "6.12.48-1") };
        let update = Update::new(&lock, other.clone());
        assert_eq!(update.change, Change::Replaced);
        update.write(&mut lock, false).unwrap();
        assert_eq!(lock.packages(), std::slice::from_ref(&other));

        let moved = LockedPackage { from: Some("trixie-security".into()), ..other.clone() };
        let update = Update::new(&lock, moved);
        assert_eq!(
            (update.change, update.to_string().as_str()),
            (Change::Replaced, "6.12.48-1, at another place of the archive: trixie-security")
        );

        let split = LockedPackage { parts: vec![part("modules", "6.12.48-1")], ..other };
        assert_eq!(Update::new(&lock, split.clone()).change, Change::Replaced);
        Update::new(&lock, split.clone()).write(&mut lock, false).unwrap();
        assert_eq!(Update::new(&lock, split).change, Change::None);
    }

    #[test]
    fn frozen_lock_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        lock(&directory).set_package(locked("x86_64", "6.1-1")).unwrap();
        let mut lock = lock(&directory).frozen(true);
        Update::new(&lock, locked("x86_64", "6.1-1")).write(&mut lock, false).unwrap();
        let error = Update::new(&lock, locked("x86_64", "6.2-1")).write(&mut lock, false).unwrap_err();
        assert_eq!(error.exit(), Exit::Fetch);
        let file = directory.path().join("Krazy.lock");
        assert_eq!(error.to_string(), format!("{} would change, and --locked forbids it", file.display()));
        assert_eq!(lock.packages(), [locked("x86_64", "6.1-1")]);
    }
}
