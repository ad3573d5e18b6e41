//! Debian packages: installed on the machine, or only downloaded, from the mirror that its apt uses.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{find, is_root, succeed};

/// The keys of the archive on a Debian system.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs `packages` with apt-get, as root or through sudo.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let advice = format!("install these packages and run this command again: {list}");
    let Some(apt) = find("apt-get") else { bail!("this is not a Debian system; {advice}") };
    eprintln!("suite: installing Debian packages: {list}");
    let root = is_root()?;
    let command = || {
        let mut command = if root { Command::new(&apt) } else { Command::new("sudo") };
        if !root {
            command.arg(&apt);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300"]);
        command
    };
    let run = |mut command: Command| -> Result<()> {
        let status = command.status().with_context(|| format!("failed to run {command:?}; {advice}"))?;
        ensure!(status.success(), "{command:?} failed with {status}; {advice}");
        Ok(())
    };
    let mut update = command();
    update.args(["update", "-q"]);
    run(update)?;
    let mut install = command();
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
    run(install)
}

/// Downloads `package` of exactly `version` (with apt's `*`) from `suite` into `directory` and returns the `.deb`.
///
/// The suite need not be one of the machine's: apt gets a separate list of sources, with the machine's mirror.
pub fn download(suite: &str, package: &str, version: &str, directory: &Path) -> Result<PathBuf> {
    let apt = find("apt-get").context("this is not a Debian system")?;
    for name in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(directory.join(name))?;
    }
    let sources = directory.join("sources.list");
    std::fs::write(&sources, format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror(&apt)?))?;
    let command = || {
        let mut command = Command::new(&apt);
        command.current_dir(directory);
        for (name, value) in [
            ("Dir::Etc::sourcelist", sources.clone()),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State::lists", directory.join("lists")),
            ("Dir::Cache", directory.join("cache")),
        ] {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        // apt's own user may not write into the caller's directory.
        command.args(["-q", "-o", "APT::Sandbox::User=root"]);
        command
    };
    succeed(command().arg("update"))?;
    succeed(command().arg("download").arg(format!("{package}={version}")))?;
    let start = format!("{package}_");
    let mut entries = std::fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    entries
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
        .with_context(|| format!("apt-get downloaded no {package}"))
}

/// Returns the address of the mirror that apt fetches Debian from.
fn mirror(apt: &Path) -> Result<String> {
    let mut command = Command::new(apt);
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let text = String::from_utf8(succeed(&mut command)?.stdout)?;
    let main = text.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    Ok(main.context("apt has no source of Debian's main archive")?.to_owned())
}
