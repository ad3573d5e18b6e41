//! Sources of a kernel: a release of kernel.org, a tarball, or an unpacked tree.

use std::io;
use std::path::{Path, PathBuf};

use super::release::{self, Release};
use super::tarball;
use super::tree::{Tree, Version, name_of};
use crate::failure::{Exit, Explain, Result};
use crate::files::measure;
use crate::kernel::source::cache::KernelCache;
use crate::shell::Shell;
use krazy_boot::digest::is_sha256;

/// The requested source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A release of kernel.org.
    Release {
        /// The choice itself.
        release: Release,
        /// The URL of kernel.org's `/pub/linux/kernel`, or of a mirror of it.
        mirror: String,
        /// True if the network must not be used.
        offline: bool,
    },
    /// A tarball or a tree on this machine.
    Local {
        /// Its path.
        path: PathBuf,
        /// The expected SHA-256 of a tarball.
        sha256: Option<String>,
    },
}

/// A source on this machine that cannot be used.
#[derive(Debug, thiserror::Error)]
enum LocalError {
    #[error("failed to read the source {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("`--sha256` is that of a tarball, and {} is a directory", path.display())]
    IsDirectory { path: PathBuf },
    #[error("`{text}` is not a SHA-256, which has 64 hex digits")]
    BadChecksum { text: String },
    #[error("{} has the wrong content: its SHA-256 is {found}, not {expected}", path.display())]
    OtherContent { path: PathBuf, found: String, expected: String },
}

impl Explain for LocalError {
    fn exit(&self) -> Exit {
        match self {
            LocalError::OtherContent { .. } => Exit::Fetch,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            LocalError::Read { .. } => "`--source` takes a kernel's tarball or its unpacked tree",
            LocalError::IsDirectory { .. } => return None,
            LocalError::BadChecksum { .. } => "`sha256sum FILE` prints it",
            LocalError::OtherContent { .. } => {
                "it is another file, or was tampered with: get it again from where the SHA-256 came from"
            }
        };
        Some(help.to_owned())
    }
}

impl Source {
    /// Returns the source's tree, fetched and unpacked if need be.
    pub(crate) fn obtain(&self, cache: &KernelCache, shell: Shell) -> Result<Tree> {
        match self {
            Source::Release { release, mirror, offline } => {
                let (tarball, sha256) = release::tarball(release, mirror, cache, *offline, shell)?;
                unpacked(&tarball, &sha256, &format!("{} of kernel.org", name_of(&tarball)), cache, shell)
            }
            Source::Local { path, sha256 } => {
                let path = std::fs::canonicalize(path)
                    .map_err(|error| LocalError::Read { path: path.clone(), error })?;
                if path.is_dir() {
                    if sha256.is_some() {
                        return Err(LocalError::IsDirectory { path }.into());
                    }
                    return Ok(Tree::open(&path)?);
                }
                let (_, found) = measure(&path)?;
                if let Some(expected) = sha256 {
                    compare(&path, expected, &found)?;
                }
                let origin = format!("{} with SHA-256 {found}", name_of(&path));
                unpacked(&path, &found, &origin, cache, shell)
            }
        }
    }
}

fn compare(path: &Path, expected: &str, found: &str) -> Result<(), LocalError> {
    if !is_sha256(&expected.to_ascii_lowercase()) {
        return Err(LocalError::BadChecksum { text: expected.to_owned() });
    }
    if expected.eq_ignore_ascii_case(found) {
        return Ok(());
    }
    let (found, expected) = (found.to_owned(), expected.to_owned());
    Err(LocalError::OtherContent { path: path.to_owned(), found, expected })
}

/// Returns the tree in a tarball, from the cache if it was unpacked before.
fn unpacked(tarball: &Path, sha256: &str, origin: &str, cache: &KernelCache, shell: Shell) -> Result<Tree> {
    let directory = cache.sources().join(sha256);
    if !directory.exists() {
        let _guard = cache.guard(shell)?;
        // Another process may have unpacked it while we waited.
        if !directory.exists() {
            shell.status("Unpacking", name_of(tarball));
            tarball::unpack(tarball, &directory)?;
        }
    }
    let key = sha256[..16].to_owned();
    Ok(Tree { version: Version::of(&directory)?, directory, key, origin: origin.to_owned() })
}

#[cfg(test)]
mod tests {
    use krazy_boot::digest::hex;
    use sha2::{Digest, Sha256};

    use super::super::tree::testing::FILES;
    use super::*;
    use crate::kernel::bundle::archive::testing::{tar, xz};

    struct Setup {
        directory: tempfile::TempDir,
    }

    impl Setup {
        fn new() -> Self {
            Setup { directory: tempfile::tempdir().unwrap() }
        }

        fn obtain(&self, path: &str, sha256: Option<&str>) -> Result<Tree> {
            let path = self.directory.path().join(path);
            let source = Source::Local { path, sha256: sha256.map(str::to_owned) };
            source.obtain(&KernelCache::new(self.directory.path().join("cache")), Shell::default())
        }

        fn tarball(&self) -> String {
            let files: Vec<_> =
                FILES.iter().map(|(name, text)| (format!("linux-6.9.3/{name}"), *text)).collect();
            let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
            let bytes = xz(&tar(&files));
            std::fs::write(self.directory.path().join("linux.tar.xz"), &bytes).unwrap();
            hex(&Sha256::digest(&bytes))
        }

        fn tree(&self) -> PathBuf {
            let tree = self.directory.path().join("tree");
            std::fs::create_dir(&tree).unwrap();
            for (name, text) in FILES {
                std::fs::write(tree.join(name), text).unwrap();
            }
            tree
        }
    }

    #[test]
    fn tarball_is_unpacked_once() {
        let setup = Setup::new();
        let sha256 = setup.tarball();
        let tree = setup.obtain("linux.tar.xz", Some(&sha256.to_uppercase())).unwrap();
        assert_eq!(tree.version.to_string(), "6.9.3");
        assert_eq!(tree.origin, format!("linux.tar.xz with SHA-256 {sha256}"));
        std::fs::write(tree.directory.join("marker"), "").unwrap();
        assert_eq!(setup.obtain("linux.tar.xz", None).unwrap(), tree);
        assert!(tree.directory.join("marker").exists());
    }

    #[test]
    fn wrong_hash_is_an_error_and_nothing_is_unpacked() {
        let setup = Setup::new();
        let found = setup.tarball();
        let wrong = "ab".repeat(32);
        let error = setup.obtain("linux.tar.xz", Some(&wrong)).unwrap_err();
        let file = std::fs::canonicalize(setup.directory.path()).unwrap().join("linux.tar.xz");
        assert_eq!(
            error.to_string(),
            format!("{} has the wrong content: its SHA-256 is {found}, not {wrong}", file.display())
        );
        assert_eq!(error.exit(), Exit::Fetch);
        assert!(!setup.directory.path().join("cache").exists());
        let error = setup.obtain("linux.tar.xz", Some("12")).unwrap_err();
        assert_eq!(error.to_string(), "`12` is not a SHA-256, which has 64 hex digits");
    }

    #[test]
    fn tree_that_was_built_in_has_help_to_clean_it() {
        let setup = Setup::new();
        let tree = std::fs::canonicalize(setup.tree()).unwrap();
        let found = setup.obtain("tree", None).unwrap();
        assert_eq!(
            (found.directory.as_path(), found.origin.as_str()),
            (tree.as_path(), "a source tree called tree")
        );
        std::fs::write(tree.join(".config"), "").unwrap();
        let error = setup.obtain("tree", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the source {} has been built in: it has `.config`", tree.display())
        );
        assert!(error.next_step().unwrap().contains(&format!("make -C {} mrproper", tree.display())));
    }

    #[test]
    fn other_source_is_refused() {
        let setup = Setup::new();
        std::fs::create_dir(setup.directory.path().join("other")).unwrap();
        std::fs::write(setup.directory.path().join("other/Makefile"), "all:\n").unwrap();
        let error = setup.obtain("other", None).unwrap_err();
        assert!(error.to_string().ends_with("other is not the source of a Linux kernel"), "{error}");
        let error = setup.obtain("nowhere", None).unwrap_err();
        assert!(error.to_string().starts_with("failed to read the source "), "{error}");
        let error = setup.obtain("other", Some(&"ab".repeat(32))).unwrap_err();
        assert!(error.to_string().ends_with("is a directory"), "{error}");
    }
}
