//! Packages of PyPI, each in a directory of its own: the machine's Python stays as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian;
use crate::process::{find, succeed};

/// Returns the directory of the pinned `package`, which need not be installed.
pub(crate) fn directory(package: &str) -> PathBuf {
    super::directory().join("python").join(package.replace("==", "-"))
}

/// Installs the pinned `package`, such as `typos==1.52.0`, unless it is there, and returns its directory.
pub(crate) fn install(package: &str) -> Result<PathBuf> {
    let target = self::directory(package);
    // pip fills the directory file by file: only a complete one gets the name that counts.
    if target.is_dir() {
        return Ok(target);
    }
    let python = find("python3").context("python3 is not installed; install the Debian package python3")?;
    if succeed(Command::new(&python).args(["-m", "pip", "--version"])).is_err() {
        debian::install(&["python3-pip"])?;
    }
    eprintln!("suite: installing {package} from PyPI");
    let partial = target.with_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial)?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]);
    succeed(pip.arg(&partial).arg(package))?;
    std::fs::rename(&partial, &target)?;
    Ok(target)
}

/// Installs pinned packages and what they depend on into the virtual environment `name`, unless it is there.
pub(crate) fn install_environment(name: &str, packages: &[&str]) -> Result<()> {
    let target = super::directory().join(name);
    let complete = target.join("complete");
    if complete.is_file() {
        return Ok(());
    }
    let python = find("python3").context("python3 is not installed; install the Debian package python3")?;
    if succeed(Command::new(&python).args(["-c", "import ensurepip"])).is_err() {
        debian::install(&["python3-venv"])?;
    }
    eprintln!("suite: installing {} from PyPI", packages.join(" and "));
    succeed(Command::new(&python).args(["-m", "venv", "--clear"]).arg(&target))?;
    succeed(
        Command::new(target.join("bin/python")).args(["-m", "pip", "install", "--quiet"]).args(packages),
    )?;
    Ok(std::fs::write(complete, packages.join("\n"))?)
}

/// Returns the file at `path` below the installed `package`.
pub(crate) fn installed_file(package: &str, path: &str) -> Result<PathBuf> {
    let file = install(package)?.join(Path::new(path));
    ensure!(file.is_file(), "{package} of PyPI has no {path}");
    Ok(file)
}
