//! Reboot, power-off and halt. Source: reboot(2).

use std::fmt;

use rustix::system::RebootCommand;

/// The way in which the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It restarts.
    Reboot,
    /// It is switched off.
    Poweroff,
    /// It stays on, with a stopped processor.
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

/// Syncs the disks and stops the machine. If the kernel cannot switch it off or halt it, it restarts, because a machine
/// that stays on should run its services.
pub(crate) fn end(how: End) -> ! {
    rustix::fs::sync();
    let _refused = match how {
        End::Reboot => Ok(()),
        End::Poweroff => rustix::system::reboot(RebootCommand::PowerOff),
        End::Halt => rustix::system::reboot(RebootCommand::Halt),
    };
    loop {
        let _refused = rustix::system::reboot(RebootCommand::Restart);
        // Without CAP_SYS_BOOT, as in a container, only the host can stop it.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Makes Ctrl-Alt-Del send SIGINT to PID 1 instead of restarting at once. Fails only on machines without such a key.
pub(crate) fn take_ctrl_alt_del() -> rustix::io::Result<()> {
    rustix::system::reboot(RebootCommand::CadOff)
}
