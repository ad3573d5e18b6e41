//! The error of the configuration: every mistake of a user in a Cargo.toml, with file, line, table and key.

use std::fmt;
use std::io;

use crate::failure::{Exit, Explain};

/// The result of a step of the configuration. The error is boxed because it is larger than most results.
pub(crate) type Result<T> = std::result::Result<T, Box<ConfigError>>;

/// An error of the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A key or a board that does not exist.
    #[error("{location}: unknown {kind} `{name}` in {table}")]
    Unknown {
        /// The position of the name.
        location: Location,
        /// `key` or `board`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The header of the table it is in.
        table: String,
        /// The nearest known name.
        help: String,
    },
    /// A key with a value that cannot be used.
    #[error("{location}: `{key}` in {table} {problem}")]
    Key {
        /// The position of the key.
        location: Location,
        /// The key.
        key: String,
        /// The header of the table it is in.
        table: String,
        /// The predicate of the sentence: "must be …", "cannot …".
        problem: String,
        /// The next step.
        help: Option<String>,
    },
    /// A table whose keys do not fit together.
    #[error("{location}: the table {table} {problem}")]
    Table {
        /// The position of the table.
        location: Location,
        /// Its header.
        table: String,
        /// The predicate of the sentence.
        problem: String,
    },
    /// A statement about the manifest, or about one key in it, that is a sentence of its own.
    #[error("{location}: {message}")]
    Manifest {
        /// The position of the key, or only the file.
        location: Location,
        /// The sentence.
        message: String,
        /// The next step.
        help: Option<String>,
    },
    /// No package, or no unambiguous one, to make an appliance of.
    #[error("{message}")]
    Selection {
        /// The sentence.
        message: String,
        /// The next step.
        help: Option<String>,
    },
    /// cargo could not be run.
    #[error("failed to run cargo: {0}")]
    NoCargo(#[source] io::Error),
    /// The output of `cargo metadata` could not be read.
    #[error("failed to read the output of cargo metadata: {0}")]
    Metadata(#[source] cargo_metadata::Error),
}

impl ConfigError {
    /// Adds the text after `help:`, where the error has none yet.
    #[must_use]
    pub(crate) fn help(mut self: Box<Self>, text: impl Into<String>) -> Box<Self> {
        match &mut *self {
            ConfigError::Key { help, .. }
            | ConfigError::Manifest { help, .. }
            | ConfigError::Selection { help, .. } => *help = Some(text.into()),
            ConfigError::Unknown { .. }
            | ConfigError::Table { .. }
            | ConfigError::NoCargo(_)
            | ConfigError::Metadata(_) => {}
        }
        self
    }
}

impl Explain for ConfigError {
    fn exit(&self) -> Exit {
        match self {
            ConfigError::NoCargo(_) => Exit::MissingTool,
            ConfigError::Metadata(_) => Exit::Failed,
            _ => Exit::Config,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            ConfigError::Unknown { help, .. } => Some(help.clone()),
            ConfigError::Key { help, .. }
            | ConfigError::Manifest { help, .. }
            | ConfigError::Selection { help, .. } => help.clone(),
            ConfigError::NoCargo(_) => Some("install Rust from https://rustup.rs".to_owned()),
            ConfigError::Table { .. } | ConfigError::Metadata(_) => None,
        }
    }
}

impl From<Box<ConfigError>> for crate::failure::Failure {
    fn from(error: Box<ConfigError>) -> Self {
        (*error).into()
    }
}

/// A position in a manifest: `Cargo.toml:12`, or the file alone where the line is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The file, as it is printed.
    pub(crate) file: String,
    /// The line, counted from 1.
    pub(crate) line: Option<usize>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}
