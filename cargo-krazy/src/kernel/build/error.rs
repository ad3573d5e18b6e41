//! The failures of a kernel's configuration, with exit code and help.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::fragment::{LineError, Location, MAX_LEN};
use crate::failure::{Exit, Explain};

/// Options named in a message at most.
pub(super) const NAMED: usize = 20;

/// A configuration that the kernel cannot have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// A fragment cannot be read.
    #[error("failed to read the config fragment {}: {error}", path.display())]
    Read {
        /// The fragment.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// A fragment is too large to be one.
    #[error("failed to read the config fragment {}: it is larger than {} MiB", path.display(), MAX_LEN >> 20)]
    TooLarge {
        /// The fragment.
        path: PathBuf,
    },
    /// A line of a fragment is neither a request nor a comment.
    #[error("{location}: {problem}")]
    Line {
        /// The line.
        location: Location,
        /// The reason.
        problem: LineError,
    },
    /// The kernel does not know a requested option.
    #[error("{location}: this kernel has no option CONFIG_{option}")]
    UnknownOption {
        /// The line that requests it.
        location: Location,
        /// The option, without `CONFIG_`.
        option: String,
        /// The most similar option that the kernel has.
        nearest: Option<String>,
    },
    /// Kconfig dropped or changed requested options.
    #[error("{} of {requested} requested options did not survive `olddefconfig`:{}", dropped.len(), List(dropped))]
    Dropped {
        /// These options.
        dropped: Vec<DroppedOption>,
        /// The number of requested options.
        requested: usize,
        /// The compiler, whose abilities some options depend on.
        compiler: String,
    },
}

/// A requested option that kconfig dropped or changed.
#[derive(Debug)]
pub(crate) struct DroppedOption {
    /// Its name, without `CONFIG_`.
    pub(super) name: String,
    /// The requested value.
    pub(super) value: String,
    /// The line that requests it.
    pub(super) location: Location,
    /// The value that it has; `n` if it is not set.
    pub(super) found: String,
    /// The conditions that it depends on.
    pub(super) depends: Option<String>,
}

impl fmt::Display for DroppedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DroppedOption { name, value, location, found, depends } = self;
        write!(f, "CONFIG_{name}={value} ({location}) is ")?;
        match (found.as_str(), depends) {
            ("n", Some(depends)) => write!(f, "not set; it depends on {depends}"),
            ("n", None) => f.write_str("not set"),
            (found, _) => f.write_str(found),
        }
    }
}

/// Options on a line each, the first [`NAMED`] of them.
struct List<'o>(&'o [DroppedOption]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for option in self.0.iter().take(NAMED) {
            write!(f, "\n  {option}")?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl Explain for ConfigurationError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            ConfigurationError::Read { .. } | ConfigurationError::TooLarge { .. } => {
                "`--config` takes a file with lines such as `CONFIG_WIREGUARD=y`"
            }
            ConfigurationError::Line { .. } => {
                "a fragment has lines such as `CONFIG_WIREGUARD=y` and `# CONFIG_IPV6 is not set`"
            }
            ConfigurationError::UnknownOption { nearest: Some(nearest), .. } => {
                return Some(format!("did you mean CONFIG_{nearest}?"));
            }
            ConfigurationError::UnknownOption { nearest: None, .. } => {
                "remove the line, or build a kernel that has the option"
            }
            // Kconfig sets `CC_HAS_…` options itself, by trying the compiler.
            ConfigurationError::Dropped { dropped, compiler, .. }
                if dropped
                    .iter()
                    .filter_map(|option| option.depends.as_ref())
                    .any(|on| on.contains("CC_HAS_")) =>
            {
                return Some(format!(
                    "this {compiler} is too old for what depends on CC_HAS_…: take a newer one, or another \
                     `--compiler`, or switch these options off in a fragment for `--config`"
                ));
            }
            ConfigurationError::Dropped { .. } => {
                "ask for what they depend on as well, or take them out; what selects an option keeps it from being off"
            }
        };
        Some(help.to_owned())
    }
}
