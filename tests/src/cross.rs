//! What images of both boards are built with, besides cargo: standard libraries for musl, and zig.
//!
//! rustup adds the targets. Where it cannot, cargo krazy builds the standard library itself, and needs its
//! sources for that: Debian has them for some releases of Rust. zig compiles C for both boards, and links what
//! was built that way. All of this is put where a user's machine would have it, or into the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::debian;
use crate::disk::succeed;
use crate::judges::find;
use crate::krazy::workspace;

/// The targets of all boards.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// Zig as PyPI has it; other versions take other arguments.
const ZIG: &str = "ziglang==0.17.1";

/// Where Debian keeps newer releases of Rust than its own.
const BACKPORTS: &str = "trixie-backports";

/// The folder of zig's executable, if the suite has installed it.
pub fn zig_folder() -> PathBuf {
    target().join("suite").join("python").join("ziglang")
}

/// Gets what is missing; what cannot be had is an error.
pub fn install_missing() -> Result<()> {
    install_zig()?;
    let missing: Vec<_> = TARGETS.into_iter().filter(|target| !has_std(target)).collect();
    if missing.is_empty() || sysroot()?.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file() {
        return Ok(());
    }
    if add_targets(&missing) {
        return Ok(());
    }
    let release = release()?;
    eprintln!("rustup cannot add {}; fetching the sources of Rust {release}", missing.join(" and "));
    install_sources(&release).with_context(|| {
        format!(
            "no way to build for {}: rustup cannot add it, and the sources of Rust {release} cannot be had",
            missing.join(" and ")
        )
    })
}

fn install_zig() -> Result<()> {
    let folder = zig_folder();
    if find("zig").is_some() || folder.join("zig").is_file() {
        return Ok(());
    }
    let python = find("python3").context("python3, which brings zig, is not installed")?;
    if succeed(Command::new(&python).args(["-m", "pip", "--version"])).is_err() {
        debian::install(&["python3-pip"])?;
    }
    eprintln!("installing {ZIG}");
    // Into a folder of ours: the machine's Python stays as it is.
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]);
    succeed(pip.args([folder.parent().unwrap_or(&folder).as_os_str(), ZIG.as_ref()]))?;
    ensure!(folder.join("zig").is_file(), "{ZIG} has no zig in {}", folder.display());
    Ok(())
}

/// Whether rustup could add all of `targets`. Why not does not matter: there is another way.
fn add_targets(targets: &[&str]) -> bool {
    // A network that swallows packets would hold it for longer than building the library takes.
    let status = Command::new("timeout").args(["300", "rustup", "target", "add"]).args(targets).status();
    status.is_ok_and(|status| status.success()) && targets.iter().all(|target| has_std(target))
}

/// Unpacks the standard library's sources to where cargo's `-Zbuild-std` looks for them.
fn install_sources(release: &str) -> Result<()> {
    let sources = sysroot()?.join("lib/rustlib/src");
    std::fs::create_dir_all(&sources)?;
    let folder = tempfile::tempdir_in(&sources)?;
    let deb = debian::download(BACKPORTS, "rust-src", &format!("{release}+*"), folder.path())?;
    let unpacked = folder.path().join("rust");
    std::fs::create_dir(&unpacked)?;
    let mut archive =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&deb).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new("tar");
    // ./usr/src/rustc-RELEASE/library becomes library.
    tar.args(["--extract", "--strip-components=4", "--directory"]).arg(&unpacked);
    tar.arg(format!("./usr/src/rustc-{release}/library"));
    succeed(tar.stdin(archive.stdout.take().context("dpkg-deb has no output")?))?;
    ensure!(archive.wait()?.success(), "dpkg-deb could not read {}", deb.display());
    // Only a complete folder gets the name that counts.
    std::fs::rename(&unpacked, sources.join("rust"))?;
    Ok(())
}

fn has_std(triple: &str) -> bool {
    let library = |sysroot: PathBuf| sysroot.join("lib/rustlib").join(triple).join("lib");
    sysroot().is_ok_and(|sysroot| {
        std::fs::read_dir(library(sysroot)).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
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

/// The target folder of the tests.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |folder| Path::new(&folder).into())
}
