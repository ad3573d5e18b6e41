//! The input of detection: variables and the programs on `PATH`. Injected, so that tests can describe
//! machines other than the one they run on.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The variables of a process and, through `PATH`, the programs it can start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    vars: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process, without what `cargo run` adds about the package it runs: that is ours,
    /// and must not show in what we build.
    pub(crate) fn current() -> Self {
        let ours = |name: &OsStr| {
            let name = name.to_string_lossy();
            let starts =
                ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_PACKAGE"];
            starts.iter().any(|start| name.starts_with(start)) || name == "OUT_DIR"
        };
        Environment { vars: std::env::vars_os().filter(|(name, _)| !ours(name)).collect() }
    }

    /// An environment of exactly these variables.
    #[cfg(test)]
    pub(crate) fn of<K: Into<OsString>, V: Into<OsString>>(vars: impl IntoIterator<Item = (K, V)>) -> Self {
        Environment { vars: vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// This environment with one variable set.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// A variable's value; an empty one counts as unset, as it does for cargo.
    pub(crate) fn var(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Every variable, sorted by name.
    pub(crate) fn vars(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The first executable called `program` on `PATH`; a `program` with a directory is taken as it is.
    pub(crate) fn find(&self, program: impl AsRef<Path>) -> Option<PathBuf> {
        let program = program.as_ref();
        if program.components().count() > 1 {
            return is_executable(program).then(|| program.to_owned());
        }
        let path = self.var("PATH")?;
        std::env::split_paths(path).map(|directory| directory.join(program)).find(|file| is_executable(file))
    }

    /// A command that sees this environment and nothing else.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.vars);
        command
    }

    /// The standard output of a short command, trimmed.
    ///
    /// # Errors
    /// If it does not start, fails, or answers in something other than UTF-8; names the command and its
    /// standard error.
    pub(crate) fn ask(
        &self,
        program: &Path,
        args: &[&str],
        directory: Option<&Path>,
    ) -> anyhow::Result<String> {
        let mut command = self.command(program);
        command.args(args);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let what = || format!("failed to run `{} {}`", program.display(), args.join(" "));
        let output = command.output().with_context(what)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(anyhow::anyhow!("{}: {}", output.status, said.trim()).context(what()));
        }
        Ok(String::from_utf8(output.stdout).with_context(what)?.trim().to_owned())
    }

    /// Cargo's home directory: `$CARGO_HOME`, else `~/.cargo`.
    pub(crate) fn cargo_home(&self) -> Option<PathBuf> {
        match self.var("CARGO_HOME") {
            Some(home) => Some(PathBuf::from(home)),
            None => Some(Path::new(self.var("HOME")?).join(".cargo")),
        }
    }

    /// The cargo that called us, else the one on `PATH`.
    pub(crate) fn cargo(&self) -> PathBuf {
        self.var("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
    }
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}
