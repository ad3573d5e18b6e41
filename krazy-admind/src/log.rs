//! The log of this service: standard error, which init writes to a file.

use std::fmt::Display;
use std::io::Write;

use krazy_boot::error_chain::with_system_texts;

/// Writes one entry.
pub(crate) fn write(entry: impl Display) {
    // With standard error closed, there is no other place to report the failure.
    let _closed = writeln!(std::io::stderr(), "{}", with_system_texts(entry.to_string()));
}
