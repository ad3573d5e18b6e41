//! The hardware watchdog: restarts the machine when init's loop stops turning.
//! Source: Linux `Documentation/watchdog/watchdog-api.rst`.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use krazy_boot::boot::cmdline::CommandLine;

/// Asked of the kernel, which feeds hardware that cannot count as far meanwhile.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

// A Raspberry Pi's counts to 16 s. The kernel feeds it every 8 s, but what its driver (`bcm2835_wdt`, as of Linux 6.12)
// loads is the remainder of the whole timeout: 12 s of 60 s, while 50 s would leave 2 s and the machine would restart.
const _: () = assert!(TIMEOUT.as_secs() % 16 > 10);

/// How often the loop feeds it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// `krazy.watchdog=off` leaves the hardware watchdog alone, for machines whose watchdog does not work.
const PARAMETER: &str = "krazy.watchdog";

/// `_IOWR('W', 6, int)`
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;

/// Whether the kernel command line lets the watchdog be used.
pub(crate) fn is_wanted(line: &CommandLine) -> bool {
    line.get(PARAMETER) != Some("off")
}

/// An armed watchdog.
#[derive(Debug)]
pub(crate) struct Watchdog(File);

impl Watchdog {
    /// Arms the first watchdog; `None` if the machine has none.
    pub(crate) fn arm() -> io::Result<Option<Self>> {
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
    pub(crate) fn feed(&mut self) -> io::Result<()> {
        self.0.write_all(b"\0")
    }

    /// Feeds it from a thread of its own for at most `limit`, so that work which may take long, but must not take for
    /// ever, is not cut off. Without the thread it is left counting.
    pub(crate) fn feed_for(mut self, limit: Duration) -> io::Result<Feeder> {
        let (stop, stopped) = mpsc::channel::<Infallible>();
        let end = Instant::now() + limit;
        let thread =
            thread::Builder::new().name("watchdog".to_owned()).stack_size(64 << 10).spawn(move || {
                loop {
                    if Instant::now() < end {
                        // What is not fed restarts the machine, which is about to end.
                        let _gone = self.feed();
                    }
                    if stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                        return self;
                    }
                }
            })?;
        Ok(Feeder { stop, thread })
    }

    /// Disarms it, for a machine that is to stay off. Hardware that cannot be disarmed stays armed.
    pub(crate) fn disarm(mut self) -> io::Result<()> {
        self.0.write_all(b"V")
    }
}

/// A watchdog that is fed by a thread.
#[derive(Debug)]
pub(crate) struct Feeder {
    stop: Sender<Infallible>,
    thread: JoinHandle<Watchdog>,
}

impl Feeder {
    /// Ends the thread and gives the watchdog back, still armed.
    pub(crate) fn stop(self) -> io::Result<Watchdog> {
        drop(self.stop);
        self.thread.join().map_err(|_| io::Error::other("its thread ended"))
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
    fn a_thread_feeds_it_until_it_is_stopped_or_too_late() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watchdog0");
        for (limit, meals) in [(Duration::from_secs(60), 2), (Duration::ZERO, 1)] {
            std::fs::write(&path, "").unwrap();
            let feeder = Watchdog::arm_device(&path).unwrap().unwrap().feed_for(limit).unwrap();
            while limit > Duration::ZERO && std::fs::read(&path).unwrap().len() < meals {
                thread::yield_now();
            }
            feeder.stop().unwrap().disarm().unwrap();
            let eaten = std::fs::read(&path).unwrap();
            assert_eq!(eaten, [vec![0; meals], vec![b'V']].concat());
        }
    }

    #[test]
    fn a_machine_may_have_none() {
        assert!(Watchdog::arm_device(Path::new("/nowhere/watchdog0")).unwrap().is_none());
    }
}
