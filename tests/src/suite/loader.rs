//! `cargo suite loader [--bless]`: compiles the UEFI loader, and compares it with the one in krazy-boot, or replaces that.
//!
//! Users have the compiled loader, so that an image needs no target of Rust besides musl, and a device the same bytes
//! from every machine. They are compared where compiler and standard library are those that made them. Everywhere, the
//! sources must be those that they were made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use krazy_boot::boot::uefi_loader::VERSION;
use krazy_boot::digest::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{cargo, status};
use crate::process::succeed;
use crate::setup::{cross, directory, workspace};

/// Targets, and the names of their loaders.
const LOADERS: [(&str, &str); 1] = [("x86_64-unknown-uefi", "BOOTX64.EFI")];

/// The loaders of krazy-boot, and what they were made with.
const COMMITTED: &str = "krazy-boot/src/boot/uefi_loader";
const RECORD: &str = "made-with.txt";

const NEXT_STEP: &str = "run `cargo suite loader --bless` and commit the result";

/// Compiles the loaders and compares or replaces the committed ones.
pub(super) fn run(bless: bool) -> Result<()> {
    let committed = workspace().join(COMMITTED);
    let mut sources = BTreeSet::new();
    let mut built = Vec::new();
    for (target, name) in LOADERS {
        let path = build(target)?;
        sources.extend(sources_of(&path.with_extension("d"))?);
        built.push((name, fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?));
    }
    let compiler =
        String::from_utf8(succeed(Command::new("rustc").arg("-V").current_dir(workspace()))?.stdout)?;
    let record = format!("{compiler}sources {}\nversion {VERSION}\n", hash(&sources)?);
    if bless {
        for (name, bytes) in &built {
            // Devices with a later version keep it, so equal versions must be equal bytes.
            let is_new = fs::read(committed.join(name)).map_or(true, |old| old != *bytes);
            let has_version = fs::read_to_string(committed.join(RECORD))
                .is_ok_and(|known| known.lines().nth(2) == record.lines().nth(2));
            ensure!(!is_new || !has_version, "{name} has changed: raise VERSION in {COMMITTED}.rs first");
            fs::write(committed.join(name), bytes)?;
            eprintln!("suite: {COMMITTED}/{name}: {} bytes", bytes.len());
        }
        fs::write(committed.join(RECORD), record)?;
        return Ok(());
    }
    let known =
        fs::read_to_string(committed.join(RECORD)).with_context(|| format!("no {RECORD}: {NEXT_STEP}"))?;
    let [known_compiler, known_sources, _version] = known.lines().collect::<Vec<_>>()[..] else {
        bail!("{COMMITTED}/{RECORD} has no three lines: {NEXT_STEP}");
    };
    ensure!(
        record.lines().nth(1) == Some(known_sources),
        "the sources of the UEFI loader have changed: {NEXT_STEP}"
    );
    let is_comparable =
        known_compiler == compiler.trim() && LOADERS.iter().all(|(target, _)| cross::has_std(target));
    if !is_comparable {
        eprintln!("suite: only the sources were compared: the bytes were made with {known_compiler}");
    }
    for (name, bytes) in built {
        let is_same = !is_comparable || fs::read(committed.join(name))? == bytes;
        ensure!(is_same, "{COMMITTED}/{name} is not what its sources give: {NEXT_STEP}");
    }
    Ok(())
}

/// Compiles the loader without lints of its own, which are those of the workspace, and returns its path.
fn build(target: &str) -> Result<PathBuf> {
    let target_directory = directory().join("loader");
    let command = |subcommand| {
        let mut command = cargo();
        command.args([subcommand, "--quiet", "--package", "krazy-loader", "--target", target]);
        // From its sources where rustup could not add it.
        if !cross::has_std(target) {
            command.arg("-Zbuild-std=core,alloc").env("RUSTC_BOOTSTRAP", "1");
        }
        command
    };
    status(command("clippy").args(["--", "-D", "warnings"]))?;
    let mut build = command("build");
    build.args(["--profile", "loader", "--target-dir"]).arg(&target_directory);
    // No time of the build, and no debug directory.
    let mut flags = ["-Clink-arg=/Brepro", "-Clink-arg=/DEBUG:NONE"].map(str::to_owned).to_vec();
    flags.extend(remapped(target)?);
    status(build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("CARGO_INCREMENTAL", "0"))?;
    Ok(target_directory.join(target).join("loader").join("krazy-loader.efi"))
}

/// Returns the flags that name every package without the directory it is in: paths of this machine would be part of the
/// messages of panics.
fn remapped(target: &str) -> Result<Vec<String>> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--filter-platform", target]);
    let metadata: Value = serde_json::from_slice(&succeed(&mut metadata)?.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let manifests = packages.iter().filter_map(|package| package["manifest_path"].as_str());
    let registries: BTreeSet<_> = manifests
        .filter_map(|manifest| Path::new(manifest).parent()?.parent())
        .filter(|directory| !workspace().starts_with(directory) && !directory.starts_with(workspace()))
        .collect();
    let flag = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags: Vec<_> = registries.into_iter().map(|directory| flag(directory, "crates")).collect();
    flags.push(flag(workspace(), "cargo-krazy"));
    Ok(flags)
}

/// Returns the files of the workspace that a compiled program consists of, by the list that cargo wrote.
fn sources_of(list: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(list).with_context(|| format!("failed to read {}", list.display()))?;
    let (_, files) = text.split_once(": ").context("a list of sources without a colon")?;
    let files = files.split_whitespace().map(|file| Path::new(file).strip_prefix(workspace()));
    Ok(files.filter_map(Result::ok).map(Path::to_owned).collect())
}

fn hash(sources: &BTreeSet<PathBuf>) -> Result<String> {
    let mut hash = Sha256::new();
    for source in sources {
        hash.update(source.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(fs::read(workspace().join(source))?);
    }
    Ok(hex(&hash.finalize()))
}
