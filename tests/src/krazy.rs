//! The program under test, as a user runs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use anyhow::{Context, Result};

use crate::cross;

/// The executable, built once with the release profile: that is what users have.
static PROGRAM: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let run = escargot::CargoBuild::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .package("cargo-krazy")
        .bin("cargo-krazy")
        .release()
        .run();
    run.map(|run| run.path().to_owned()).map_err(|error| error.to_string())
});

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A place for one test's appliances: its own secrets, and a cache shared with all tests.
#[derive(Debug)]
pub struct Krazy {
    /// Where the appliances' secrets are kept; the parent of everything else this test writes.
    pub folder: tempfile::TempDir,
}

impl Krazy {
    /// A new, empty place.
    pub fn new() -> Result<Self> {
        Ok(Krazy { folder: tempfile::tempdir()? })
    }

    /// `cargo krazy ARGUMENTS`, to be run in the workspace.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Command> {
        let program = PROGRAM.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut command = Command::new(program);
        command.arg("krazy").args(arguments).current_dir(workspace());
        command.env("KRAZY_STATE_DIR", self.folder.path().join("state"));
        // Packages of the tests share what is compiled for them: krazy-init and krazy-admind foremost.
        if std::env::var_os("CARGO_TARGET_DIR").is_none() {
            command.env("CARGO_TARGET_DIR", workspace().join("target"));
        }
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("KRAZY_TOKEN");
        // The zig that the suite has installed, for a machine without one.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([cross::zig_folder()]);
        command.env("PATH", std::env::join_paths(folders)?);
        Ok(command)
    }

    /// Runs `cargo krazy ARGUMENTS` to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
        let mut command = self.command(arguments)?;
        command.output().with_context(|| format!("failed to run {command:?}"))
    }

    /// The same, and success is expected; the error carries what the program said.
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
