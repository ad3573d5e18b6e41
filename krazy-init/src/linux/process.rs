//! Processes: reaping, signals, memory. They are started by [`launch`](super::launch).

use std::io;

use krazy_boot::api::services::ExitReason;
use rustix::process::{Pid, WaitOptions};

use super::launch::NOFILE;

/// Reaps the next exited child. It may be unknown: PID 1 is the parent of every orphan.
pub(crate) fn reap() -> Option<(Pid, ExitReason)> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let reason = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitReason::Code(code),
                    (None, Some(signal)) => ExitReason::Signal(signal),
                    // Stopped or continued, not exited.
                    (None, None) => continue,
                };
                return Some((pid, reason));
            }
            Ok(None) => return None,
            Err(rustix::io::Errno::INTR) => {}
            // There is no child at all (ECHILD).
            Err(_) => return None,
        }
    }
}

/// Sends a signal by number. The process must be a child that has not been reaped, so that the id is still its own.
pub(crate) fn signal(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill has no effect on memory.
    super::launch::check(unsafe { libc::kill(pid.as_raw_nonzero().get(), number) })
}

/// Sends a signal to a process group, which may be gone already.
pub(crate) fn signal_group(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: as above.
    match super::launch::check(unsafe { libc::kill(-pid.as_raw_nonzero().get(), number) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Sends a signal to every process except init.
pub(crate) fn signal_everyone(number: i32) {
    // SAFETY: as above. It fails only if there is no other process, or if the number is invalid.
    let _none = unsafe { libc::kill(-1, number) };
}

/// Returns the resident memory of a process in bytes. Source: proc_pid_statm(5), second field, in pages.
pub(crate) fn resident_memory(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Returns the name of a process as text without control characters. Source: proc_pid_comm(5).
pub(crate) fn name(pid: Pid) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok()?;
    Some(text.trim_end().replace(char::is_control, "?"))
}

/// Lowers the priority of the calling thread: it gets a third of the CPU time of a busy service.
pub(crate) fn yield_to_services() {
    // The kernel refuses only a higher priority. A failure leaves the thread at the priority of services.
    let _same = rustix::process::setpriority_process(None, 5);
}

/// Raises init's own limit of open descriptors, because each service takes two pipes and two files.
pub(crate) fn raise_own_limits() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: NOFILE.1, rlim_max: NOFILE.1 };
    // SAFETY: the structure is valid for the call.
    super::launch::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_of_this_process_is_known() {
        assert!(resident_memory(rustix::process::getpid()).unwrap() > 100_000);
        assert!(name(rustix::process::getpid()).is_some_and(|name| !name.is_empty() && !name.contains('\n')));
    }
}
