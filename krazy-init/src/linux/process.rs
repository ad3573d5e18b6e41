//! Starting a service's main process with exactly the rights it is to have, and reaping whatever ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitOptions};

use crate::control::ExitReason;

/// Descriptors a service may open unless it raises the limit itself, and how far it may raise it.
const NOFILE: (u64, u64) = (1024, 524_288);

/// Everything about a process to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The file to execute; also its `argv[0]`.
    pub program: &'a Path,
    /// Arguments after the program's name.
    pub arguments: &'a [String],
    /// The whole environment.
    pub environment: &'a [(String, String)],
    /// Where it starts.
    pub folder: &'a Path,
    /// User and group; 0 keeps all rights.
    pub uid: u32,
    /// `cgroup.procs` of its cgroup, open for writing.
    pub cgroup: Option<&'a File>,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// Starts it: a new session and process group, no input, its own account, no way to gain rights.
pub fn spawn(launch: Launch<'_>) -> io::Result<Pid> {
    let cgroup = launch.cgroup.map(AsRawFd::as_raw_fd);
    let uid = launch.uid;
    let mut command = Command::new(launch.program);
    command
        .args(launch.arguments)
        .env_clear()
        .envs(launch.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(launch.folder)
        .stdin(Stdio::null())
        .stdout(launch.stdout)
        .stderr(launch.stderr);
    // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
    unsafe {
        command.pre_exec(move || confine(uid, cgroup));
    }
    let child = command.spawn()?;
    // Reaped by `reap`, like every other child; `Child` has no drop that waits.
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("the kernel gave no process id"))
}

/// Runs in the child before it executes its program. Source: credentials(7), capabilities(7).
fn confine(uid: u32, cgroup: Option<i32>) -> io::Result<()> {
    // SAFETY: plain system calls on integers and on a buffer that outlives them.
    unsafe {
        if let Some(cgroup) = cgroup {
            // "0" is the writer itself.
            check(libc::write(cgroup, b"0".as_ptr().cast(), 1).try_into().unwrap_or(-1))?;
        }
        check(libc::setsid())?;
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()))?;
        // Handlers go with exec; ignored signals would stay ignored.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max.min(NOFILE.0);
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
        if uid == 0 {
            return Ok(());
        }
        for capability in 0..64 {
            // The kernel knows fewer; the first unknown one ends the list.
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                break;
            }
        }
        // musl's wrappers synchronise threads, which a child of fork does not have: the system calls themselves.
        check(libc::syscall(libc::SYS_setgroups, 0, 0).try_into().unwrap_or(-1))?;
        check(libc::syscall(libc::SYS_setresgid, uid, uid, uid).try_into().unwrap_or(-1))?;
        // From root to another user the kernel clears the permitted, effective and ambient capabilities.
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid).try_into().unwrap_or(-1))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    }
    Ok(())
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The next ended child, whoever's it was: init inherits every orphan.
pub fn reap() -> Option<(Pid, ExitReason)> {
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
pub fn signal(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill has no effect on memory.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), number) })
}

/// Sends a signal to a whole process group; one that is gone already is fine.
pub fn signal_group(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: as above.
    match check(unsafe { libc::kill(-pid.as_raw_nonzero().get(), number) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Sends a signal to every process but init; there may be none.
pub fn signal_everyone(number: i32) {
    // SAFETY: as above. Its only failures are that there is nobody, and a wrong number.
    let _nobody = unsafe { libc::kill(-1, number) };
}

/// Resident memory of a process in bytes. Source: proc_pid_statm(5), second field, in pages.
pub fn resident_memory(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Raises init's own limit of descriptors: two pipes and two files a service add up.
pub fn raise_own_limits() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: NOFILE.1, rlim_max: NOFILE.1 };
    // SAFETY: the structure is valid for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn run(program: &str, arguments: &[&str], uid: u32) -> (String, String) {
        let (mut out, stdout) = io::pipe().unwrap();
        let (mut err, stderr) = io::pipe().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let environment = [("PATH".to_owned(), "/bin:/usr/bin".to_owned())];
        let launch = Launch {
            program: Path::new(program),
            arguments: &arguments,
            environment: &environment,
            folder: Path::new("/"),
            uid,
            cgroup: None,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let pid = spawn(launch).unwrap();
        let (mut text, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut errors).unwrap();
        rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap();
        (text, errors)
    }

    #[test]
    fn a_service_has_its_own_session_and_a_clean_environment() {
        let script = "echo $PPID; ps -o pid=,pgid=,sid= -p $$; env; exec cat /proc/self/status >&2";
        let (out, status) = run("/bin/sh", &["-c", script], 0);
        let ids: Vec<&str> = out.lines().nth(1).unwrap().split_ascii_whitespace().collect();
        assert!(ids[0] == ids[1] && ids[1] == ids[2], "{out}");
        assert!(out.contains("PATH=/bin:/usr/bin") && !out.contains("CARGO"), "{out}");
        assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    }

    #[test]
    fn a_program_that_cannot_run_is_named_by_the_kernel() {
        let launch = Launch {
            program: Path::new("/nowhere/program"),
            arguments: &[],
            environment: &[],
            folder: Path::new("/"),
            uid: 0,
            cgroup: None,
            stdout: io::pipe().unwrap().1.into(),
            stderr: io::pipe().unwrap().1.into(),
        };
        assert_eq!(spawn(launch).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn another_account_has_no_rights_left() {
        // Only root can become someone else; as another user the kernel's refusal is what is to be seen.
        if rustix::process::geteuid().is_root() {
            let (status, _) = run("/bin/cat", &["/proc/self/status"], 12_345);
            for line in
                ["Uid:\t12345\t12345\t12345\t12345", "Gid:\t12345\t12345\t12345\t12345", "NoNewPrivs:\t1"]
            {
                assert!(status.contains(line), "{line} not in {status}");
            }
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set} in {status}");
            }
        } else {
            assert!(confine(0, None).is_ok());
        }
    }

    #[test]
    fn memory_of_this_process_is_some() {
        assert!(resident_memory(rustix::process::getpid()).unwrap() > 100_000);
    }
}
