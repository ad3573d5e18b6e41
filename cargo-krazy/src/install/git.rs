//! Git crates in a target directory that has seen another commit.
//!
//! Cargo 1.95 takes a repository's packages for the same at every commit: it identifies them by their path within
//! the checkout, and does not look at the files, because it takes everything in its home directory for immutable.
//! `cargo install --git` of a newer commit then installs the old binary. So what cargo reports as fresh is
//! forgotten, and built again; dependencies from registries stay.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use cargo_metadata::Message;

/// Removes cargo's fingerprints of all local packages that it took for fresh. Returns true if there were any; then
/// cargo has to run again.
///
/// # Errors
/// If a fingerprint cannot be removed.
pub(crate) fn forget_fresh(build: &Path, messages: &[Message]) -> anyhow::Result<bool> {
    let fresh = fresh(messages);
    if fresh.is_empty() {
        return Ok(false);
    }
    // PROFILE/.fingerprint for build scripts, TRIPLE/PROFILE/.fingerprint for the rest.
    let directories = subdirectories(build)?;
    let mut deeper = Vec::new();
    for directory in &directories {
        deeper.extend(subdirectories(directory)?);
    }
    for fingerprints in directories.iter().chain(&deeper).map(|directory| directory.join(".fingerprint")) {
        if !fingerprints.is_dir() {
            continue;
        }
        for unit in subdirectories(&fingerprints)? {
            let name = unit.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.rsplit_once('-').is_some_and(|(package, _hash)| fresh.contains(package)) {
                fs::remove_dir_all(&unit).with_context(|| format!("failed to remove {}", unit.display()))?;
            }
        }
    }
    Ok(true)
}

/// Returns the local packages that cargo took for fresh.
pub(crate) fn fresh(messages: &[Message]) -> BTreeSet<String> {
    let fresh = messages.iter().filter_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.fresh => local_name(&artifact.package_id.repr),
        _ => None,
    });
    fresh.collect()
}

fn subdirectories(directory: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let failed = || format!("failed to read {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The package's name, if its id is that of a directory: `path+file:///…/NAME#VERSION` or `path+…#NAME@VERSION`.
fn local_name(id: &str) -> Option<String> {
    let (directory, rest) = id.strip_prefix("path+")?.rsplit_once('#')?;
    let name = match rest.split_once('@') {
        Some((name, _version)) => name,
        None => directory.rsplit('/').next()?,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_ids_of_directories_are_read() {
        assert_eq!(local_name("path+file:///h/27e895c#gg@0.1.0").as_deref(), Some("gg"));
        assert_eq!(local_name("path+file:///h/27e895c/ticker#0.1.0").as_deref(), Some("ticker"));
        assert_eq!(local_name("registry+https://github.com/rust-lang/crates.io-index#serde@1.0.0"), None);
    }
}
