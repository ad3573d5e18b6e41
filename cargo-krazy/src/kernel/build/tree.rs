//! A source tree on this machine, and its version.

use std::fmt;
use std::path::{Path, PathBuf};

use krazy_boot::digest::hex;
use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure};

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

impl Tree {
    /// A tree as somebody else keeps it. It must not have been built in: kbuild refuses to build elsewhere then.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        let version = Version::of(directory)?;
        for built in
            [".config", "include/config", "arch/x86/include/generated", "arch/arm64/include/generated"]
        {
            if directory.join(built).exists() {
                let message =
                    format!("the source {} has been built in: it has `{built}`", directory.display());
                return Err(Failure::new(Exit::Usage, message)
                    .help(format!(
                        "keep its `.config` elsewhere if you need it, then clean it: `make -C {} mrproper`; \
                         options of your own go into a fragment for `--config`",
                        directory.display()
                    ))
                    .into());
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
    pub(crate) fn of(directory: &Path) -> anyhow::Result<Self> {
        let foreign = || {
            Failure::new(Exit::Usage, format!("{} is not the source of a Linux kernel", directory.display()))
                .help("`--source` takes a kernel's tarball, such as linux-6.12.tar.xz, or its unpacked tree")
        };
        let text = std::fs::read(directory.join("Makefile")).map_err(|_| foreign())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let value = |name: &str| {
            let mut lines = text.lines().take(20).filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        let (Some(version), Some(patch), Some(sub)) =
            (value("VERSION"), value("PATCHLEVEL"), value("SUBLEVEL"))
        else {
            return Err(foreign().into());
        };
        if !directory.join("Kconfig").is_file() {
            return Err(foreign().into());
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
