//! `Krazy.lock`: the kernels, firmware and crates a workspace is built with, so that the next build takes the same.
//!
//! The file is beside the workspace's Cargo.lock and belongs under version control like it. Nothing else in this
//! program reads or writes it. A change is made to the content of the file at that moment, not to what was loaded:
//! another process may have added its own entries since.

mod package;
mod requirement;

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::package::EntryError;
pub(crate) use self::package::{LockedFile, LockedPackage, is_pool_path, is_release};
use self::requirement::LockedRequirement;
use crate::config::Source;
use crate::failure::{Exit, Explain, Result};

/// The file's name.
const FILE_NAME: &str = "Krazy.lock";
/// Raised when the meaning of the file changes.
const VERSION: u32 = 1;
/// The first line of the file.
const HEADER: &str =
    "# Written by `cargo krazy`: what this workspace is built with. Keep it under version control.\n";

/// A failure to read or change the lock file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// The operating system refused to read or write it.
    #[error("failed to {verb} {}: {error}", path.display())]
    Io {
        /// The attempt, `read` or `write`.
        verb: &'static str,
        /// The lock file.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// It is not TOML, or has fields that no version of this program wrote.
    #[error("failed to read {}: {}", path.display(), error.to_string().trim())]
    Syntax {
        /// The lock file.
        path: PathBuf,
        /// The reason, with the line.
        error: toml::de::Error,
    },
    /// A newer program wrote it.
    #[error("failed to read {}: it has version {found}, this program knows version {VERSION}", path.display())]
    Version {
        /// The lock file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// An entry has a value it cannot have.
    #[error("failed to read {}: the kernel of board `{board}` {error}", path.display())]
    Entry {
        /// The lock file.
        path: PathBuf,
        /// The board of the entry.
        board: String,
        /// The reason.
        error: EntryError,
    },
    /// The content cannot be written as TOML.
    #[error("failed to write {}: {error}", path.display())]
    Encode {
        /// The lock file.
        path: PathBuf,
        /// The reason.
        error: toml::ser::Error,
    },
    /// `--locked` forbids the change.
    #[error("{} would change, and --locked forbids it", path.display())]
    Frozen {
        /// The lock file.
        path: PathBuf,
    },
}

impl Explain for LockError {
    fn exit(&self) -> Exit {
        match self {
            LockError::Syntax { .. } | LockError::Version { .. } | LockError::Entry { .. } => Exit::Config,
            LockError::Io { .. } | LockError::Encode { .. } => Exit::Image,
            LockError::Frozen { .. } => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            LockError::Syntax { .. } | LockError::Version { .. } | LockError::Entry { .. } => {
                "take the file back from version control, or remove it to lock the newest kernels and crates"
            }
            LockError::Frozen { .. } => "run once without --locked",
            LockError::Io { error, .. } => match error.kind() {
                io::ErrorKind::StorageFull => "free some space",
                io::ErrorKind::PermissionDenied => "check the owner and the mode of the path",
                _ => "check the path: it must be a file, in a directory that exists",
            },
            LockError::Encode { .. } => return None,
        };
        Some(help.to_owned())
    }
}

/// The content of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default, rename = "kernel", skip_serializing_if = "Vec::is_empty")]
    packages: Vec<LockedPackage>,
    #[serde(default, rename = "install", skip_serializing_if = "Vec::is_empty")]
    requirements: Vec<LockedRequirement>,
}

impl Document {
    /// Reads the file at `path`; a missing one is empty.
    fn read(path: &Path) -> Result<Self, LockError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(error) => return Err(LockError::Io { verb: "read", path: path.to_owned(), error }),
        };
        let syntax = |error| LockError::Syntax { path: path.to_owned(), error };
        // A newer version may have fields that this program does not know, so its number is read first.
        let Header { version: found } = toml::from_str(&text).map_err(syntax)?;
        if found != VERSION {
            return Err(LockError::Version { path: path.to_owned(), found });
        }
        let document: Document = toml::from_str(&text).map_err(syntax)?;
        for package in &document.packages {
            package.check().map_err(|error| LockError::Entry {
                path: path.to_owned(),
                board: package.board.clone(),
                error,
            })?;
        }
        Ok(document)
    }

    fn write(&self, path: &Path) -> Result<(), LockError> {
        let body = toml::to_string(&Document { version: VERSION, ..self.clone() });
        let body = body.map_err(|error| LockError::Encode { path: path.to_owned(), error })?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let written = || -> io::Result<()> {
            // The mode of a file made in the usual way; tempfile's default hides it from everybody else.
            let permissions = std::fs::Permissions::from_mode(0o666);
            let mut new = tempfile::Builder::new().permissions(permissions).tempfile_in(directory)?;
            new.write_all(format!("{HEADER}{body}").as_bytes())?;
            new.as_file().sync_all()?;
            new.persist(path)?;
            Ok(())
        };
        written().map_err(|error| LockError::Io { verb: "write", path: path.to_owned(), error })
    }
}

/// The lock file of a workspace.
#[derive(Clone, Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    frozen: bool,
    document: Document,
}

impl LockFile {
    /// Reads `Krazy.lock` in `workspace_root`; a missing one is empty.
    pub(crate) fn load(workspace_root: &Path) -> Result<Self> {
        let path = workspace_root.join(FILE_NAME);
        Ok(LockFile { document: Document::read(&path)?, path, frozen: false })
    }

    /// Forbids every change if `frozen` is set, which is `--locked`.
    #[must_use]
    pub(crate) fn frozen(self, frozen: bool) -> Self {
        LockFile { frozen, ..self }
    }

    /// Returns true if the file must stay as it is.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Returns the file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns every locked kernel and firmware, sorted by board, suite and package.
    pub(crate) fn packages(&self) -> &[LockedPackage] {
        &self.document.packages
    }

    /// Returns the kernel or firmware locked for a board and what its configuration names.
    pub(crate) fn package(&self, board: &str, suite: &str, package: &str) -> Option<&LockedPackage> {
        self.packages().iter().find(|entry| entry.key() == (board, suite, package))
    }

    /// Enters `package` in place of its predecessor and writes the file if that changed it.
    ///
    /// # Errors
    /// [`LockError::Frozen`] if it would change a frozen file.
    pub(crate) fn set_package(&mut self, package: LockedPackage) -> Result<()> {
        if self.packages().contains(&package) {
            return Ok(());
        }
        self.change(|document| {
            document.packages.retain(|other| other.key() != package.key());
            document.packages.push(package);
            document.packages.sort_by(|a, b| a.key().cmp(&b.key()));
        })
    }

    /// Returns the version or commit that `source` is locked at.
    pub(crate) fn pin(&self, source: &Source) -> Option<&str> {
        let requirement = LockedRequirement::new(source, "")?;
        let mut entries = self.document.requirements.iter();
        Some(&entries.find(|entry| entry.key() == requirement.key())?.resolved)
    }

    /// Returns true if `source` is of a kind that has to be resolved.
    pub(crate) fn needs_pin(source: &Source) -> bool {
        LockedRequirement::new(source, "").is_some()
    }

    /// Locks `source` at `resolved` and writes the file if that changed it.
    ///
    /// # Errors
    /// [`LockError::Frozen`] if it would change a frozen file.
    pub(crate) fn set_pin(&mut self, source: &Source, resolved: &str) -> Result<()> {
        let Some(new) = LockedRequirement::new(source, resolved) else { return Ok(()) };
        if self.document.requirements.contains(&new) {
            return Ok(());
        }
        self.change(|document| {
            document.requirements.retain(|entry| entry.key() != new.key());
            document.requirements.push(new);
            document.requirements.sort_by(|a, b| a.key().cmp(&b.key()));
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut Document)) -> Result<()> {
        if self.frozen {
            return Err(LockError::Frozen { path: self.path.clone() }.into());
        }
        let mut document = Document::read(&self.path)?;
        change(&mut document);
        document.write(&self.path)?;
        self.document = document;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Entries for tests.

    use super::{LockedFile, LockedPackage};

    /// Returns the entry of a kernel for a board and a version.
    pub(crate) fn locked(board: &str, version: &str) -> LockedPackage {
        LockedPackage {
            board: board.into(),
            package: "linux-image-amd64".into(),
            suite: "trixie".into(),
            from: None,
            name: format!("linux-image-{version}-amd64"),
            version: version.into(),
            release: format!("{version}-amd64"),
            path: format!("pool/main/l/linux-signed-amd64/linux-image-{version}-amd64_{version}_amd64.deb"),
            size: 5,
            sha256: "ab".repeat(32),
            parts: Vec::new(),
        }
    }

    /// Returns a part of the kernel that [`locked`] returns for `version`.
    pub(crate) fn part(name: &str, version: &str) -> LockedFile {
        LockedFile {
            name: format!("linux-{name}-{version}-amd64"),
            version: version.into(),
            path: format!("pool/main/l/linux/linux-{name}-{version}-amd64_{version}_amd64.deb"),
            size: 7,
            sha256: "cd".repeat(32),
        }
    }
}

#[cfg(test)]
mod tests;
