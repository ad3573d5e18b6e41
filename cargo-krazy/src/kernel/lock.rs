//! `Krazy.lock`: which kernel each board was built with, so that the next build takes the same one.
//!
//! It lies beside the workspace's Cargo.lock and belongs under version control like it. With an entry, the
//! kernel is fetched by its path in the archive and its SHA-256; no signature is needed and none is asked for.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{image, io_failure};
use crate::failure::{Exit, Failure};
use krazy_boot::digest::is_sha256;

/// The file's name.
pub const FILE_NAME: &str = "Krazy.lock";
/// Raised when the meaning of the file changes.
pub const VERSION: u32 = 1;
/// What the file begins with.
pub const HEADER: &str =
    "# Written by `cargo krazy`: what this workspace is built with. Keep it under version control.\n";

/// One kernel of the Debian archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedKernel {
    /// The board's name.
    pub board: String,
    /// The package the configuration names, mostly a meta package.
    pub package: String,
    /// The distribution's code name.
    pub suite: String,
    /// The package that holds the kernel.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The kernel's release as `uname -r` prints it.
    pub release: String,
    /// Path of the .deb below the archive's base URL.
    pub path: String,
    /// Bytes of the .deb.
    pub size: u64,
    /// SHA-256 of the .deb in hex.
    pub sha256: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default, rename = "kernel", skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<LockedKernel>,
    /// The crates' entries, which `install::lock` reads and writes.
    #[serde(default, rename = "install", skip_serializing_if = "Vec::is_empty")]
    installs: Vec<toml::Table>,
}

/// The lock file of a workspace.
#[derive(Clone, Debug)]
pub struct KernelLock {
    file: PathBuf,
    kernels: Vec<LockedKernel>,
    frozen: bool,
}

impl KernelLock {
    /// Reads `Krazy.lock` in `workspace_root`; a missing one is empty.
    pub fn load(workspace_root: &Path) -> anyhow::Result<Self> {
        let file = workspace_root.join(FILE_NAME);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(KernelLock { file, kernels: Vec::new(), frozen: false });
            }
            Err(error) => return Err(io_failure("read", &file)(error).into()),
        };
        let wrong = |why: String| {
            Failure::new(Exit::Config, format!("failed to read {}: {why}", file.display()))
                .help("repair it, or remove it to lock the newest kernels")
        };
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let header: Header = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if header.version != VERSION {
            let why = format!("it has version {}, this program knows version {VERSION}", header.version);
            return Err(wrong(why).into());
        }
        let document: Document = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        for kernel in &document.kernels {
            check(kernel).map_err(|why| wrong(format!("the kernel of board `{}` {why}", kernel.board)))?;
        }
        Ok(KernelLock { file, kernels: document.kernels, frozen: false })
    }

    /// Whether `--locked` forbids to change the file.
    #[must_use]
    pub fn frozen(self, frozen: bool) -> Self {
        KernelLock { frozen, ..self }
    }

    /// Whether the file must stay as it is.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The file's path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Every entry, sorted by board, suite and package.
    pub fn kernels(&self) -> &[LockedKernel] {
        &self.kernels
    }

    /// The kernel locked for a board and what its configuration names.
    pub fn get(&self, board: &str, suite: &str, package: &str) -> Option<&LockedKernel> {
        self.kernels.iter().find(|kernel| key(kernel) == (board, suite, package))
    }

    /// Enters `kernel` in place of its predecessor and writes the file if that changed it; a frozen one does not
    /// change.
    pub fn set(&mut self, kernel: LockedKernel) -> anyhow::Result<()> {
        if self.kernels.contains(&kernel) {
            return Ok(());
        }
        let mut kernels = self.kernels.clone();
        kernels.retain(|other| key(other) != key(&kernel));
        kernels.push(kernel);
        kernels.sort_by(|a, b| key(a).cmp(&key(b)));
        if self.frozen {
            let message = format!("{} would change, and --locked forbids it", self.file.display());
            return Err(Failure::new(Exit::Fetch, message).help("run once without --locked").into());
        }
        self.write(&kernels)?;
        self.kernels = kernels;
        Ok(())
    }

    fn write(&self, kernels: &[LockedKernel]) -> anyhow::Result<()> {
        let failed = io_failure("write", &self.file);
        // Read again: crates may have been entered since the file was loaded.
        let installs = match std::fs::read_to_string(&self.file) {
            Ok(text) => toml::from_str::<Document>(&text)?.installs,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error).into()),
        };
        let document = Document { version: VERSION, kernels: kernels.to_vec(), installs };
        let text = format!("{HEADER}{}", toml::to_string(&document)?);
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let written = || -> std::io::Result<()> {
            // The mode of a file made in the usual way; tempfile's default hides it from everybody else.
            let permissions = std::fs::Permissions::from_mode(0o666);
            let mut new = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
            new.write_all(text.as_bytes())?;
            new.as_file().sync_all()?;
            new.persist(&self.file)?;
            Ok(())
        };
        written().map_err(failed)?;
        Ok(())
    }
}

fn key(kernel: &LockedKernel) -> (&str, &str, &str) {
    (&kernel.board, &kernel.suite, &kernel.package)
}

/// What an edited file may get wrong in a way that would be misleading later.
fn check(kernel: &LockedKernel) -> Result<(), String> {
    if !is_sha256(&kernel.sha256) {
        return Err("has a `sha256` that is not 64 lower-case hex digits".to_owned());
    }
    if !is_pool_path(&kernel.path) {
        return Err(format!("has the `path` \"{}\", which is not one below an archive", kernel.path));
    }
    if !image::is_release(&kernel.release) {
        return Err(format!("has the `release` \"{}\", which cannot be one", kernel.release));
    }
    Ok(())
}

/// Whether `path` stays below the URL it is appended to, and needs no escaping.
pub fn is_pool_path(path: &str) -> bool {
    !path.is_empty()
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-~:=".contains(&byte))
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
pub mod testing {
    //! Entries for tests.

    use super::LockedKernel;

    /// What stands in the file for a board and a version.
    pub fn locked(board: &str, version: &str) -> LockedKernel {
        LockedKernel {
            board: board.into(),
            package: "linux-image-amd64".into(),
            suite: "trixie".into(),
            name: format!("linux-image-{version}-amd64"),
            version: version.into(),
            release: format!("{version}-amd64"),
            path: format!("pool/main/l/linux-signed-amd64/linux-image-{version}-amd64_{version}_amd64.deb"),
            size: 5,
            sha256: "ab".repeat(32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::locked as kernel;
    use super::*;

    #[test]
    fn keeps_one_kernel_per_board_and_package() {
        let folder = tempfile::tempdir().unwrap();
        let mut lock = KernelLock::load(folder.path()).unwrap();
        assert!(lock.kernels().is_empty() && !lock.file().exists());
        lock.set(kernel("x86_64", "6.1")).unwrap();
        lock.set(kernel("other", "6.1")).unwrap();
        lock.set(kernel("x86_64", "6.2")).unwrap();
        let again = KernelLock::load(folder.path()).unwrap();
        assert_eq!(again.kernels(), [kernel("other", "6.1"), kernel("x86_64", "6.2")]);
        assert_eq!(again.get("x86_64", "trixie", "linux-image-amd64").unwrap().version, "6.2");
        assert_eq!(again.get("x86_64", "forky", "linux-image-amd64"), None);
        assert!(std::fs::read_to_string(lock.file()).unwrap().starts_with("# Written by"));
    }

    #[test]
    fn is_written_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let mut lock = KernelLock::load(folder.path()).unwrap();
        lock.set(kernel("x86_64", "6.1")).unwrap();
        std::fs::remove_file(lock.file()).unwrap();
        lock.set(kernel("x86_64", "6.1")).unwrap();
        assert!(!lock.file().exists());
    }

    #[test]
    fn a_wrong_file_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let message = |text: &str| {
            std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
            let error = KernelLock::load(folder.path()).unwrap_err();
            assert_eq!(Failure::exit_of(&error), Exit::Config);
            error.to_string()
        };
        assert!(
            message("version = 7\nnew = true\n").ends_with("it has version 7, this program knows version 1")
        );
        assert!(message("version = ").contains("Krazy.lock: TOML parse error"));
        assert!(message("version = 1\nkernels = 3\n").contains("unknown field `kernels`"));
        for (from, to, expected) in [
            ("abab", "xyz!", "has a `sha256` that is not 64 lower-case hex digits"),
            ("pool/main", "../../etc", "which is not one below an archive"),
            ("\"6.1-amd64\"", "\"../6.1\"", "has the `release` \"../6.1\", which cannot be one"),
        ] {
            let mut lock = KernelLock::load(tempfile::tempdir().unwrap().path()).unwrap();
            lock.file = folder.path().join(FILE_NAME);
            std::fs::remove_file(lock.file()).unwrap();
            lock.set(kernel("x86_64", "6.1")).unwrap();
            let text = std::fs::read_to_string(lock.file()).unwrap().replacen(from, to, 1);
            let error = message(&text);
            assert!(error.contains("the kernel of board `x86_64`") && error.contains(expected), "{error}");
        }
    }
}
