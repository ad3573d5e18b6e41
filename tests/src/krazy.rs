//! The program under test, as a user runs it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

use anyhow::{Context, Result};

use crate::setup::{target_directory, workspace};

/// The executable: under `cargo suite` the one of its unit tests, which checks arithmetic and assertions, too; alone,
/// and for figures, the one that users have.
static PROGRAM: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    if let Some(program) = std::env::var_os("KRAZY_TEST_PROGRAM") {
        return Ok(program.into());
    }
    let run = escargot::CargoBuild::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .package("cargo-krazy")
        .bin("cargo-krazy")
        .release()
        .run();
    run.map(|run| run.path().to_owned()).map_err(|error| error.to_string())
});

/// The surroundings of one test's appliances: secrets of their own, and a cache shared with all tests.
#[derive(Debug)]
pub struct Krazy {
    /// The directory of everything that the test writes, the state directory included.
    pub directory: tempfile::TempDir,
}

impl Krazy {
    /// Makes an empty directory.
    pub fn new() -> Result<Self> {
        Ok(Krazy { directory: tempfile::tempdir()? })
    }

    /// Returns the command `cargo krazy ARGUMENTS`, to be run in the workspace.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Command> {
        let program = PROGRAM.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut command = Command::new(program);
        command.arg("krazy").args(arguments).current_dir(workspace());
        command.env("KRAZY_STATE_DIR", self.directory.path().join("state"));
        // Packages of the tests share their dependencies, krazy-init and krazy-admind above all.
        command.env("CARGO_TARGET_DIR", target_directory());
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("KRAZY_TOKEN");
        // The suite may be root by sudo, in the checkout of another user.
        command.env_remove("SUDO_UID");
        Ok(command)
    }

    /// Runs `cargo krazy ARGUMENTS` and waits for its exit.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
        let mut command = self.command(arguments)?;
        command.output().with_context(|| format!("failed to run {command:?}"))
    }

    /// Runs `cargo krazy ARGUMENTS` and expects success; the error carries its messages.
    pub fn succeed<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
        let output = self.run(arguments)?;
        anyhow::ensure!(
            output.status.success(),
            "{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }
}
