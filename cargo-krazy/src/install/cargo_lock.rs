//! The Cargo.lock of a path crate: made when it is missing and brought up to date when it is stale, as
//! `cargo build` in that directory would.
//!
//! `cargo install --locked` neither does that nor complains: of a stale lock file it resolves the missing part
//! anew every time, so that the same sources could give other bytes tomorrow (cargo 1.95).

use std::ffi::OsString;
use std::path::Path;

use cargo_util::ProcessBuilder;

use super::layout::workspace_of;
use super::run::{self, Errors, Outcome};
use crate::failure::Result;
use crate::shell::Shell;
use crate::toolchain::Toolchain;

/// Returns true if the workspace of `package` has a lock file.
pub(crate) fn is_there(package: &Path) -> bool {
    workspace_of(package).join("Cargo.lock").is_file()
}

/// Makes the lock file of `package` fit its manifests, changing only what they ask for; with `locked`, fails if it
/// does not fit. Goes to the network only for what is missing. `configs` are values of `--config`.
///
/// # Errors
/// If cargo does not start. Its output and its success are in the outcome.
pub(crate) fn refresh(
    package: &Path,
    configs: &[OsString],
    toolchain: &Toolchain,
    locked: bool,
    offline: bool,
    shell: Shell,
) -> Result<Outcome> {
    let mut cargo = ProcessBuilder::new(toolchain.env.cargo());
    // Of the commands that make a lock file fit, this one downloads for given targets only, and updates nothing.
    // Build scripts and macros are the host's.
    cargo.args(&["fetch", "--target", &toolchain.triple, "--target", &toolchain.rustc.host]);
    // Nothing is compiled, so that no wrapper of the compiler is needed.
    cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    cargo.cwd(package).arg("--manifest-path").arg(package.join("Cargo.toml"));
    for config in configs {
        cargo.arg("--config").arg(config);
    }
    for (_, flag) in [(locked, "--locked"), (offline, "--offline")].iter().filter(|(given, _)| *given) {
        cargo.arg(flag);
    }
    run::run(&cargo, &toolchain.env, Errors::Show, shell)
}
