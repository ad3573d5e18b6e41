//! The list of programs, `tests/programs.toml`.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The list's text.
const LIST: &str = include_str!("../../programs.toml");

/// A published program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    /// The package on crates.io.
    pub(super) package: String,
    /// The requirement of its version.
    pub(super) version: String,
    /// A description in a few words.
    pub(super) is: String,
    /// Code of other languages in its lock file, which other platforms or features may use.
    #[serde(default)]
    pub(super) foreign: String,
    /// Further keys of its `install` entry, as TOML.
    #[serde(default)]
    pub(super) install: String,
    /// Further text of Cargo.toml: service tables, files.
    #[serde(default)]
    pub(super) metadata: String,
    /// Files beside Cargo.toml, by name.
    #[serde(default)]
    pub(super) files: std::collections::BTreeMap<String, String>,
    /// The sign that it serves; `None` if nothing here can ask it.
    pub(super) serves: Option<Serves>,
}

/// The sign that a program serves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum Serves {
    /// The path is answered over HTTP, with any status.
    Http {
        /// The TCP port.
        port: u16,
        /// The path.
        path: String,
        /// Text of the answer.
        holds: String,
    },
    /// Bytes that are sent to a TCP port are answered.
    Tcp {
        /// The port.
        port: u16,
        /// The request, of ASCII.
        send: String,
        /// Text of the answer; any if it is empty.
        holds: String,
    },
    /// A line of the console, for what cannot be reached through a forwarded port.
    Line(String),
}

/// Returns the programs called `names`, or all.
///
/// # Errors
/// Fails for a name that is not in the list.
pub(super) fn read(names: &[String]) -> Result<Vec<Program>> {
    #[derive(Deserialize)]
    struct List {
        program: Vec<Program>,
    }
    let List { program: all } = toml::from_str(LIST).context("failed to read tests/programs.toml")?;
    for name in names {
        ensure!(all.iter().any(|one| one.package == *name), "tests/programs.toml lists no `{name}`");
    }
    Ok(all.into_iter().filter(|one| names.is_empty() || names.contains(&one.package)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_and_has_no_program_twice() {
        let all = read(&[]).unwrap();
        let names: std::collections::BTreeSet<_> = all.iter().map(|one| &one.package).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() >= 25, "{}", all.len());
        assert!(read(&["no-such".to_owned()]).is_err());
    }
}
