//! The binaries in an install root and their inputs: `krazy.json` in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::environment::{self, Variables};
use super::error::{self, InstallError};
use super::freshness::{Inputs, Stamp};
use super::{Installed, elf};
use crate::config::{Install, Source};
use crate::failure::Result;
use crate::toolchain::{Codegen, Toolchain};
use krazy_boot::digest::hex;

const FILE: &str = "krazy.json";

/// The contents and origin of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    key: String,
    /// The binaries.
    pub(crate) installed: Vec<Installed>,
    stamps: Vec<Option<Stamp>>,
    /// `None`: cargo has to be asked.
    inputs: Option<Inputs>,
}

impl Record {
    /// A record of a root just made.
    pub(crate) fn new(key: String, installed: Vec<Installed>, inputs: Option<Inputs>) -> Self {
        let stamps = installed.iter().map(|one| Stamp::of(&one.path)).collect();
        Record { key, installed, stamps, inputs }
    }

    /// Reads the record in `root`. An unreadable one, such as another version's, counts as none: the root is made anew.
    pub(crate) fn read(root: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(root.join(FILE)).ok()?).ok()
    }

    /// Returns true if the root still holds what `key` and unchanged inputs made.
    pub(crate) fn holds(&self, key: &str) -> bool {
        let untouched =
            |(one, stamp): (&Installed, &Option<Stamp>)| stamp.is_some() && (Stamp::of(&one.path) == *stamp);
        self.key == key
            && !self.installed.is_empty()
            && self.installed.iter().zip(&self.stamps).all(untouched)
            && self.inputs.as_ref().is_some_and(Inputs::unchanged)
    }

    /// Writes the record into `root`.
    pub(crate) fn write(&self, root: &Path) -> anyhow::Result<()> {
        let path = root.join(FILE);
        let text = serde_json::to_vec(self)?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }
}

/// Everything but files that decides what comes out, as one hash.
pub(crate) fn key(install: &Install, pin: Option<&str>, toolchain: &Toolchain, codegen: &Codegen) -> String {
    let variables = match &install.source {
        _ if install.ours => Variables::OfCCompilers,
        Source::Path { .. } => Variables::AllButVolatile,
        Source::Registry { .. } | Source::Git { .. } => Variables::OfTools,
    };
    let mut hash = Sha256::new();
    for part in [
        format!("{install:?} {pin:?}"),
        format!("{} {:?} {}", toolchain.triple, toolchain.std, toolchain.rustc.version),
        format!("{codegen:?}"),
        environment::relevant(&toolchain.env, variables).join("\0"),
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Cargo's record of a root: `.crates2.json`, as far as it is used here.
#[derive(Deserialize)]
struct Crates {
    installs: std::collections::BTreeMap<String, Bins>,
}

#[derive(Deserialize)]
struct Bins {
    bins: Vec<String>,
}

/// Reads back what cargo put into `root` and checks that every binary can run on `triple`.
///
/// # Errors
/// `Exit::Build` naming a binary that cannot run.
pub(crate) fn inspect(install: &Install, root: &Path, triple: &str) -> Result<Vec<Installed>> {
    let list = root.join(".crates2.json");
    let failed = || format!("failed to read {}", list.display());
    let crates: Crates =
        serde_json::from_slice(&fs::read(&list).with_context(failed)?).with_context(failed)?;
    let mut installed = Vec::new();
    for (id, Bins { bins }) in crates.installs {
        let (package, version, source) = parts(&id).with_context(failed)?;
        for bin in bins {
            let path: PathBuf = root.join("bin").join(&bin);
            let data = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            elf::check(&data, &bin, package, triple)?;
            installed.push(Installed {
                install: install.name.clone(),
                bin,
                path,
                package: package.to_owned(),
                version: version.to_owned(),
                source: plain(source),
                sha256: hex(&Sha256::digest(&data)),
                bytes: data.len() as u64,
            });
        }
    }
    if installed.is_empty() {
        return Err(InstallError::NoBinary { package: error::describe(install), library: false }.into());
    }
    Ok(installed)
}

/// `NAME VERSION (SOURCE)`.
fn parts(id: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = id.split_once(' ')?;
    let (version, source) = rest.split_once(" (")?;
    Some((name, version, source.strip_suffix(')')?))
}

/// The source without this machine's directories, and without the branch, tag or commit a git crate was asked for
/// by: the commit alone identifies it, and is the same with and without an entry in the lock file.
fn plain(source: &str) -> String {
    if source.starts_with("path+") {
        return "path".to_owned();
    }
    match (source.split_once('?'), source.rsplit_once('#')) {
        (Some((url, _)), Some((_, commit))) if source.starts_with("git+") => format!("{url}#{commit}"),
        _ => source.to_owned(),
    }
}

/// Returns the resolution of a requirement: the commit of a git crate, the version of a registry's.
pub(crate) fn resolved(installed: &Installed) -> Option<String> {
    if installed.source.starts_with("git+") {
        installed.source.rsplit_once('#').map(|(_, commit)| commit.to_owned())
    } else if installed.source == "path" {
        None
    } else {
        Some(installed.version.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_package_ids_are_read() {
        assert_eq!(
            parts("gg 0.1.0 (git+file:///tmp/g?branch=x#27e895c5)"),
            Some(("gg", "0.1.0", "git+file:///tmp/g?branch=x#27e895c5"))
        );
        assert_eq!(parts("gg"), None);
        assert_eq!(plain("git+file:///tmp/g?branch=x#27e895c5"), "git+file:///tmp/g#27e895c5");
        assert_eq!(plain("path+file:///home/me/g"), "path");
    }
}
