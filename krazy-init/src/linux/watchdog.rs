//! The hardware watchdog: restarts the machine when init's loop stops turning.
//! Source: Linux `Documentation/watchdog/watchdog-api.rst`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use krazy_boot::cmdline::CommandLine;

/// Asked of the hardware, which may choose otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// How often the loop feeds it.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// `krazy.watchdog=off` leaves the hardware watchdog alone, for machines whose watchdog does not work.
const PARAMETER: &str = "krazy.watchdog";

/// `_IOWR('W', 6, int)`
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;

/// Whether the kernel command line lets the watchdog be used.
pub fn is_wanted(line: &CommandLine) -> bool {
    line.get(PARAMETER) != Some("off")
}

/// An armed watchdog.
#[derive(Debug)]
pub struct Watchdog(File);

impl Watchdog {
    /// Arms the first watchdog; `None` if the machine has none.
    pub fn arm() -> io::Result<Option<Self>> {
        Self::arm_device(Path::new("/dev/watchdog0"))
    }

    fn arm_device(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut seconds = TIMEOUT.as_secs() as libc::c_int;
        // Hardware that cannot change its timeout keeps its own, which the interval suits from 20 s on.
        // SAFETY: the request reads and writes one int.
        let _kept = unsafe { libc::ioctl(file.as_raw_fd(), WDIOC_SETTIMEOUT as _, &mut seconds) };
        let mut watchdog = Watchdog(file);
        watchdog.feed()?;
        Ok(Some(watchdog))
    }

    /// Puts the restart off.
    pub fn feed(&mut self) -> io::Result<()> {
        self.0.write_all(b"\0")
    }

    /// Disarms it, for a machine that is to stay off. Hardware that cannot be disarmed stays armed.
    pub fn disarm(mut self) -> io::Result<()> {
        self.0.write_all(b"V")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_can_leave_it_alone() {
        for (line, wanted) in [("", true), ("krazy.watchdog=off", false), ("krazy.watchdog=on quiet", true)] {
            assert_eq!(is_wanted(&CommandLine::parse(line).unwrap()), wanted, "{line}");
        }
    }

    #[test]
    fn a_machine_may_have_none() {
        assert!(Watchdog::arm_device(Path::new("/nowhere/watchdog0")).unwrap().is_none());
    }
}
