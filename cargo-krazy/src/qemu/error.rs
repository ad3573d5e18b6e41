//! The failures of `cargo krazy run-qemu`.

use std::fmt;
use std::time::Duration;

use crate::failure::{Exit, Explain};

/// A run that did not reach its goal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// KVM was requested for a machine that QEMU only emulates.
    #[error("QEMU only emulates a Raspberry Pi")]
    OnlyEmulated,
    /// The user interrupted it.
    #[error("interrupted; the machine was stopped")]
    Interrupted,
    /// The reader of the serial line is gone.
    #[error("standard output was closed; the machine was stopped")]
    OutputClosed,
    /// KVM failed, and was requested explicitly.
    #[error("KVM does not work here: {cause}")]
    Kvm {
        /// QEMU's reason.
        cause: String,
    },
    /// Nothing came from the machine.
    #[error("the machine did not start")]
    Silent,
    /// The machine was still running at the time limit.
    #[error("{}", TimedOut { expected: expected.as_deref(), after: *after })]
    TimedOut {
        /// The text that did not appear, if one was expected.
        expected: Option<String>,
        /// The time limit.
        after: Duration,
        /// The last lines of the guest.
        last_lines: String,
    },
    /// The machine stopped before the expected text appeared.
    #[error("`{expected}` did not appear on the serial line before the machine ended")]
    NotExpected {
        /// The text.
        expected: String,
        /// The last lines of the guest.
        last_lines: String,
    },
    /// QEMU failed.
    #[error("QEMU {}: {}", Status(*code), complaint.trim())]
    Qemu {
        /// Its exit code; none after a signal.
        code: Option<i32>,
        /// The text of QEMU on standard error.
        complaint: String,
    },
}

struct TimedOut<'a> {
    expected: Option<&'a str>,
    after: Duration,
}

impl fmt::Display for TimedOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.after.as_secs_f64();
        match self.expected {
            Some(text) => write!(f, "`{text}` did not appear on the serial line within {seconds} s"),
            None => write!(f, "the machine was still running after {seconds} s and was stopped"),
        }
    }
}

struct Status(Option<i32>);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "ended with status {code}"),
            None => f.write_str("was killed"),
        }
    }
}

impl Explain for RunError {
    fn exit(&self) -> Exit {
        match self {
            RunError::OnlyEmulated => Exit::Usage,
            RunError::Interrupted => Exit::Interrupted,
            RunError::TimedOut { .. } | RunError::NotExpected { .. } => Exit::Expect,
            RunError::OutputClosed | RunError::Kvm { .. } | RunError::Silent | RunError::Qemu { .. } => {
                Exit::Failed
            }
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            RunError::OnlyEmulated => Some("leave `--accel kvm` out".to_owned()),
            RunError::Kvm { .. } => Some("use `--accel tcg`".to_owned()),
            RunError::TimedOut { last_lines, .. } | RunError::NotExpected { last_lines, .. } => {
                Some(last_lines.clone())
            }
            RunError::Qemu { complaint, .. } if complaint.contains("\"write\" lock") => {
                Some("another QEMU uses the image; stop it, or make another image".to_owned())
            }
            RunError::Interrupted | RunError::OutputClosed | RunError::Silent | RunError::Qemu { .. } => None,
        }
    }
}
