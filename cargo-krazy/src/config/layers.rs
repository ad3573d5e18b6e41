//! The metadata tables that make one appliance, and errors about what they say together.

use std::fmt::Display;
use std::path::Path;

use cargo_metadata::{Metadata, Package};
use serde_json::Value;

use super::package;
use super::table::{self, Table, shown};
use crate::failure::{Exit, Failure};

/// The tables in order of application: the workspace's, then the package's.
pub struct Layers<'a> {
    manifest: &'a Path,
    layers: Vec<Layer<'a>>,
}

struct Layer<'a> {
    manifest: &'a Path,
    path: [&'static str; 3],
    value: &'a Value,
}

impl<'a> Layers<'a> {
    /// The tables that apply to `package`; `root` is the workspace's Cargo.toml.
    pub fn of(metadata: &'a Metadata, package: &'a Package, root: &'a Path) -> Self {
        let manifest = package.manifest_path.as_std_path();
        let layer = |manifest, kind, value: &'a Value| {
            let value = package::krazy(value)?;
            Some(Layer { manifest, path: [kind, "metadata", "krazy"], value })
        };
        let workspace = layer(root, "workspace", &metadata.workspace_metadata);
        let own = layer(manifest, "package", &package.metadata);
        Layers { manifest, layers: workspace.into_iter().chain(own).collect() }
    }

    /// Each as a table.
    pub fn tables(&self) -> impl Iterator<Item = Result<Table<'a>, Failure>> {
        self.layers.iter().map(|layer| Table::new(layer.manifest, &layer.path, layer.value))
    }

    /// An error about the package's manifest as a whole.
    pub fn error(&self, message: impl Display) -> Failure {
        Failure::new(Exit::Config, format!("{}: {message}", shown(self.manifest).display()))
    }

    /// An error about the value at `path` below the `krazy` table, at the place that counts: the package's
    /// table if the value stands there, else the workspace's, else just the manifest.
    pub fn invalid(&self, path: &[&str], problem: impl Display) -> Failure {
        let holds =
            |layer: &&Layer<'a>| path.iter().try_fold(layer.value, |value, key| value.get(key)).is_some();
        match self.layers.iter().rev().find(holds) {
            Some(layer) => {
                let path: Vec<_> = layer.path.iter().chain(path).copied().collect();
                table::invalid(layer.manifest, &path, problem)
            }
            None => table::invalid(
                self.manifest,
                &["package", "metadata", "krazy"].iter().chain(path).copied().collect::<Vec<_>>(),
                problem,
            ),
        }
    }
}
