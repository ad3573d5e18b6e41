//! One table of a Cargo.toml, read key by key. Every error names file, line, table and key.
//!
//! The values come from `cargo metadata`, which has no positions. The line is looked up in the file only when
//! an error is made, so that the usual run does not parse TOML.

use std::fmt::{Display, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};
use toml::de::DeTable;

use super::schema::Key;
use super::suggestion::did_you_mean;
use crate::failure::{Exit, Failure};

/// A table and where it stands.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    manifest: &'a Path,
    path: Vec<&'a str>,
    entries: &'a Map<String, Value>,
}

impl<'a> Table<'a> {
    /// The table at `path` of `manifest`, which is `value`; an error if it is not a table.
    pub fn new(manifest: &'a Path, path: &[&'a str], value: &'a Value) -> Result<Self, Failure> {
        match value {
            Value::Object(entries) => Ok(Table { manifest, path: path.to_vec(), entries }),
            other => Err(wrong_type(manifest, path, "a table", other)),
        }
    }

    /// Fails on the first key that is not one of `keys`.
    pub fn check_keys(&self, keys: &[Key]) -> Result<(), Failure> {
        match self.names().find(|name| keys.iter().all(|key| key.name != *name)) {
            None => Ok(()),
            Some(unknown) => Err(self.unknown(unknown, "key", keys.iter().map(|key| key.name))),
        }
    }

    /// The error for an entry whose name is none of `candidates`.
    pub fn unknown<'c>(
        &self,
        name: &str,
        what: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Failure {
        let place = place(self.manifest, &self.path_to(name));
        let table = header(&self.path);
        Failure::new(Exit::Config, format!("{place}: unknown {what} `{name}` in {table}")).help(did_you_mean(
            name,
            &format!("{what}s"),
            candidates,
        ))
    }

    /// The error for `key`, whose value has the right type and is still wrong: "`key` in [table] `problem`".
    pub fn invalid(&self, key: &str, problem: impl Display) -> Failure {
        invalid(self.manifest, &self.path_to(key), problem)
    }

    /// The error for the table as a whole: "the table [table] `problem`".
    pub fn itself_invalid(&self, problem: impl Display) -> Failure {
        let (place, table) = (place(self.manifest, &self.path), header(&self.path));
        Failure::new(Exit::Config, format!("{place}: the table {table} {problem}"))
    }

    /// The names of all entries, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is an entry `key`.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value as it is.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.entries.get(key)
    }

    /// The folder relative paths start from: that of the Cargo.toml.
    pub fn folder(&self) -> &'a Path {
        self.manifest.parent().unwrap_or(Path::new(""))
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        self.get(key, "a string", Value::as_str)
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        self.get(key, "true or false", Value::as_bool)
    }

    /// An integer within `range`.
    pub fn integer(&self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Failure> {
        match self.get(key, "an integer", Value::as_i64)? {
            Some(number) if !range.contains(&number) => {
                let (from, to) = range.into_inner();
                Err(self.invalid(key, format!("must be from {from} to {to}, not {number}")))
            }
            number => Ok(number),
        }
    }

    /// A string that `parse` turns into a value; its error is what the value should have been.
    pub fn parsed<T, E: Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.string(key)? else { return Ok(None) };
        match parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(expected) => Err(self.invalid(key, format!("must be {expected}, not {text:?}"))),
        }
    }

    /// A list of strings.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, Failure> {
        let Some(list) = self.get(key, "a list of strings", Value::as_array)? else { return Ok(None) };
        let string = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.invalid(key, format!("must be a list of strings, not of {}", plural(other)))),
        };
        list.iter().map(string).collect::<Result<_, _>>().map(Some)
    }

    /// The table behind `key`.
    pub fn table(&self, key: &str) -> Result<Option<Table<'a>>, Failure> {
        // The key stored in the map lives as long as the table.
        let Some((key, value)) = self.entries.get_key_value(key) else { return Ok(None) };
        Table::new(self.manifest, &self.path_to(key), value).map(Some)
    }

    /// The error for `key` having another type than `expected`.
    pub fn wrong_type(&self, key: &str, expected: &str) -> Failure {
        let found = self.value(key).unwrap_or(&Value::Null);
        wrong_type(self.manifest, &self.path_to(key), expected, found)
    }

    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong_type(key, expected)),
        }
    }

    fn path_to<'k>(&self, key: &'k str) -> Vec<&'k str>
    where
        'a: 'k,
    {
        self.path.iter().copied().chain([key]).collect()
    }
}

/// The error for the value at `path` of `manifest`: "FILE:LINE: `key` in [table] `problem`".
pub fn invalid(manifest: &Path, path: &[&str], problem: impl Display) -> Failure {
    let (key, table) = path.split_last().unwrap_or((&"", &[]));
    let (place, table) = (place(manifest, path), header(table));
    Failure::new(Exit::Config, format!("{place}: `{key}` in {table} {problem}"))
}

fn wrong_type(manifest: &Path, path: &[&str], expected: &str, found: &Value) -> Failure {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a float",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    };
    invalid(manifest, path, format!("must be {expected}, not {found}"))
}

fn plural(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "booleans",
        Value::Number(_) => "numbers",
        Value::String(_) => "strings",
        Value::Array(_) => "lists",
        Value::Object(_) => "tables",
    }
}

/// `[package.metadata.krazy]`, with quotes where TOML wants them.
pub fn header(path: &[&str]) -> String {
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

/// `Cargo.toml:12`, relative to the working directory if below it; without the line if it cannot be told.
fn place(manifest: &Path, path: &[&str]) -> String {
    let file = shown(manifest).display().to_string();
    match line_of(manifest, path) {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

/// `path` relative to the working directory if it is below it.
pub fn shown(path: &Path) -> &Path {
    let below = std::env::current_dir().ok().and_then(|folder| path.strip_prefix(folder).ok());
    below.filter(|below| !below.as_os_str().is_empty()).unwrap_or(path)
}

/// The line of the key at `path`, counted from 1.
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
}
