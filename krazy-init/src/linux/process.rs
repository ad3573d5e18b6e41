//! Processes: reaping whatever ends, signals, what they occupy. How they are started is in [`launch`](super::launch).

use std::io;

use krazy_boot::api::services::ExitReason;
use rustix::process::{Pid, WaitOptions};

use super::launch::NOFILE;

/// The next ended child, whoever's it was: init inherits every orphan.
pub(crate) fn reap() -> Option<(Pid, ExitReason)> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let reason = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitReason::Code(code),
                    (None, Some(signal)) => ExitReason::Signal(signal),
                    // Stopped or continued: not an end.
                    (None, None) => continue,
                };
                return Some((pid, reason));
            }
            Ok(None) => return None,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Sends a signal by number. The process is a child that has not been reaped, so the id is its own.
pub(crate) fn signal(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill has no effect on memory.
    super::launch::check(unsafe { libc::kill(pid.as_raw_nonzero().get(), number) })
}

/// Sends a signal to a whole process group; one that is gone already is fine.
pub(crate) fn signal_group(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: as above.
    match super::launch::check(unsafe { libc::kill(-pid.as_raw_nonzero().get(), number) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Sends a signal to every process but init; there may be none.
pub(crate) fn signal_everyone(number: i32) {
    // SAFETY: as above. Its only failures are that there is nobody, and a wrong number.
    let _nobody = unsafe { libc::kill(-1, number) };
}

/// Resident memory of a process in bytes. Source: proc_pid_statm(5), second field, in pages.
pub(crate) fn resident_memory(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Makes the calling thread take a third of what a busy service takes of the CPU.
pub(crate) fn yield_to_services() {
    // Refused only to lower one's own value; without it the thread merely is as quick as the services.
    let _as_quick = rustix::process::setpriority_process(None, 5);
}

/// Raises init's own limit of descriptors: two pipes and two files a service add up.
pub(crate) fn raise_own_limits() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: NOFILE.1, rlim_max: NOFILE.1 };
    // SAFETY: the structure is valid for the call.
    super::launch::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_this_process_is_some() {
        assert!(resident_memory(rustix::process::getpid()).unwrap() > 100_000);
    }
}
