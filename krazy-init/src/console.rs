//! The system console, written without ever blocking: a serial line takes 11 KiB/s, a service may write 100 MB/s.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// The most bytes that wait for a slow console; beyond it whole lines are dropped and counted.
const BACKLOG: usize = 64 << 10;

/// The console, or nothing on a machine without one.
#[derive(Debug)]
pub(crate) struct Console {
    device: Option<File>,
    backlog: VecDeque<u8>,
    dropped: u64,
}

impl Console {
    /// Opens `/dev/console`. A machine without a console works silently.
    pub(crate) fn open() -> Self {
        let device = OpenOptions::new()
            .write(true)
            // Not a controlling terminal: Ctrl-C on it would be a signal to PID 1. Not blocking: flow control of a
            // serial line must not stop the machine.
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/console")
            .ok();
        Self::on(device)
    }

    /// A console on an open device.
    pub(crate) fn on(device: Option<File>) -> Self {
        Console { device, backlog: VecDeque::new(), dropped: 0 }
    }

    /// Writes a line of init's own: `krazy: TEXT`.
    pub(crate) fn log(&mut self, text: &str) {
        self.line("krazy", text);
    }

    /// Writes a line with the name of its source: `NAME: TEXT`. Control characters but tabs are replaced, so that a
    /// program cannot drive the terminal.
    pub(crate) fn line(&mut self, name: &str, text: &str) {
        let length = name.len() + text.len() + 3;
        if self.backlog.len() + length > BACKLOG {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let note = format!("krazy: {} lines were too many for the console\n", self.dropped);
            self.backlog.extend(note.as_bytes());
            self.dropped = 0;
        }
        self.backlog.extend(name.as_bytes());
        self.backlog.extend(b": ");
        self.backlog.extend(text.bytes().map(|b| if (b < 32 && b != b'\t') || b == 127 { b'?' } else { b }));
        self.backlog.push_back(b'\n');
        self.drain();
    }

    /// Writes what the console takes now.
    pub(crate) fn drain(&mut self) {
        let Some(device) = &mut self.device else {
            self.backlog.clear();
            return;
        };
        while !self.backlog.is_empty() {
            match device.write(self.backlog.as_slices().0) {
                Ok(0) => break,
                Ok(n) => drop(self.backlog.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A console that hangs up does not come back, and there is no other place to report it.
                Err(_) => {
                    self.device = None;
                    self.backlog.clear();
                    return;
                }
            }
        }
        if self.backlog.is_empty() && self.backlog.capacity() > 4096 {
            self.backlog.shrink_to(4096);
        }
    }

    /// The descriptor to wait on while [`Console::is_behind`].
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_ref().map(AsFd::as_fd)
    }

    /// Returns true if lines wait for the console.
    pub(crate) fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Waits until everything is written, at most `limit`; for the end of the machine.
    pub(crate) fn flush(&mut self, limit: Duration) {
        let start = Instant::now();
        self.drain();
        while self.is_behind() && start.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(5));
            self.drain();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn console() -> (tempfile::TempDir, std::path::PathBuf, Console) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let device = File::create(&path).unwrap();
        (dir, path, Console::on(Some(device)))
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let (_dir, path, mut console) = console();
        console.line("web", "a\tb\x1b[2Jc\rd\x7f");
        assert_eq!(fs::read_to_string(path).unwrap(), "web: a\tb?[2Jc?d?\n");
    }

    #[test]
    fn lines_that_a_slow_console_cannot_take_are_dropped_and_counted() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut console = Console::on(Some(std::os::fd::OwnedFd::from(writer).into()));
        let text = "x".repeat(1000);
        for _ in 0..1000 {
            console.log(&text);
        }
        assert!(console.is_behind() && console.backlog.len() <= BACKLOG);
        let dropped = console.dropped;
        assert!(dropped > 0);
        let mut reader = File::from(std::os::fd::OwnedFd::from(reader));
        let mut buffer = vec![0; 1 << 20];
        let mut seen = String::new();
        while console.is_behind() {
            let length = io::Read::read(&mut reader, &mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            console.drain();
        }
        console.log("again");
        let length = io::Read::read(&mut reader, &mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        let note = format!("krazy: {dropped} lines were too many for the console\nkrazy: again\n");
        assert!(seen.ends_with(&note), "{:?}", &seen[seen.len().saturating_sub(200)..]);
    }
}
