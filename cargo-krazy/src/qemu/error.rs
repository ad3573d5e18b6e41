//! The failures of `cargo krazy run-qemu`, before the machine starts and while it runs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use krazy_boot::disk::boot_fat::FatError;
use krazy_boot::disk::mbr::MbrError;

use crate::failure::{Exit, Explain};

/// A machine that cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// QEMU is missing.
    #[error("`{program}` is not installed")]
    NotInstalled {
        /// The emulator.
        program: String,
    },
    /// QEMU is too old for the machine.
    #[error("{version}: it has no machine `{machine}`")]
    NoMachine {
        /// QEMU's own name and version.
        version: String,
        /// The machine.
        machine: &'static str,
    },
    /// No UEFI firmware for QEMU was found.
    #[error("no UEFI firmware for QEMU is installed")]
    NoFirmware,
    /// UEFI firmware would find nothing to start.
    #[error("UEFI firmware would not start from {}: it has no loader for it", .0.display())]
    NoLoader(PathBuf),
    /// KVM was requested for a machine that QEMU only emulates.
    #[error("QEMU only emulates a Raspberry Pi")]
    OnlyEmulated,
    /// The firmware of a Raspberry Pi would find nothing to start.
    #[error("a Raspberry Pi would not start from {}: {why}", card.display())]
    Card {
        /// The image.
        card: PathBuf,
        /// The reason.
        why: CardError,
    },
}

/// The reason that a Raspberry Pi would not start from an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardError {
    /// Its partition table is damaged, or it is not a disk.
    #[error(transparent)]
    Table(#[from] MbrError),
    /// A file is missing from `/boot`, or its file system is damaged.
    #[error(transparent)]
    Files(#[from] FatError),
}

impl Explain for StartError {
    fn exit(&self) -> Exit {
        match self {
            StartError::NotInstalled { .. } | StartError::NoMachine { .. } | StartError::NoFirmware => {
                Exit::MissingTool
            }
            StartError::OnlyEmulated => Exit::Usage,
            StartError::Card { .. } | StartError::NoLoader(_) => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            StartError::NotInstalled { program } => return Some(install_hint(program)),
            StartError::NoMachine { .. } => {
                "QEMU has it from 9.0 on; on Debian 12: `sudo apt install -t bookworm-backports qemu-system-arm`"
            }
            StartError::NoFirmware => {
                "install it: `sudo apt install ovmf` (Debian, Ubuntu), `sudo dnf install edk2-ovmf` (Fedora); QEMU finds it by \
                 the descriptions in /usr/share/qemu/firmware"
            }
            StartError::NoLoader(_) => {
                "make it again, without `uefi = false` and with a kernel that has an EFI stub; or start it with `--firmware bios`"
            }
            StartError::OnlyEmulated => "leave `--accel kvm` out",
            StartError::Card { .. } => {
                "`cargo krazy inspect` tells what is on it; `--target aarch64-rpi` makes an image for it"
            }
        };
        Some(help.to_owned())
    }
}

/// A run that did not reach its goal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
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
            RunError::Interrupted => Exit::Interrupted,
            RunError::TimedOut { .. } | RunError::NotExpected { .. } => Exit::Expect,
            RunError::OutputClosed | RunError::Kvm { .. } | RunError::Silent | RunError::Qemu { .. } => {
                Exit::Failed
            }
        }
    }

    fn help(&self) -> Option<String> {
        match self {
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

/// Returns the command that installs the emulator `program`.
pub(crate) fn install_hint(program: &str) -> String {
    let (debian, fedora) = match program.strip_prefix("qemu-system-") {
        Some("aarch64") => ("qemu-system-arm", "qemu-system-aarch64-core"),
        _ => ("qemu-system-x86", "qemu-system-x86-core"),
    };
    format!(
        "install it: `sudo apt install {debian}` (Debian, Ubuntu), `sudo dnf install {fedora}` (Fedora), `brew install qemu` (macOS)"
    )
}
