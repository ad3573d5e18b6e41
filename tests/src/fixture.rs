//! Small crates written for one test each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// A package in a directory of its own.
#[derive(Debug)]
pub struct Package {
    /// Its directory.
    pub directory: PathBuf,
}

impl Package {
    /// Writes the package `name` below `parent`: a `main.rs` and a manifest that ends with `metadata`.
    pub fn new(parent: &Path, name: &str, main: &str, metadata: &str) -> Result<Self> {
        let directory = parent.join(name);
        fs::create_dir_all(directory.join("src"))?;
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n{metadata}\n"
        );
        fs::write(directory.join("Cargo.toml"), manifest)?;
        fs::write(directory.join("src/main.rs"), main)?;
        Ok(Package { directory })
    }

    /// Its Cargo.toml.
    pub fn manifest(&self) -> PathBuf {
        self.directory.join("Cargo.toml")
    }
}
