//! Debian packages: installed on the machine, or only downloaded, from whatever mirror its apt uses.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::disk::succeed;
use crate::judges::{find, is_root};

/// The keys of the archive, as Debian's own systems have them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs `packages` with apt-get, as root or through sudo.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let advice = format!("install these packages and run this command again: {list}");
    let Some(apt) = find("apt-get") else { bail!("this is not a Debian system; {advice}") };
    eprintln!("installing {list}");
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
        ensure!(status.success(), "{command:?} ended with {status}; {advice}");
        Ok(())
    };
    let mut update = command();
    update.args(["update", "-q"]);
    run(update)?;
    let mut install = command();
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
    run(install)
}

/// Downloads `package` of exactly `version` (with apt's `*`) from `suite` into `folder` and returns the `.deb`.
///
/// The suite need not be one of the machine's: apt gets a list of sources of its own, with the machine's mirror,
/// and leaves the machine's as they are.
pub fn download(suite: &str, package: &str, version: &str, folder: &Path) -> Result<PathBuf> {
    let apt = find("apt-get").context("this is not a Debian system")?;
    for name in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    let sources = folder.join("sources.list");
    std::fs::write(&sources, format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror(&apt)?))?;
    let command = || {
        let mut command = Command::new(&apt);
        command.current_dir(folder);
        for (name, value) in [
            ("Dir::Etc::sourcelist", sources.clone()),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State::lists", folder.join("lists")),
            ("Dir::Cache", folder.join("cache")),
        ] {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        // The folder is the caller's own, where apt's user may not write.
        command.args(["-q", "-o", "APT::Sandbox::User=root"]);
        command
    };
    succeed(command().arg("update"))?;
    succeed(command().arg("download").arg(format!("{package}={version}")))?;
    let start = format!("{package}_");
    let mut entries = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    entries
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
        .with_context(|| format!("apt-get downloaded no {package}"))
}

/// The address apt fetches Debian itself from, as apt tells it.
fn mirror(apt: &Path) -> Result<String> {
    let mut command = Command::new(apt);
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let text = String::from_utf8(succeed(&mut command)?.stdout)?;
    let main = text.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    Ok(main.context("apt has no source of Debian's main archive")?.to_owned())
}
