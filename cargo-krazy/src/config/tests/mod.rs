//! Literal Cargo.toml texts, through the real `cargo metadata`, to the appliance or the message.

pub(crate) mod documentation;
mod keys;
mod never_panics;
mod own_crate;
mod pi;
mod selection;
mod services;
mod sysctl;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Appliance, OwnFeatures, Request, load};
use crate::board::Board;
use crate::failure::Failure;

/// A package or workspace in a folder of its own.
pub(crate) struct Project(TempDir);

impl Project {
    /// A package `weather` with a `src/main.rs` and `metadata` at the end of its Cargo.toml.
    pub(crate) fn new(metadata: &str) -> Self {
        Project::with_manifest(&format!(
            "[package]\nname = \"weather\"\nversion = \"1.2.3\"\nedition = \"2024\"\n{metadata}"
        ))
    }

    /// A Cargo.toml of one's own, with a `src/main.rs` beside it.
    fn with_manifest(manifest: &str) -> Self {
        let project = Project(tempfile::tempdir().unwrap());
        project.file("Cargo.toml", manifest).file("src/main.rs", "fn main() {}")
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            manifest_path: Some(self.path("Cargo.toml")),
            package: None,
            board: Board::named("x86_64").unwrap(),
            features: OwnFeatures::default(),
            profile: None,
            disk: None,
            locked: false,
            offline: false,
        }
    }

    fn load(&self) -> Appliance {
        load(&self.request()).unwrap()
    }

    /// Message and help, with `DIR` for the project's folder.
    fn error(&self) -> String {
        self.error_of(&self.request())
    }

    fn error_of(&self, request: &Request) -> String {
        let error = anyhow::Error::from(load(request).unwrap_err());
        let help = Failure::help_of(&error).map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        let folder = self.0.path().to_str().unwrap();
        format!("{error}{help}").replace(folder, "DIR")
    }
}

/// The error of a package `weather` with `text` from line 6 on, below `[package.metadata.krazy]` on line 5.
fn error(text: &str) -> String {
    Project::new(&format!("[package.metadata.krazy]\n{text}\n")).error()
}

/// The appliance of such a package.
fn load_text(text: &str) -> Appliance {
    Project::new(&format!("[package.metadata.krazy]\n{text}\n")).load()
}
