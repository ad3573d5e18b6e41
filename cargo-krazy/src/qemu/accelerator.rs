//! Hardware virtualisation or emulation.

use std::fs::OpenOptions;
use std::path::Path;

use serde::Serialize;

use crate::board::Board;

/// `--accel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accelerate {
    /// KVM if it works, else emulation.
    #[default]
    Auto,
    /// KVM, or fail.
    Kvm,
    /// Emulation.
    Tcg,
}

/// The executor of the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accelerator {
    /// The processor itself, through /dev/kvm.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerate {
    /// Returns the accelerator to try first for `board` on this machine.
    pub(crate) fn first(self, board: &Board) -> Accelerator {
        // Opening shows permission, not that it works: a nested /dev/kvm may let QEMU die or hang later.
        let usable = || {
            std::env::consts::OS == "linux"
                && board.triple.split('-').next() == Some(std::env::consts::ARCH)
                && OpenOptions::new().read(true).write(true).open(Path::new("/dev/kvm")).is_ok()
        };
        match self {
            Accelerate::Kvm => Accelerator::Kvm,
            Accelerate::Auto if usable() => Accelerator::Kvm,
            Accelerate::Auto | Accelerate::Tcg => Accelerator::Tcg,
        }
    }
}
