//! The `[[kernel]]` tables of the lock file: packages of the Debian archive, kernels as well as boot firmware.
//!
//! With an entry, the package is fetched by its path in the archive and its SHA-256; no signature is needed and none
//! is asked for.

use std::path::{Component, Path};

use krazy_boot::digest::{hex, is_sha256};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A release is at most 64 bytes with its NUL (`uname(2)`, `__NEW_UTS_LEN`).
const MAX_RELEASE_LEN: usize = 64;

/// One kernel or boot firmware of the Debian archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedPackage {
    /// The board's name.
    pub(crate) board: String,
    /// The package the configuration names, mostly a meta package.
    pub(crate) package: String,
    /// The distribution's code name.
    pub(crate) suite: String,
    /// The suite that offers it, where that is another one: the security updates of `suite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The package that holds the files.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// The kernel's release as `uname -r` prints it; for firmware, the version.
    pub(crate) release: String,
    /// Path of the .deb below the archive's base URL.
    pub(crate) path: String,
    /// Bytes of the .deb.
    pub(crate) size: u64,
    /// SHA-256 of the .deb in hex.
    pub(crate) sha256: String,
    /// The other packages of a kernel that is split over several; they are unpacked together with this one.
    #[serde(default, rename = "part", skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<LockedFile>,
}

/// A .deb of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedFile {
    /// The package's name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Path of the .deb below the archive's base URL.
    pub(crate) path: String,
    /// Bytes of the .deb.
    pub(crate) size: u64,
    /// SHA-256 of the .deb in hex.
    pub(crate) sha256: String,
}

/// A value that an edited entry cannot have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// Not a SHA-256.
    #[error("has a `sha256` that is not 64 lower-case hex digits")]
    Sha256,
    /// A path that would leave the archive.
    #[error("has the `path` \"{0}\", which is not one below an archive")]
    Path(String),
    /// A release that cannot be the name of a directory.
    #[error("has the `release` \"{0}\", which cannot be one")]
    Release(String),
}

impl LockedPackage {
    /// Returns what the configuration says, which only one entry may answer: board, suite and package.
    pub(super) fn key(&self) -> (&str, &str, &str) {
        (&self.board, &self.suite, &self.package)
    }

    /// Returns the suite that offers it.
    pub(crate) fn origin(&self) -> &str {
        self.from.as_deref().unwrap_or(&self.suite)
    }

    /// Returns every .deb of this entry: that of `name`, then the parts.
    pub(crate) fn files(&self) -> Vec<LockedFile> {
        let LockedPackage { name, version, path, size, sha256, parts, .. } = self.clone();
        [vec![LockedFile { name, version, path, size, sha256 }], parts].concat()
    }

    /// Returns the name in the cache of what the files are unpacked to: the SHA-256 of the only file, or that of the
    /// hexadecimal SHA-256 of several, one after the other.
    pub(crate) fn cache_key(&self) -> String {
        if self.parts.is_empty() {
            return self.sha256.clone();
        }
        let hashes: String = self.files().into_iter().map(|file| file.sha256).collect();
        hex(&Sha256::digest(hashes))
    }

    /// Rejects values that would be misleading later.
    pub(super) fn check(&self) -> Result<(), EntryError> {
        for file in self.files() {
            if !is_sha256(&file.sha256) {
                return Err(EntryError::Sha256);
            }
            if !is_pool_path(&file.path) {
                return Err(EntryError::Path(file.path));
            }
        }
        if !is_release(&self.release) {
            return Err(EntryError::Release(self.release.clone()));
        }
        Ok(())
    }
}

/// Returns true if `path` stays below the URL it is appended to, and needs no escaping.
pub(crate) fn is_pool_path(path: &str) -> bool {
    !path.is_empty()
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-~:=".contains(&byte))
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Returns true if `text` can be a kernel's release, and so the name of a directory.
pub(crate) fn is_release(text: &str) -> bool {
    (1..MAX_RELEASE_LEN).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_cannot_leave_its_directory() {
        assert!(is_release("6.12.107+deb13-cloud-amd64"));
        for wrong in ["", "..", "a/b", ".hidden", "a b", &"6".repeat(64)] {
            assert!(!is_release(wrong), "{wrong}");
        }
    }
}
