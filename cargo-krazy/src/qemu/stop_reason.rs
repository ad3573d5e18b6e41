//! The reasons for which a run of QEMU stops.

use std::time::Duration;

/// The reason for which a machine stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The expected text appeared.
    Expected,
    /// It took too long.
    TimedOut {
        /// The time it had.
        after: Duration,
        /// The last lines of the guest.
        last_lines: String,
    },
    /// KVM gave up on an instruction; QEMU would stand still for ever.
    KvmFailed {
        /// QEMU's message about it.
        complaint: String,
    },
    /// It was silent for longer than the `silence_limit` of `Session::run`.
    Silent,
    /// The user had enough.
    Interrupted,
    /// Nobody reads the serial line any more.
    OutputClosed,
    /// QEMU ended by itself.
    Exited {
        /// Its exit code; none after a signal.
        code: Option<i32>,
        /// The text of QEMU on standard error.
        complaint: String,
        /// The last lines of the guest.
        last_lines: String,
        /// True if the guest wrote nothing to the serial line.
        silent: bool,
    },
}

impl StopReason {
    /// Returns true if it is the accelerator that failed, not the guest and not the command line.
    pub(crate) fn accelerator_failed(&self) -> bool {
        match self {
            StopReason::Silent | StopReason::KvmFailed { .. } => true,
            // Without permission QEMU ends with a message; a register that KVM refuses aborts it.
            StopReason::Exited { silent: true, code, complaint, .. } => {
                code.is_none() || *code != Some(0) && complaint.to_lowercase().contains("kvm")
            }
            _ => false,
        }
    }

    /// The reason in a few words.
    pub(crate) fn cause(&self) -> String {
        match self {
            StopReason::Exited { complaint, .. } | StopReason::KvmFailed { complaint } => complaint
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("QEMU died")
                .trim()
                .to_owned(),
            _ => "the machine stays silent".to_owned(),
        }
    }
}
