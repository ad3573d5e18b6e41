//! Tools of the suite that Debian does not have: built from crates.io, or packages of PyPI, always the same version.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{directory, python};
use crate::process::{find, succeed};

/// The test runner. The machine's own is used if it is at least [`OLDEST_NEXTEST`]: to build one takes minutes.
pub(crate) const NEXTEST: CargoTool =
    CargoTool { package: "cargo-nextest", version: "0.9.151", features: &["default-no-update"] };

/// The oldest test runner that knows everything in `.config/nextest.toml` and is known to run the suite.
const OLDEST_NEXTEST: [u32; 3] = [0, 9, 140];

/// The builder of the book in `docs/`.
pub(crate) const MDBOOK: CargoTool = CargoTool { package: "mdbook", version: "0.5.4", features: &["search"] };

/// The spell checker; its wheel holds the executable.
const TYPOS: &str = "typos==1.52.0";

/// The judges of the API's OpenAPI document and server; krazy-admind's tests run them.
const OPENAPI_JUDGES: [&str; 2] = ["openapi-spec-validator==0.9.0", "schemathesis==4.32.5"];

/// A program that `cargo install` builds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CargoTool {
    package: &'static str,
    version: &'static str,
    features: &'static [&'static str],
}

impl CargoTool {
    /// Returns the directory of the executable; the version is part of it, so that a new one is installed beside.
    pub(crate) fn directory(self) -> PathBuf {
        self.root().join("bin")
    }

    /// Returns a command for the executable.
    pub(crate) fn command(self) -> Command {
        Command::new(self.directory().join(self.package))
    }

    fn root(self) -> PathBuf {
        directory().join(format!("{}-{}", self.package, self.version))
    }

    fn install(self) -> Result<()> {
        let (CargoTool { package, version, features }, root) = (self, self.root());
        if self.directory().join(package).is_file() {
            return Ok(());
        }
        eprintln!("suite: installing {package} {version} from crates.io");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut install = Command::new(cargo);
        install.args([
            "install",
            "--locked",
            "--quiet",
            "--no-default-features",
            package,
            "--version",
            version,
        ]);
        install.args(["--features", &features.join(","), "--root"]).arg(&root);
        // They run for seconds; optimizing them would take minutes.
        for (name, value) in [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "16"), ("DEBUG", "0")] {
            install.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
        }
        // One for all: what two tools depend on is compiled once.
        succeed(install.arg("--target-dir").arg(build_directory()))
            .with_context(|| format!("failed to install {package} {version}"))?;
        ensure!(
            self.directory().join(package).is_file(),
            "cargo installed no {package} in {}",
            root.display()
        );
        Ok(())
    }
}

fn build_directory() -> PathBuf {
    directory().join("build")
}

/// Installs the tools that are missing.
pub(crate) fn install_missing() -> Result<()> {
    if !has_nextest() {
        NEXTEST.install()?;
    }
    MDBOOK.install()?;
    let build = build_directory();
    if build.exists() {
        std::fs::remove_dir_all(&build).with_context(|| format!("failed to remove {}", build.display()))?;
    }
    python::install(TYPOS)?;
    python::install_environment("openapi", &OPENAPI_JUDGES)
}

/// Returns true if the machine has a test runner that is new enough.
fn has_nextest() -> bool {
    let Some(program) = find("cargo-nextest") else { return false };
    let output = Command::new(program).args(["nextest", "--version"]).output();
    output.is_ok_and(|output| is_new_enough(&String::from_utf8_lossy(&output.stdout)))
}

fn is_new_enough(text: &str) -> bool {
    let version = text.split_whitespace().nth(1).unwrap_or_default();
    let numbers: Vec<u32> = version.split('.').map_while(|number| number.parse().ok()).collect();
    numbers.len() == 3 && numbers >= OLDEST_NEXTEST.to_vec()
}

/// Returns a command for typos.
pub(crate) fn typos() -> Result<Command> {
    Ok(Command::new(python::installed_file(TYPOS, "bin/typos")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_the_machines_test_runner_is_compared() {
        for (text, expected) in [
            ("cargo-nextest 0.9.143 (60fa45f63 2026-08-04)\nrelease: 0.9.143\n", true),
            ("cargo-nextest 0.9.140\n", true),
            ("cargo-nextest 0.10.0\n", true),
            ("cargo-nextest 0.9.99 (abc 2025-01-01)\n", false),
            ("cargo-nextest 0.9.143-rc.1\n", false),
            ("error: no such command\n", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(text), expected, "{text}");
        }
    }
}
