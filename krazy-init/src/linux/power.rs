//! The end of the machine.

use std::fmt;

use rustix::system::RebootCommand;

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It starts again.
    Reboot,
    /// It is switched off.
    Poweroff,
    /// It stays on and does nothing any more.
    Halt,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            End::Reboot => "restarting",
            End::Poweroff => "switching off",
            End::Halt => "halting",
        })
    }
}

/// Writes everything to the disks and ends the machine. Comes back only if the kernel refuses, and then tries the
/// other ways: a machine that cannot be switched off restarts rather than sit there without its services.
pub(crate) fn end(how: End) -> ! {
    rustix::fs::sync();
    let _refused = match how {
        End::Reboot => Ok(()),
        End::Poweroff => rustix::system::reboot(RebootCommand::PowerOff),
        End::Halt => rustix::system::reboot(RebootCommand::Halt),
    };
    loop {
        let _refused = rustix::system::reboot(RebootCommand::Restart);
        // Without CAP_SYS_BOOT (a container) there is nothing to do but wait for whoever holds it.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Ctrl-Alt-Del sends SIGINT to PID 1 instead of restarting at once. Refused only where there is no such key.
pub(crate) fn take_ctrl_alt_del() -> rustix::io::Result<()> {
    rustix::system::reboot(RebootCommand::CadOff)
}
