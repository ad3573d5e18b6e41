//! The log of this service: standard error, which init writes to a file.

use std::fmt::Display;
use std::io::Write;

/// Writes one entry.
pub(crate) fn write(entry: impl Display) {
    // If standard error is closed, nobody can read the log.
    let _closed = writeln!(std::io::stderr(), "{entry}");
}
