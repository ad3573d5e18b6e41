//! Logs of services.

use serde::{Deserialize, Serialize};

/// The directory of the log files, which only init writes. Each has a symbolic link of its name in `/tmp`.
pub const DIRECTORY: &str = "/run/log";

/// The most lines that one request returns; more are cut to the newest.
pub const MAX_LOG_LINES: u32 = 1000;

/// The default number of lines.
const DEFAULT_LOG_LINES: u32 = 100;

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// Standard output, kept in `/tmp/SERVICE.log`.
    #[default]
    Out,
    /// Standard error, kept in `/tmp/SERVICE.err`.
    Err,
}

impl LogStream {
    /// `out` or `err`, as in paths and event names.
    pub const fn name(self) -> &'static str {
        match self {
            LogStream::Out => "out",
            LogStream::Err => "err",
        }
    }

    /// The extension of the file in [`DIRECTORY`], and of its link in `/tmp`.
    pub const fn extension(self) -> &'static str {
        match self {
            LogStream::Out => "log",
            LogStream::Err => "err",
        }
    }
}

/// One line of a service's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// The stream it was written to.
    pub stream: LogStream,
    /// The line as in the file: wall time, monotonic time, text. Bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// The newest lines of a service, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLines {
    /// The lines.
    pub lines: Vec<LogLine>,
}

/// The query of log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// Standard output or standard error.
    pub stream: LogStream,
    /// The number of newest lines, at most 1000.
    pub lines: u32,
}

impl Default for LogQuery {
    fn default() -> Self {
        LogQuery { stream: LogStream::Out, lines: DEFAULT_LOG_LINES }
    }
}
