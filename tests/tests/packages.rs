//! The packages of the registry: everything that a build outside of a checkout reads is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use krazy_tests::process::succeed;
use krazy_tests::setup::workspace;

/// Returns the files of the package, by their paths in it.
fn files(package: &str) -> Result<BTreeSet<String>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["package", "--list", "--allow-dirty", "--offline", "--package", package]);
    let output = succeed(cargo.current_dir(workspace()))?;
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

/// Returns the paths that `text` includes, relative to its directory.
fn included(text: &str) -> impl Iterator<Item = &str> {
    ["include_str!(\"", "include_bytes!(\"", "include!(\""].into_iter().flat_map(move |start| {
        text.split(start).skip(1).filter_map(|rest| rest.split_once('"').map(|(path, _)| path))
    })
}

#[test]
fn packages_have_licences_lock_file_and_every_included_file() -> Result<()> {
    for package in ["krazy-boot", "krazy-init", "krazy-admind", "cargo-krazy"] {
        let files = files(package)?;
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "Cargo.lock"] {
            ensure!(files.contains(file), "{package} is packaged without {file}");
        }
        let root = workspace().join(package);
        for source in files.iter().filter(|file| file.starts_with("src/") && file.ends_with(".rs")) {
            let text = fs::read_to_string(root.join(source))?;
            let directory = root.join(source);
            let directory = directory.parent().context("a file without a directory")?;
            for path in included(&text) {
                // Texts of tests name files that no build reads.
                let Ok(file) = directory.join(path).canonicalize() else { continue };
                let inside = file.strip_prefix(&root).ok().and_then(Path::to_str);
                ensure!(
                    inside.is_some_and(|file| files.contains(file)),
                    "{package} is packaged without {path}, which {source} includes"
                );
            }
        }
    }
    Ok(())
}
