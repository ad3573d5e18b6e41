//! Machines for tests: a directory of shell scripts as `PATH`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::environment::Environment;

/// A machine with exactly the programs a test gives it.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    /// A machine without programs.
    pub(crate) fn new() -> Self {
        Machine { directory: tempfile::tempdir().unwrap() }
    }

    /// The file or program `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Installs a program with the shell script `body`.
    pub(crate) fn program(&self, name: &str, body: &str) {
        // Another process writes the file: a descriptor of ours, inherited by a test that forks at this
        // moment, would make the script "busy".
        let write = r#"printf '%s\n' '#!/bin/sh' "$1" >"$0"; chmod 755 "$0""#;
        let status = Command::new("sh").args(["-c", write]).arg(self.path(name)).arg(body).status().unwrap();
        assert!(status.success());
    }

    /// An empty file, with its directories.
    pub(crate) fn file(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    /// Its environment: only these programs on `PATH`, and `vars`.
    pub(crate) fn environment(&self, vars: &[(&str, &str)]) -> Environment {
        let path = self.directory.path().to_str().unwrap();
        Environment::of([("PATH", path), ("HOME", path)].into_iter().chain(vars.iter().copied()))
    }
}
