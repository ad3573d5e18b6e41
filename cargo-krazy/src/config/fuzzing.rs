//! The fuzz target `metadata`.

use std::path::Path;

use serde_json::Value;

use super::origins::Layer;
use super::resolve::settings;
use crate::board::BOARDS;

/// The table `[package.metadata.krazy]` in TOML.
pub fn metadata(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(value) = toml::from_str::<Value>(text) else { return };
    if names_real_files(&value) {
        return;
    }
    let manifest = Path::new("/nonexistent/Cargo.toml");
    let path = ["package", "metadata", "krazy"].map(str::to_owned).to_vec();
    for board in BOARDS {
        let layer = Layer { manifest: manifest.to_owned(), path: path.clone(), value: value.clone() };
        if let Err(error) = settings(manifest, vec![layer], board) {
            let _ = error.to_string();
        }
    }
}

/// Returns true if a path may lead out of the directory of the manifest, which does not exist: `files` would list it.
fn names_real_files(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with('/') || text.contains(".."),
        Value::Array(values) => values.iter().any(names_real_files),
        Value::Object(values) => values.values().any(names_real_files),
        _ => false,
    }
}
