//! A child that is to become a service, until it has executed its program.
//!
//! It has the account of its service for a moment before that, so another process of the account can stop it there. PID 1
//! therefore never waits for it: the child's end of a pipe closes when the program is executed, and the loop learns
//! of that as of any other event.

use std::io::{self, PipeReader, Read};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};

/// The bit of a child's error that tells that its sandbox failed.
const IN_SANDBOX: i32 = 1 << 16;

/// Marks an error of the child, without memory from the allocator.
pub(super) fn in_sandbox(error: io::Error) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO) | IN_SANDBOX)
}

/// Returns the error that a child has reported.
fn reported(number: i32) -> io::Error {
    let error = io::Error::from_raw_os_error(number & !IN_SANDBOX);
    if number & IN_SANDBOX == 0 {
        return error;
    }
    let text =
        format!("its sandbox cannot be set up: {error}; help: lift a restriction in `service.NAME.sandbox`");
    io::Error::new(error.kind(), text)
}

/// The longest time until a process executes its program.
pub(crate) const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// A child and the pipe that tells what became of it.
#[derive(Debug)]
pub(crate) struct Launched {
    pid: Pid,
    outcome: PipeReader,
}

impl Launched {
    /// The child `pid`, which alone has the other end of `outcome`. It writes the number of an error there, or executes its
    /// program, which closes that end.
    pub(super) fn new(pid: Pid, outcome: PipeReader) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&outcome, OFlags::NONBLOCK)?;
        Ok(Launched { pid, outcome })
    }

    /// The child.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The descriptor that becomes readable when there is an [`outcome`](Self::outcome).
    pub(crate) fn descriptor(&self) -> &PipeReader {
        &self.outcome
    }

    /// Returns success if the program was executed, or the process ended before; the error if it cannot be executed; `None`
    /// as long as neither is known. A child with an error exits by itself and is reaped by init's loop.
    pub(crate) fn outcome(&mut self) -> Option<io::Result<()>> {
        let mut error = [0; 4];
        match self.outcome.read(&mut error) {
            Ok(4) => Some(Err(reported(i32::from_ne_bytes(error)))),
            Ok(_) => Some(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Kills a child that has not executed its program in time; init's loop reaps it. Returns the error to report.
    pub(crate) fn give_up(&self) -> io::Error {
        let text = format!("its program was not executed within {} s", EXEC_TIMEOUT.as_secs());
        match rustix::process::kill_process(self.pid, Signal::KILL) {
            Ok(()) => io::Error::new(io::ErrorKind::TimedOut, text),
            Err(error) => io::Error::new(io::ErrorKind::TimedOut, format!("{text}, nor killed: {error}")),
        }
    }

    /// Waits for the outcome.
    #[cfg(test)]
    pub(super) fn wait(mut self) -> io::Result<Pid> {
        loop {
            match self.outcome() {
                Some(outcome) => return outcome.map(|()| self.pid),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn outcome_is_an_end_or_an_error_and_nothing_before() {
        let child = rustix::process::getpid();
        let (reader, writer) = io::pipe().unwrap();
        let mut launched = Launched::new(child, reader).unwrap();
        assert!(launched.outcome().is_none());
        drop(writer);
        assert!(matches!(launched.outcome(), Some(Ok(()))));
        let (reader, mut writer) = io::pipe().unwrap();
        let mut launched = Launched::new(child, reader).unwrap();
        writer.write_all(&libc::ENOEXEC.to_ne_bytes()).unwrap();
        let error = launched.outcome().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
    }

    #[test]
    fn error_of_a_child_tells_where_it_came_from() {
        assert_eq!(reported(libc::ENOENT).raw_os_error(), Some(libc::ENOENT));
        let error = reported(in_sandbox(io::Error::from_raw_os_error(libc::EINVAL)).raw_os_error().unwrap());
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("service.NAME.sandbox"), "{error}");
    }

    #[test]
    fn process_that_is_stopped_before_exec_delays_nobody_and_is_killed() {
        // In place of a child that a process of the same account has stopped.
        let mut stuck = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let child = Pid::from_raw(stuck.id().cast_signed()).unwrap();
        rustix::process::kill_process(child, Signal::STOP).unwrap();
        let (reader, _open) = io::pipe().unwrap();
        let mut launched = Launched::new(child, reader).unwrap();
        let start = std::time::Instant::now();
        assert!(launched.outcome().is_none());
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(launched.give_up().to_string(), "its program was not executed within 10 s");
        assert_eq!(stuck.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
