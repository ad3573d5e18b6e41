//! The `[[install]]` tables of Krazy.lock, beside Cargo.lock: which version or commit every requirement was
//! resolved to, so that another machine, or the same one next year, installs the same.
//!
//! An entry belongs to a requirement, not to a board or an appliance: the same requirement gets the same answer
//! throughout the workspace. Tables of other owners in the file are kept.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::config::{GitReference, Source};
use crate::failure::{Exit, Failure};
use crate::kernel::lock::{HEADER, VERSION};
use crate::output::Scratch;

/// One resolved requirement.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    package: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registry: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requirement: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// A version, or for git a commit id.
    resolved: String,
}

impl Entry {
    /// The entry of `source` if it is one that needs to be resolved.
    fn of(source: &Source, resolved: &str) -> Option<Self> {
        let resolved = resolved.to_owned();
        match source.clone() {
            Source::Registry { package, version, registry } => {
                Some(Entry { package, registry, requirement: version, resolved, ..Entry::default() })
            }
            Source::Git { url, package, reference } => {
                let (branch, tag) = match reference {
                    GitReference::Head => (None, None),
                    GitReference::Branch(branch) => (Some(branch), None),
                    GitReference::Tag(tag) => (None, Some(tag)),
                    GitReference::Rev(_) => return None,
                };
                Some(Entry { package, git: Some(url), branch, tag, resolved, ..Entry::default() })
            }
            Source::Path { .. } => None,
        }
    }

    fn same_requirement(&self, other: &Entry) -> bool {
        Entry { resolved: String::new(), ..self.clone() }
            == Entry { resolved: String::new(), ..other.clone() }
    }
}

/// The resolved requirements of a workspace.
#[derive(Debug)]
pub struct InstallLock {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl InstallLock {
    /// Reads Krazy.lock; a missing file holds nothing.
    ///
    /// # Errors
    /// [`Exit::Config`] when the file is there and cannot be understood.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        if let Some(found) = document(path)?.remove("install") {
            entries = found.try_into().map_err(|error| wrong(path, &error))?;
        }
        Ok(InstallLock { path: path.to_owned(), entries })
    }

    /// The version or commit `source` is held at.
    pub fn pin(&self, source: &Source) -> Option<&str> {
        let wanted = Entry::of(source, "")?;
        let found = self.entries.iter().find(|entry| entry.same_requirement(&wanted))?;
        Some(&found.resolved)
    }

    /// Whether `source` is of a kind that has to be resolved.
    pub fn needs_pin(source: &Source) -> bool {
        Entry::of(source, "").is_some()
    }

    /// Holds `source` at `resolved` and writes the file if that is news.
    ///
    /// # Errors
    /// When the file cannot be read back or written.
    pub fn hold(&mut self, source: &Source, resolved: &str) -> anyhow::Result<()> {
        let Some(new) = Entry::of(source, resolved) else { return Ok(()) };
        if self.entries.contains(&new) {
            return Ok(());
        }
        self.entries.retain(|entry| !entry.same_requirement(&new));
        self.entries.push(new);
        self.entries.sort();
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let failed = || format!("failed to write {}", self.path.display());
        // Read again: a kernel may have been entered since.
        let mut document = document(&self.path)?;
        let entries = toml::Value::try_from(&self.entries).with_context(failed)?;
        document.insert("install".to_owned(), entries);
        document.entry("version").or_insert_with(|| i64::from(VERSION).into());
        let text = format!("{HEADER}{}", toml::to_string(&document).with_context(failed)?);
        let scratch = Scratch::beside(&self.path)?;
        scratch.as_file().write_all(text.as_bytes()).with_context(failed)?;
        scratch.persist(&self.path).with_context(failed)?;
        Ok(())
    }
}

fn document(path: &Path) -> anyhow::Result<toml::Table> {
    match fs::read_to_string(path) {
        Ok(text) => text.parse().map_err(|error| wrong(path, &error).into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(toml::Table::new()),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

fn wrong(path: &Path, error: &toml::de::Error) -> Failure {
    let text = error.to_string();
    Failure::new(Exit::Config, format!("failed to understand {}: {}", path.display(), text.trim()))
        .help("take the file back from version control, or delete it to resolve everything anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{KernelLock, LockedKernel};

    fn kernel(version: &str) -> LockedKernel {
        LockedKernel {
            board: "x86_64".into(),
            package: "linux-image-amd64".into(),
            suite: "trixie".into(),
            name: "linux-image".into(),
            version: version.into(),
            release: version.into(),
            path: "pool/linux.deb".into(),
            size: 5,
            sha256: "ab".repeat(32),
        }
    }

    fn registry(version: &str) -> Source {
        Source::Registry { package: "dufs".into(), version: Some(version.into()), registry: None }
    }

    #[test]
    fn a_requirement_is_held_and_foreign_tables_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Krazy.lock");
        let mut kernels = KernelLock::load(folder.path()).unwrap();
        kernels.set(kernel("6.1")).unwrap();
        let mut lock = InstallLock::read(&path).unwrap();
        assert_eq!(lock.pin(&registry("0.43")), None);
        lock.hold(&registry("0.43"), "0.43.0").unwrap();
        let git = Source::Git {
            url: "https://host/ntp.git".into(),
            package: "ntp".into(),
            reference: GitReference::Tag("v1".into()),
        };
        lock.hold(&git, "0123abcd").unwrap();
        lock.hold(&registry("0.43"), "0.43.1").unwrap();

        let lock = InstallLock::read(&path).unwrap();
        assert_eq!(lock.pin(&registry("0.43")), Some("0.43.1"));
        assert_eq!(lock.pin(&git), Some("0123abcd"));
        assert_eq!(lock.pin(&registry("0.44")), None);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("[[install]]").count(), 2, "{text}");
        kernels.set(kernel("6.2")).unwrap();
        assert_eq!(InstallLock::read(&path).unwrap().pin(&git), Some("0123abcd"));
        assert_eq!(KernelLock::load(folder.path()).unwrap().kernels(), [kernel("6.2")]);
    }

    #[test]
    fn the_first_entry_makes_a_file_that_kernels_can_join() {
        let folder = tempfile::tempdir().unwrap();
        let mut lock = InstallLock::read(&folder.path().join("Krazy.lock")).unwrap();
        lock.hold(&registry("0.43"), "0.43.0").unwrap();
        assert!(KernelLock::load(folder.path()).unwrap().kernels().is_empty());
    }

    #[test]
    fn paths_and_commits_need_no_entry() {
        assert!(!InstallLock::needs_pin(&Source::Path { path: "/x".into() }));
        let reference = GitReference::Rev("0123".into());
        assert!(!InstallLock::needs_pin(&Source::Git { url: "u".into(), package: "p".into(), reference }));
    }

    #[test]
    fn a_broken_lock_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Krazy.lock");
        fs::write(&path, "[[install]]\npackage = 3\n").unwrap();
        let error = InstallLock::read(&path).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("failed to understand {}: ", path.display())),
            "{error}"
        );
    }
}
