//! Tools of the suite that Debian does not have: built from crates.io, or packages of PyPI, always the same version.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{directory, python};
use crate::process::succeed;

/// The test runner.
pub(crate) const NEXTEST: CargoTool =
    CargoTool { package: "cargo-nextest", version: "0.9.151", features: &["default-no-update"] };

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
    NEXTEST.install()?;
    MDBOOK.install()?;
    let build = build_directory();
    if build.exists() {
        std::fs::remove_dir_all(&build).with_context(|| format!("failed to remove {}", build.display()))?;
    }
    python::install(TYPOS)?;
    python::install_environment("openapi", &OPENAPI_JUDGES)
}

/// Returns a command for typos.
pub(crate) fn typos() -> Result<Command> {
    Ok(Command::new(python::installed_file(TYPOS, "bin/typos")?))
}
