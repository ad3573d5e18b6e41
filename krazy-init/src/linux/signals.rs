//! Signals to PID 1, read from a descriptor, and the names of signals. Source: signal(7), signalfd(2).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::power::End;

/// The meaning of a signal to init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A child exited.
    Child,
    /// The machine has to stop or restart.
    End(End),
}

/// Signals that init handles. INT is Ctrl-Alt-Del. TERM, USR1 and USR2 have their meaning of busybox's init, RTMIN+3 to
/// RTMIN+5 (37 to 39 in the kernel) that of systemd.
const TABLE: &[(libc::c_int, Meaning)] = &[
    (libc::SIGCHLD, Meaning::Child),
    (libc::SIGINT, Meaning::End(End::Reboot)),
    (libc::SIGTERM, Meaning::End(End::Reboot)),
    (libc::SIGUSR1, Meaning::End(End::Halt)),
    (libc::SIGUSR2, Meaning::End(End::Poweroff)),
    (libc::SIGPWR, Meaning::End(End::Poweroff)),
    (37, Meaning::End(End::Halt)),
    (38, Meaning::End(End::Poweroff)),
    (39, Meaning::End(End::Reboot)),
];

/// A signalfd for [`TABLE`].
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals and opens the descriptor, non-blocking.
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: the set is initialised by sigemptyset before use; signalfd returns a new descriptor or -1.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for (signal, _) in TABLE {
                libc::sigaddset(&mut set, *signal);
            }
            // Blocked before the descriptor exists, so that a signal in between stays pending. Threads inherit the
            // mask, so these signals interrupt no system call.
            if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Signals(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Returns the next pending signal.
    pub(crate) fn next(&self) -> Option<Meaning> {
        // Source: signalfd(2): ssi_signo is the first u32 of a 128-byte structure.
        // A signal without a row in the table is skipped: returning `None` would leave those behind it unread.
        let mut info = [0u8; 128];
        while rustix::io::read(&self.0, &mut info).ok()? == info.len() {
            let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            if let Some((_, meaning)) = TABLE.iter().find(|(signal, _)| u32::try_from(*signal) == Ok(number))
            {
                return Some(*meaning);
            }
        }
        None
    }
}

/// Signals by name, with the numbers that x86 and ARM share.
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("WINCH", 28),
    ("PWR", 30),
];

/// Parses `TERM`, `SIGTERM` or `15`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_parsed_by_name_and_number() {
        assert_eq!(parse("TERM"), Some(15));
        assert_eq!(parse("sighup"), Some(1));
        assert_eq!(parse("9"), Some(9));
        for wrong in ["", "0", "65", "-1", "SIG", "TERMINATE"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
