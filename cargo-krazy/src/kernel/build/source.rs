//! Where a kernel's source comes from: a release of kernel.org, a tarball, or a tree that somebody unpacked.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::cache::KernelCache;
use super::super::io_failure;
use super::release::{self, Release};
use super::tarball;
use crate::failure::{Exit, Failure};
use crate::shell::Shell;
use krazy_boot::digest::{hex, is_sha256, sha256_of};

/// Which source is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A release of kernel.org.
    Release {
        /// Which one.
        release: Release,
        /// Where kernel.org's `/pub/linux/kernel` is.
        mirror: String,
        /// Only what the cache has.
        offline: bool,
    },
    /// A tarball or a tree on this machine.
    Local {
        /// Where it is.
        path: PathBuf,
        /// What a tarball's SHA-256 must be.
        sha256: Option<String>,
    },
}

/// A source tree on this machine that is ready to build from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its folder.
    pub folder: PathBuf,
    /// What its Makefile says it is.
    pub version: Version,
    /// Distinguishes it from every other source; the name of a folder.
    pub key: String,
    /// Where it came from, without any path of this machine.
    pub origin: String,
}

/// `VERSION.PATCHLEVEL.SUBLEVEL` and `EXTRAVERSION` of a kernel's Makefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Source {
    /// Brings the source here.
    pub fn obtain(&self, cache: &KernelCache, shell: Shell) -> anyhow::Result<Tree> {
        match self {
            Source::Release { release, mirror, offline } => {
                let (tarball, sha256) = release::tarball(release, mirror, cache, *offline, shell)?;
                unpacked(&tarball, &sha256, &format!("{} of kernel.org", name_of(&tarball)), cache, shell)
            }
            Source::Local { path, sha256 } => {
                let path = std::fs::canonicalize(path).map_err(|error| {
                    Failure::new(
                        Exit::Usage,
                        format!("failed to read the source {}: {error}", path.display()),
                    )
                    .help("`--source` takes a kernel's tarball or its unpacked tree")
                })?;
                if path.is_dir() {
                    if sha256.is_some() {
                        let message =
                            format!("`--sha256` is that of a tarball, and {} is a folder", path.display());
                        return Err(Failure::new(Exit::Usage, message).into());
                    }
                    return tree(&path);
                }
                let found = hash(&path)?;
                if let Some(expected) = sha256 {
                    compare(&path, expected, &found)?;
                }
                let origin = format!("{} with SHA-256 {found}", name_of(&path));
                unpacked(&path, &found, &origin, cache, shell)
            }
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// SHA-256 of a file.
pub fn hash(path: &Path) -> anyhow::Result<String> {
    let mut file = std::fs::File::open(path).map_err(io_failure("read", path))?;
    Ok(sha256_of(&mut file).map_err(io_failure("read", path))?.to_string())
}

fn compare(path: &Path, expected: &str, found: &str) -> Result<(), Failure> {
    if !is_sha256(&expected.to_ascii_lowercase()) {
        return Err(Failure::new(
            Exit::Usage,
            format!("`{expected}` is not a SHA-256, which has 64 hex digits"),
        )
        .help("`sha256sum FILE` prints it"));
    }
    if expected.eq_ignore_ascii_case(found) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Fetch,
        format!("{} has the wrong content: its SHA-256 is {found}, not {expected}", path.display()),
    )
    .help("it is another file, or was tampered with: get it again from where the SHA-256 came from"))
}

/// The tree in a tarball, from the cache where it was unpacked before.
fn unpacked(
    tarball: &Path,
    sha256: &str,
    origin: &str,
    cache: &KernelCache,
    shell: Shell,
) -> anyhow::Result<Tree> {
    let folder = cache.sources().join(sha256);
    if !folder.exists() {
        let _guard = cache.guard(shell)?;
        // Another process may have unpacked it while we waited.
        if !folder.exists() {
            shell.status("Unpacking", name_of(tarball));
            tarball::unpack(tarball, &folder)?;
        }
    }
    let key = sha256[..16].to_owned();
    Ok(Tree { version: version(&folder)?, folder, key, origin: origin.to_owned() })
}

/// A tree as somebody else keeps it. It must not have been built in: kbuild refuses to build elsewhere then.
fn tree(folder: &Path) -> anyhow::Result<Tree> {
    let version = version(folder)?;
    for built in [".config", "include/config", "arch/x86/include/generated", "arch/arm64/include/generated"] {
        if folder.join(built).exists() {
            let message = format!("the source {} has been built in: it has `{built}`", folder.display());
            return Err(Failure::new(Exit::Usage, message)
                .help(format!(
                    "keep its `.config` elsewhere if you need it, then clean it: `make -C {} mrproper`; \
                     options of your own go into a fragment for `--config`",
                    folder.display()
                ))
                .into());
        }
    }
    let key = hex(&Sha256::digest(folder.as_os_str().as_encoded_bytes())[..8]);
    Ok(Tree {
        folder: folder.to_owned(),
        version,
        key,
        origin: format!("a source tree called {}", name_of(folder)),
    })
}

/// Reads the version at the start of the tree's Makefile.
pub fn version(folder: &Path) -> anyhow::Result<Version> {
    let foreign = || {
        Failure::new(Exit::Usage, format!("{} is not the source of a Linux kernel", folder.display()))
            .help("`--source` takes a kernel's tarball, such as linux-6.12.tar.xz, or its unpacked tree")
    };
    let text = std::fs::read(folder.join("Makefile")).map_err(|_| foreign())?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = |name: &str| {
        let mut lines = text.lines().take(20).filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let (Some(version), Some(patch), Some(sub)) = (value("VERSION"), value("PATCHLEVEL"), value("SUBLEVEL"))
    else {
        return Err(foreign().into());
    };
    if !folder.join("Kconfig").is_file() {
        return Err(foreign().into());
    }
    Ok(Version(format!("{version}.{patch}.{sub}{}", value("EXTRAVERSION").unwrap_or_default())))
}

#[cfg(test)]
pub mod testing {
    /// The files of a source tree that has nothing but its version.
    pub const FILES: [(&str, &[u8]); 2] = [
        ("Makefile", b"# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 9\nSUBLEVEL = 3\nEXTRAVERSION =\n"),
        ("Kconfig", b"mainmenu \"Linux\"\nconfig NET\n\tbool \"net\"\n"),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::super::archive::testing::{tar, xz};
    use super::*;

    struct Setup {
        folder: tempfile::TempDir,
    }

    impl Setup {
        fn new() -> Self {
            Setup { folder: tempfile::tempdir().unwrap() }
        }

        fn obtain(&self, path: &str, sha256: Option<&str>) -> anyhow::Result<Tree> {
            let path = self.folder.path().join(path);
            let source = Source::Local { path, sha256: sha256.map(str::to_owned) };
            source.obtain(&KernelCache::new(self.folder.path().join("cache")), Shell::default())
        }

        fn tarball(&self) -> String {
            let files: Vec<_> =
                testing::FILES.iter().map(|(name, text)| (format!("linux-6.9.3/{name}"), *text)).collect();
            let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
            let bytes = xz(&tar(&files));
            std::fs::write(self.folder.path().join("linux.tar.xz"), &bytes).unwrap();
            hex(&Sha256::digest(&bytes))
        }

        fn tree(&self) -> PathBuf {
            let tree = self.folder.path().join("tree");
            std::fs::create_dir(&tree).unwrap();
            for (name, text) in testing::FILES {
                std::fs::write(tree.join(name), text).unwrap();
            }
            tree
        }
    }

    #[test]
    fn a_tarball_is_unpacked_once() {
        let setup = Setup::new();
        let sha256 = setup.tarball();
        let tree = setup.obtain("linux.tar.xz", Some(&sha256.to_uppercase())).unwrap();
        assert_eq!(tree.version.to_string(), "6.9.3");
        assert_eq!(tree.origin, format!("linux.tar.xz with SHA-256 {sha256}"));
        std::fs::write(tree.folder.join("marker"), "").unwrap();
        assert_eq!(setup.obtain("linux.tar.xz", None).unwrap(), tree);
        assert!(tree.folder.join("marker").exists());
    }

    #[test]
    fn a_wrong_hash_is_told_and_nothing_is_unpacked() {
        let setup = Setup::new();
        let found = setup.tarball();
        let wrong = "ab".repeat(32);
        let error = setup.obtain("linux.tar.xz", Some(&wrong)).unwrap_err();
        let file = std::fs::canonicalize(setup.folder.path()).unwrap().join("linux.tar.xz");
        assert_eq!(
            error.to_string(),
            format!("{} has the wrong content: its SHA-256 is {found}, not {wrong}", file.display())
        );
        assert_eq!(Failure::exit_of(&error), Exit::Fetch);
        assert!(!setup.folder.path().join("cache").exists());
        let error = setup.obtain("linux.tar.xz", Some("12")).unwrap_err();
        assert_eq!(error.to_string(), "`12` is not a SHA-256, which has 64 hex digits");
    }

    #[test]
    fn a_tree_that_was_built_in_says_how_to_clean_it() {
        let setup = Setup::new();
        let tree = std::fs::canonicalize(setup.tree()).unwrap();
        let found = setup.obtain("tree", None).unwrap();
        assert_eq!(
            (found.folder.as_path(), found.origin.as_str()),
            (tree.as_path(), "a source tree called tree")
        );
        std::fs::write(tree.join(".config"), "").unwrap();
        let error = setup.obtain("tree", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the source {} has been built in: it has `.config`", tree.display())
        );
        assert!(Failure::help_of(&error).unwrap().contains(&format!("make -C {} mrproper", tree.display())));
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let setup = Setup::new();
        std::fs::create_dir(setup.folder.path().join("other")).unwrap();
        std::fs::write(setup.folder.path().join("other/Makefile"), "all:\n").unwrap();
        let error = setup.obtain("other", None).unwrap_err();
        assert!(error.to_string().ends_with("other is not the source of a Linux kernel"), "{error}");
        let error = setup.obtain("nowhere", None).unwrap_err();
        assert!(error.to_string().starts_with("failed to read the source "), "{error}");
        let error = setup.obtain("other", Some(&"ab".repeat(32))).unwrap_err();
        assert!(error.to_string().ends_with("is a folder"), "{error}");
    }
}
