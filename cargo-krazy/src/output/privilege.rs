//! The right to write a disk: asked for through sudo, for that disk alone, so that the build needs no root.

use std::io::{self, IsTerminal};
use std::process::Command;

use super::disk::{Disk, DiskError};
use crate::failure::Result;
use crate::shell::Shell;

/// Makes this user the owner of a disk that only others may write, if there is a terminal on which sudo can ask for
/// consent. The kernel's node of the disk is made anew when it is plugged in again.
pub(super) fn obtain(disk: &Disk, shell: Shell) -> Result<()> {
    if disk.check_allowed().is_ok() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(disk.check_allowed()?);
    }
    let user = rustix::process::geteuid().as_raw().to_string();
    shell.status("Asking", format!("sudo for the right to write {}", disk.path.display()));
    let status = Command::new("sudo").args(["--", "chown", &user]).arg(&disk.path).status();
    match status {
        Ok(status) if status.success() => Ok(disk.check_allowed()?),
        _ => Err(DiskError::Denied(disk.path.clone()).into()),
    }
}
