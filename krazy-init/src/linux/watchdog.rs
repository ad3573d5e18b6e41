//! The hardware watchdog, which resets the machine when init's loop hangs.
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

/// The timeout requested from the kernel, which feeds hardware with a shorter limit itself.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

// A Raspberry Pi's watchdog counts to 16 s. The kernel feeds it every 8 s, but its driver (`bcm2835_wdt`, as of Linux 6.12)
// loads the remainder of the whole timeout: 12 s for 60 s; with 50 s it would be 2 s, and the machine would restart.
const _: () = assert!(TIMEOUT.as_secs() % 16 > 10);

/// The interval in which the loop feeds it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// `krazy.watchdog=off` leaves the hardware watchdog unused, for machines on which it does not work.
const PARAMETER: &str = "krazy.watchdog";

/// `_IOWR('W', 6, int)`
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;

/// Returns true unless the kernel command line turns the watchdog off.
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

    /// Arms this one.
    pub(crate) fn arm_device(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut seconds = TIMEOUT.as_secs() as libc::c_int;
        // Hardware with a fixed timeout keeps it; the interval is short enough for 20 s and more.
        // SAFETY: the request reads and writes one int.
        let _kept = unsafe { libc::ioctl(file.as_raw_fd(), WDIOC_SETTIMEOUT as _, &mut seconds) };
        // Fed at once: a first stage or launcher may have started it a while ago.
        let mut watchdog = Watchdog(file);
        watchdog.feed()?;
        Ok(Some(watchdog))
    }

    /// Restarts the timeout.
    pub(crate) fn feed(&mut self) -> io::Result<()> {
        self.0.write_all(b"\0")
    }

    /// Feeds it from a thread for at most `limit`, so that long work is not interrupted and a hang still resets the
    /// machine. If the thread cannot start, the watchdog keeps counting.
    pub(crate) fn feed_for(mut self, limit: Duration) -> io::Result<Feeder> {
        let (stop, stopped) = mpsc::channel::<Infallible>();
        let end = Instant::now() + limit;
        let thread =
            thread::Builder::new().name("watchdog".to_owned()).stack_size(64 << 10).spawn(move || {
                loop {
                    if Instant::now() < end {
                        // A watchdog that cannot be fed resets the machine, which is stopping anyway.
                        let _gone = self.feed();
                    }
                    if stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                        return self;
                    }
                }
            })?;
        Ok(Feeder { stop, thread })
    }

    /// Disarms it, for a machine that stays off. Hardware that cannot be disarmed stays armed. Source: the "magic close"
    /// feature of watchdog-api.rst.
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
    /// Stops the thread and returns the watchdog, still armed.
    pub(crate) fn stop(self) -> io::Result<Watchdog> {
        drop(self.stop);
        self.thread.join().map_err(|_| io::Error::other("its thread panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_turns_the_watchdog_off() {
        for (line, expected) in [("", true), ("krazy.watchdog=off", false), ("krazy.watchdog=on quiet", true)]
        {
            assert_eq!(is_wanted(&CommandLine::parse(line).unwrap()), expected, "{line}");
        }
    }

    #[test]
    fn thread_feeds_until_it_is_stopped_or_the_limit_passes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watchdog0");
        for (limit, feeds) in [(Duration::from_secs(60), 2), (Duration::ZERO, 1)] {
            std::fs::write(&path, "").unwrap();
            let feeder = Watchdog::arm_device(&path).unwrap().unwrap().feed_for(limit).unwrap();
            while limit > Duration::ZERO && std::fs::read(&path).unwrap().len() < feeds {
                thread::yield_now();
            }
            feeder.stop().unwrap().disarm().unwrap();
            let written = std::fs::read(&path).unwrap();
            assert_eq!(written, [vec![0; feeds], vec![b'V']].concat());
        }
    }

    #[test]
    fn missing_watchdog_is_none() {
        assert!(Watchdog::arm_device(Path::new("/nowhere/watchdog0")).unwrap().is_none());
    }
}
