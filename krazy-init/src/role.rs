//! The roles of the one binary. The way it was started decides which one it plays.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{command, first_stage, module_helper, supervisor};

/// `f_type` of the file systems an initramfs is unpacked to. Source: Linux `include/uapi/linux/magic.h`.
const INITRAMFS_TYPES: [u64; 2] = [0x8584_58f6, 0x0102_1994];

/// Runs in the role that the process was started for:
///
/// * PID 1 on an initramfs: the first stage.
/// * PID 1 on anything else: the supervisor.
/// * As the kernel starts its module helper (`-q -- ALIAS`): loads that module.
/// * In any other way: a client of the running init.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if std::process::id() != 1 {
        return match module_helper::request(&arguments) {
            Some(alias) => module_helper::run(alias),
            None => command::run(&arguments),
        };
    }
    // The same file is `/init` of the initramfs and `/bin/init` of the root; the type of the root file system distinguishes them.
    let root = rustix::fs::statfs("/").map(|stat| stat.f_type as u64).unwrap_or_default();
    if INITRAMFS_TYPES.contains(&root) { first_stage::run(&arguments) } else { supervisor::run() }
}
