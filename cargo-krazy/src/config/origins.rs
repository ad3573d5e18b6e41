//! The metadata tables an appliance is made from, and the position of each of their keys.
//!
//! The values come from `cargo metadata`, which has no positions. The line is looked up in the file only when an
//! error is made, so that the usual run does not parse TOML. The tables stay with the resolved appliance: a stage
//! that finds a mistake after the build names file and line with the same functions.

use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::de::DeTable;

use super::error::{ConfigError, Location};
use crate::failure::{Exit, Failure};

/// Tables that a later table replaces as a whole, because their keys select one thing together. `*` is any name.
const REPLACED: [&[&str]; 4] = [&["init"], &["kernel"], &["install", "*"], &["network", "interfaces", "*"]];

/// The tables of one appliance, in order of application.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// The Cargo.toml of the package.
    manifest: PathBuf,
    layers: Vec<Layer>,
}

/// One metadata table.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The file that holds it.
    pub(crate) manifest: PathBuf,
    /// The names that lead to it: `package`, `metadata`, `krazy`, and perhaps `board` and its name.
    pub(crate) path: Vec<String>,
    /// Its value; a table unless the user wrote something else.
    pub(crate) value: Value,
}

impl Layer {
    /// Returns the error for the key at `path` below this table.
    pub(crate) fn invalid(&self, path: &[&str], problem: impl Display) -> Box<ConfigError> {
        let full = self.full(path);
        let (key, table) = full.split_last().unwrap_or((&"", &[]));
        Box::new(ConfigError::Key {
            location: location(&self.manifest, &full),
            key: (*key).to_owned(),
            table: header(table),
            problem: problem.to_string(),
            help: None,
        })
    }

    /// Returns the error for the table at `path` below this one.
    pub(crate) fn table_invalid(&self, path: &[&str], problem: impl Display) -> Box<ConfigError> {
        let full = self.full(path);
        Box::new(ConfigError::Table {
            location: location(&self.manifest, &full),
            table: header(&full),
            problem: problem.to_string(),
        })
    }

    /// Returns the error for a name at the end of `path` that does not exist.
    pub(crate) fn unknown(&self, path: &[&str], kind: &'static str, help: String) -> Box<ConfigError> {
        let full = self.full(path);
        let (name, table) = full.split_last().unwrap_or((&"", &[]));
        Box::new(ConfigError::Unknown {
            location: location(&self.manifest, &full),
            kind,
            name: (*name).to_owned(),
            table: header(table),
            help,
        })
    }

    fn full<'a>(&'a self, path: &[&'a str]) -> Vec<&'a str> {
        self.path.iter().map(String::as_str).chain(path.iter().copied()).collect()
    }

    fn has(&self, path: &[&str]) -> bool {
        path.iter().try_fold(&self.value, |value, key| value.get(key)).is_some()
    }
}

impl Origins {
    /// Returns the tables `layers` of the package with the Cargo.toml `manifest`.
    pub(super) fn new(manifest: &Path, layers: Vec<Layer>) -> Self {
        Origins { manifest: manifest.to_owned(), layers }
    }

    /// Removes the key `key`, because the command line replaces its value.
    pub(super) fn forget(&mut self, key: &str) {
        for layer in &mut self.layers {
            layer.value.as_object_mut().and_then(|table| table.remove(key));
        }
    }

    /// Returns all tables as one: each table over the one before.
    pub(super) fn merged(&self) -> Value {
        let mut merged = Map::new();
        for layer in &self.layers {
            if let Value::Object(table) = &layer.value {
                merge(&mut merged, table, &mut Vec::new());
            }
        }
        Value::Object(merged)
    }

    /// Returns the directory that a relative path at the key `path` starts from.
    pub(super) fn directory(&self, path: &[&str]) -> &Path {
        self.layer(path).map_or(&self.manifest, |layer| &layer.manifest).parent().unwrap_or(Path::new(""))
    }

    /// Returns the error for the value of the key at `path`: `FILE:LINE: `, key, table and problem.
    pub(crate) fn invalid(&self, path: &[&str], problem: impl Display) -> Box<ConfigError> {
        match self.layer(path) {
            Some(layer) => layer.invalid(path, problem),
            None => self.package_layer().invalid(path, problem),
        }
    }

    /// Returns the error for the table at `path`: `FILE:LINE: `, table and problem.
    pub(super) fn table_invalid(&self, path: &[&str], problem: impl Display) -> Box<ConfigError> {
        match self.layer(path) {
            Some(layer) => layer.table_invalid(path, problem),
            None => self.package_layer().table_invalid(path, problem),
        }
    }

    /// Returns an error with the position of the first of `paths` that is set, or with the file alone.
    pub(crate) fn error(&self, paths: &[&[&str]], message: impl Display) -> Box<ConfigError> {
        let location =
            self.location(paths).unwrap_or_else(|| Location { file: shown(&self.manifest), line: None });
        Box::new(ConfigError::Manifest { location, message: message.to_string(), help: None })
    }

    /// Returns the error for the file `destination` of the image, which an entry of `files` names or has in a directory.
    pub(crate) fn file_invalid(&self, destination: &str, problem: impl Display) -> Box<ConfigError> {
        let mut paths = Path::new(destination).ancestors().filter_map(Path::to_str);
        let key = paths.find(|path| self.layer(&["files", path]).is_some()).unwrap_or(destination);
        self.invalid(&["files", key], problem)
    }

    /// Returns the position of the first of `paths` that is set.
    pub(crate) fn location(&self, paths: &[&[&str]]) -> Option<Location> {
        let (path, layer) = paths.iter().find_map(|path| self.layer(path).map(|layer| (path, layer)))?;
        Some(location(&layer.manifest, &layer.full(path)))
    }

    /// Returns `failure` with the position of the first of `paths` that is set, as what led to it. One that names a
    /// position already, and an interruption, stay as they are.
    pub(crate) fn locate(&self, paths: &[&[&str]], failure: Failure) -> Failure {
        match self.location(paths) {
            Some(place)
                if failure.exit() != Exit::Interrupted && !failure.to_string().starts_with(&place.file) =>
            {
                failure.at(place)
            }
            _ => failure,
        }
    }

    /// The table whose value for `path` counts: the last one that has it.
    fn layer(&self, path: &[&str]) -> Option<&Layer> {
        self.layers.iter().rev().find(|layer| layer.has(path))
    }

    fn package_layer(&self) -> Layer {
        let path = ["package", "metadata", "krazy"].map(str::to_owned).to_vec();
        Layer { manifest: self.manifest.clone(), path, value: Value::Null }
    }
}

/// Puts the entries of `from` over those of `into`.
fn merge<'a>(into: &mut Map<String, Value>, from: &'a Map<String, Value>, path: &mut Vec<&'a str>) {
    for (key, value) in from {
        path.push(key);
        let replaced = REPLACED.iter().any(|rule| {
            rule.len() == path.len() && rule.iter().zip(&*path).all(|(rule, key)| *rule == "*" || rule == key)
        });
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) if !replaced => merge(into, from, path),
            // `admind = true` over a table of its settings.
            (Some(Value::Object(_)), Value::Bool(true)) => {}
            _ => _ = into.insert(key.clone(), value.clone()),
        }
        path.pop();
    }
}

/// Returns `[package.metadata.krazy]`, with quotes where TOML wants them.
fn header(path: &[&str]) -> String {
    let mut text = String::from("[");
    for (index, segment) in path.iter().enumerate() {
        let bare = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let dot = if index == 0 { "" } else { "." };
        // Writing to a String cannot fail.
        let _infallible =
            if bare { write!(text, "{dot}{segment}") } else { write!(text, "{dot}{segment:?}") };
    }
    text.push(']');
    text
}

/// Returns the text for `path` in messages: relative to the working directory if it is below that.
pub(super) fn shown(path: &Path) -> String {
    let below = std::env::current_dir().ok().and_then(|dir| path.strip_prefix(dir).ok());
    below.filter(|below| !below.as_os_str().is_empty()).unwrap_or(path).display().to_string()
}

fn location(manifest: &Path, path: &[&str]) -> Location {
    Location { file: shown(manifest), line: line_of(manifest, path) }
}

/// Returns the line of the key at `path`, counted from 1.
fn line_of(manifest: &Path, path: &[&str]) -> Option<usize> {
    let text = std::fs::read_to_string(manifest).ok()?;
    let document = DeTable::parse(&text).ok()?;
    let mut table = document.get_ref();
    let (last, tables) = path.split_last()?;
    for segment in tables {
        let (_, value) = table.iter().find(|(key, _)| key.get_ref() == segment)?;
        table = value.get_ref().as_table()?;
    }
    let (key, _) = table.iter().find(|(key, _)| key.get_ref() == last)?;
    Some(text.get(..key.span().start)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_are_quoted_like_toml() {
        assert_eq!(header(&["package", "metadata", "krazy"]), "[package.metadata.krazy]");
        assert_eq!(header(&["service", "a.b"]), r#"[service."a.b"]"#);
    }

    #[test]
    fn lines_are_found_in_every_spelling_of_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("Cargo.toml");
        let text = "a = 1\n[b.c]\nd = { e = 2 }\n[b.c.f]\n\ng.h = 3\n";
        std::fs::write(&file, text).unwrap();
        assert_eq!(line_of(&file, &["a"]), Some(1));
        assert_eq!(line_of(&file, &["b", "c", "d", "e"]), Some(3));
        assert_eq!(line_of(&file, &["b", "c", "f"]), Some(4));
        assert_eq!(line_of(&file, &["b", "c", "f", "g", "h"]), Some(6));
        assert_eq!(line_of(&file, &["b", "x"]), None);
        assert_eq!(line_of(dir.path(), &["a"]), None);
    }

    #[test]
    fn failure_of_a_later_stage_is_located_once() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("Cargo.toml");
        std::fs::write(&manifest, "[package.metadata.krazy]\nkernel = { path = \"k\" }\n").unwrap();
        let path = ["package", "metadata", "krazy"].map(str::to_owned).to_vec();
        let layer = Layer { manifest: manifest.clone(), path, value: json!({ "kernel": { "path": "k" } }) };
        let origins = Origins::new(&manifest, vec![layer]);
        let failure = || Failure::other(std::io::Error::other("no such kernel"));
        let located = origins.locate(&[&["kernel"]], failure());
        let expected = format!("{}:2: no such kernel", manifest.display());
        assert_eq!(located.to_string(), expected);
        assert_eq!(origins.locate(&[&["kernel"]], located).to_string(), expected);
        assert_eq!(origins.locate(&[&["init"]], failure()).to_string(), "no such kernel");
    }

    #[test]
    fn later_tables_win_by_key_but_replace_sources_as_a_whole() {
        let layer = |value| Layer { manifest: PathBuf::new(), path: Vec::new(), value };
        let workspace = json!({
            "kernel": { "debian": "linux-image-amd64", "suite": "trixie" },
            "install": { "a": { "git": "https://h/a" }, "b": "1" },
            "service": { "web": { "args": ["1"], "user": "web" } },
            "admind": { "mdns": false },
        });
        let package = json!({
            "kernel": { "path": "k" },
            "install": { "a": { "path": "a" } },
            "service": { "web": { "args": ["2"] } },
            "admind": true,
        });
        let merged = Origins::new(Path::new(""), vec![layer(workspace), layer(package)]).merged();
        assert_eq!(
            merged,
            json!({
                "kernel": { "path": "k" },
                "install": { "a": { "path": "a" }, "b": "1" },
                "service": { "web": { "args": ["2"], "user": "web" } },
                "admind": { "mdns": false },
            })
        );
    }
}
