//! The toolchain of all boards, besides cargo: standard libraries for musl and for UEFI.
//!
//! rustup adds the targets. Where it cannot, cargo krazy builds the standard library itself, from the sources that
//! Debian has for some releases of Rust. The C compiler is what cargo krazy downloads itself.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{debian, workspace};
use crate::process::succeed;

/// The targets of all boards, and of the UEFI loader.
const TARGETS: [&str; 3] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "x86_64-unknown-uefi"];

/// The Debian suite with newer releases of Rust.
const BACKPORTS: &str = "trixie-backports";

/// Installs the missing parts.
pub(crate) fn install_missing() -> Result<()> {
    let missing: Vec<_> = TARGETS.into_iter().filter(|target| !has_std(target)).collect();
    if missing.is_empty() || sysroot()?.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file() {
        return Ok(());
    }
    if add_targets(&missing) {
        return Ok(());
    }
    let release = release()?;
    eprintln!("suite: rustup cannot add {}; fetching the sources of Rust {release}", missing.join(" and "));
    install_sources(&release).with_context(|| {
        format!(
            "no way to build for {}: rustup cannot add it, and the sources of Rust {release} cannot be had",
            missing.join(" and ")
        )
    })
}

/// Returns true if rustup added all of `targets`. The reason of a failure does not matter: there is another way.
fn add_targets(targets: &[&str]) -> bool {
    // On a network that drops packets, rustup would wait longer than the library takes to build.
    let status = Command::new("timeout").args(["300", "rustup", "target", "add"]).args(targets).status();
    status.is_ok_and(|status| status.success()) && targets.iter().all(|target| has_std(target))
}

/// Unpacks the standard library's sources where cargo's `-Zbuild-std` looks for them.
fn install_sources(release: &str) -> Result<()> {
    let sources = sysroot()?.join("lib/rustlib/src");
    std::fs::create_dir_all(&sources)?;
    let directory = tempfile::tempdir_in(&sources)?;
    let deb = debian::download(BACKPORTS, "rust-src", &format!("{release}+*"), directory.path())?;
    let unpacked = directory.path().join("rust");
    std::fs::create_dir(&unpacked)?;
    let mut archive =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&deb).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new("tar");
    // ./usr/src/rustc-RELEASE/library becomes library.
    tar.args(["--extract", "--strip-components=4", "--directory"]).arg(&unpacked);
    tar.arg(format!("./usr/src/rustc-{release}/library"));
    succeed(tar.stdin(archive.stdout.take().context("dpkg-deb has no output")?))?;
    ensure!(archive.wait()?.success(), "dpkg-deb could not read {}", deb.display());
    // Only a complete directory gets the name that counts.
    std::fs::rename(&unpacked, sources.join("rust"))?;
    Ok(())
}

/// Returns true if the standard library for `triple` is installed, or as much of it as there is.
pub(crate) fn has_std(triple: &str) -> bool {
    let library = |sysroot: PathBuf| sysroot.join("lib/rustlib").join(triple).join("lib");
    sysroot().is_ok_and(|sysroot| {
        std::fs::read_dir(library(sysroot)).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
        })
    })
}

fn sysroot() -> Result<PathBuf> {
    let output = succeed(Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace()))?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn release() -> Result<String> {
    let output = succeed(Command::new("rustc").arg("-vV").current_dir(workspace()))?;
    let text = String::from_utf8(output.stdout)?;
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    Ok(release.context("rustc names no release")?.to_owned())
}
