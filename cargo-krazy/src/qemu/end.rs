//! How a run of QEMU came to its end, and what that says.

use std::time::Duration;

/// How a machine came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The expected text appeared.
    Expected,
    /// It took too long.
    TimedOut {
        /// The time it had.
        after: Duration,
        /// What it said last.
        last_lines: String,
    },
    /// KVM gave up on an instruction; QEMU would stand still for ever.
    KvmBroke {
        /// What QEMU said about it.
        complaint: String,
    },
    /// It was silent for longer than [`Session::run`]'s patience.
    Silent,
    /// The user had enough.
    Interrupted,
    /// Nobody reads the serial line any more.
    OutputClosed,
    /// QEMU ended by itself.
    Exited {
        /// Its exit code; none after a signal.
        code: Option<i32>,
        /// What QEMU said on standard error.
        complaint: String,
        /// What the guest said last.
        last_lines: String,
        /// Whether the guest said nothing at all.
        silent: bool,
    },
}

impl End {
    /// Whether it is the accelerator that failed, not the guest and not the command line.
    pub(crate) fn accelerator_failed(&self) -> bool {
        match self {
            End::Silent | End::KvmBroke { .. } => true,
            // Without permission QEMU says so and ends; a register that KVM refuses aborts it.
            End::Exited { silent: true, code, complaint, .. } => {
                code.is_none() || *code != Some(0) && complaint.to_lowercase().contains("kvm")
            }
            _ => false,
        }
    }

    /// The reason in a few words.
    pub(crate) fn cause(&self) -> String {
        match self {
            End::Exited { complaint, .. } | End::KvmBroke { complaint } => complaint
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("QEMU died")
                .trim()
                .to_owned(),
            _ => "the machine stays silent".to_owned(),
        }
    }
}
