//! Small crates written for one test each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// A package in a folder of its own.
#[derive(Debug)]
pub struct Package {
    /// Its folder.
    pub folder: PathBuf,
}

impl Package {
    /// Writes the package `name` below `parent`: a `main.rs` and a manifest that ends with `metadata`.
    pub fn new(parent: &Path, name: &str, main: &str, metadata: &str) -> Result<Self> {
        let folder = parent.join(name);
        fs::create_dir_all(folder.join("src"))?;
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n{metadata}\n"
        );
        fs::write(folder.join("Cargo.toml"), manifest)?;
        fs::write(folder.join("src/main.rs"), main)?;
        Ok(Package { folder })
    }

    /// Its Cargo.toml.
    pub fn manifest(&self) -> PathBuf {
        self.folder.join("Cargo.toml")
    }
}
