//! What `cargo suite` does, in order; the first failure ends it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{cross, judges};

/// Runs the whole suite. Arguments are handed to the system tests as libtest filters.
pub fn main() -> ExitCode {
    let filters: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&filters) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("suite failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(filters: &[OsString]) -> Result<()> {
    judges::install_missing()?;
    if !judges::is_root()? {
        bail!(
            "some tests mount file systems and change owners; run the suite as root, in a container for instance"
        );
    }
    cross::install_missing()?;
    if filters.is_empty() {
        cargo("format", &["fmt", "--all", "--check"], &[])?;
        let lints = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        cargo("lints", &lints, &[])?;
        let units = ["test", "--workspace", "--all-features", "--exclude", "krazy-tests"];
        cargo("unit and integration tests", &units, &[])?;
    }
    cargo("the program", &["build", "--release", "--package", "cargo-krazy"], &[])?;
    // Two machines at a time keep two cores busy; each test is bounded by its own time limits.
    cargo("system tests", &["test", "--package", "krazy-tests", "--", "--test-threads", "2"], filters)
}

fn cargo(what: &str, arguments: &[&str], filters: &[OsString]) -> Result<()> {
    let begin = Instant::now();
    eprintln!("suite: {what}");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package has no workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(judges::ADMINISTRATORS.map(PathBuf::from));
    let status = Command::new(cargo)
        .current_dir(workspace)
        .env("PATH", std::env::join_paths(folders)?)
        .args(arguments)
        .args(filters)
        .status()
        .context("failed to run cargo")?;
    eprintln!("suite: {what}: {} s", begin.elapsed().as_secs());
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}
