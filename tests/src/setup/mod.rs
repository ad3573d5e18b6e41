//! Everything that the suite needs and a fresh machine lacks. A missing tool is installed; if that fails, the suite
//! fails, because a missing judge judges nothing.
//!
//! | module | installs |
//! |---|---|
//! | [`judges`] | Debian packages: foreign judges, QEMU, the source of a kernel |
//! | [`cross`] | standard libraries for musl and UEFI |
//! | [`tools`] | cargo-nextest, mdbook and typos, in versions of our own choice |
//! | [`debian`], [`python`] | the two package managers behind them |

pub(crate) mod cross;
pub mod debian;
pub mod judges;
pub mod python;
pub mod tools;

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Returns the root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns cargo's target directory.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Returns the directory of everything that the suite installs for itself. It goes with the target directory.
pub(crate) fn directory() -> PathBuf {
    target_directory().join("suite")
}

/// Installs what is missing, and prints what it is about to install.
pub fn install_missing() -> Result<()> {
    judges::install_missing()?;
    cross::install_missing()?;
    tools::install_missing()
}
