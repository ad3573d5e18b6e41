//! A source tree on this machine, and its version.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use krazy_boot::digest::hex;
use sha2::{Digest, Sha256};

use crate::failure::{Exit, Explain};

/// A source tree on this machine that is ready to build from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// The version in its Makefile.
    pub(crate) version: Version,
    /// Distinguishes it from every other source; the name of a directory.
    pub(crate) key: String,
    /// Its origin, without any path of this machine.
    pub(crate) origin: String,
}

/// `VERSION.PATCHLEVEL.SUBLEVEL` and `EXTRAVERSION` of a kernel's Makefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(String);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A source that is not a tree to build from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// It has files that a build inside it leaves.
    #[error("the source {} has been built in: it has `{file}`", directory.display())]
    BuiltIn {
        /// The tree.
        directory: PathBuf,
        /// Such a file, or a directory of them.
        file: &'static str,
    },
    /// It is of something else.
    #[error("{} is not the source of a Linux kernel", directory.display())]
    NotATree {
        /// The directory.
        directory: PathBuf,
    },
    /// A tarball of something else.
    #[error("{} is not the tarball of a Linux kernel's source", tarball.display())]
    NotATarball {
        /// The tarball.
        tarball: PathBuf,
    },
    /// A tarball cannot be unpacked.
    #[error("failed to unpack {}: {error}", tarball.display())]
    Unpack {
        /// The tarball.
        tarball: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A tarball has a path that would leave the tree.
    #[error("refused to unpack `{}` of {}: it leaves the directory", path.display(), tarball.display())]
    Outside {
        /// The tarball.
        tarball: PathBuf,
        /// The path.
        path: PathBuf,
    },
}

impl Explain for TreeError {
    fn exit(&self) -> Exit {
        match self {
            TreeError::BuiltIn { .. } | TreeError::NotATree { .. } | TreeError::NotATarball { .. } => {
                Exit::Usage
            }
            TreeError::Unpack { .. } | TreeError::Outside { .. } => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            TreeError::BuiltIn { directory, .. } => {
                return Some(format!(
                    "keep its `.config` elsewhere if you need it, then clean it: `make -C {} mrproper`; \
                     options of your own go into a fragment for `--config`",
                    directory.display()
                ));
            }
            TreeError::NotATree { .. } => {
                "`--source` takes a kernel's tarball, such as linux-6.12.tar.xz, or its unpacked tree"
            }
            TreeError::NotATarball { .. } => {
                "take one from kernel.org, or `/usr/src/linux-source-*.tar.xz` of Debian's package linux-source"
            }
            TreeError::Unpack { error, .. } if error.kind() == io::ErrorKind::StorageFull => {
                "make room (a kernel's source takes 2 GB), or set KRAZY_CACHE_DIR to a directory on a larger disk"
            }
            TreeError::Unpack { .. } => "it is damaged or incomplete: get it again",
            TreeError::Outside { .. } => "the archive is damaged or was made to do harm; do not use it",
        };
        Some(help.to_owned())
    }
}

impl Tree {
    /// Opens a tree that the user unpacked. It must not have been built in: kbuild refuses to build elsewhere then.
    pub(crate) fn open(directory: &Path) -> Result<Self, TreeError> {
        let version = Version::of(directory)?;
        for built in
            [".config", "include/config", "arch/x86/include/generated", "arch/arm64/include/generated"]
        {
            if directory.join(built).exists() {
                return Err(TreeError::BuiltIn { directory: directory.to_owned(), file: built });
            }
        }
        let key = hex(&Sha256::digest(directory.as_os_str().as_encoded_bytes())[..8]);
        Ok(Tree {
            directory: directory.to_owned(),
            version,
            key,
            origin: format!("a source tree called {}", name_of(directory)),
        })
    }
}

impl Version {
    /// Reads the version at the start of the tree's Makefile.
    pub(crate) fn of(directory: &Path) -> Result<Self, TreeError> {
        let foreign = || TreeError::NotATree { directory: directory.to_owned() };
        let text = std::fs::read(directory.join("Makefile")).map_err(|_| foreign())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let value = |name: &str| {
            let mut lines = text.lines().take(20).filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        let (Some(version), Some(patch), Some(sub)) =
            (value("VERSION"), value("PATCHLEVEL"), value("SUBLEVEL"))
        else {
            return Err(foreign());
        };
        if !directory.join("Kconfig").is_file() {
            return Err(foreign());
        }
        Ok(Version(format!("{version}.{patch}.{sub}{}", value("EXTRAVERSION").unwrap_or_default())))
    }
}

/// The last part of a path.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
pub(crate) mod testing {
    /// The files of a source tree that has nothing but its version.
    pub(crate) const FILES: [(&str, &[u8]); 2] = [
        ("Makefile", b"# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 9\nSUBLEVEL = 3\nEXTRAVERSION =\n"),
        ("Kconfig", b"mainmenu \"Linux\"\nconfig NET\n\tbool \"net\"\n"),
    ];
}
