//! Starting a service's main process with exactly the rights it is to have, and reaping whatever ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitOptions};

use super::capabilities::Capabilities;
use super::sandbox;
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
    /// What it may do.
    pub rights: Rights,
    /// Further groups, for another user than root.
    pub groups: &'a [u32],
    /// `cgroup.procs` of its cgroup, open for writing.
    pub cgroup: Option<&'a File>,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// What a process may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// User and group; 0 keeps all rights.
    pub uid: u32,
    /// Capabilities that another user than root keeps.
    pub capabilities: Capabilities,
    /// A [`Sandbox`](super::sandbox::Sandbox)'s descriptor, for another user than root.
    pub sandbox: Option<i32>,
    /// The limit of open files, instead of one that the process may raise itself.
    pub open_files: Option<u32>,
}

/// Starts it: a new session and process group, no input, its own account, no way to gain rights.
pub fn spawn(launch: Launch<'_>) -> io::Result<Pid> {
    let cgroup = launch.cgroup.map(AsRawFd::as_raw_fd);
    let rights = launch.rights;
    let groups = launch.groups.to_vec();
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
        command.pre_exec(move || confine(rights, &groups, cgroup));
    }
    let child = command.spawn()?;
    // Reaped by `reap`, like every other child; `Child` has no drop that waits.
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("the kernel gave no process id"))
}

/// Runs in the child before it executes its program. Source: credentials(7), capabilities(7).
fn confine(rights: Rights, groups: &[u32], cgroup: Option<i32>) -> io::Result<()> {
    let Rights { uid, capabilities, sandbox, open_files } = rights;
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
        if let Some(files) = open_files {
            limit.rlim_max = limit.rlim_max.min(files.into());
        }
        limit.rlim_cur = limit.rlim_max.min(open_files.map_or(NOFILE.0, u64::from));
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
        if uid == 0 {
            return Ok(());
        }
        capabilities.keep()?;
        // musl's wrappers synchronise threads, which a child of fork does not have: the system calls themselves.
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()).try_into().unwrap_or(-1))?;
        check(libc::syscall(libc::SYS_setresgid, uid, uid, uid).try_into().unwrap_or(-1))?;
        // From root to another user the kernel clears the effective and ambient capabilities, and, unless told
        // otherwise, the permitted ones.
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid).try_into().unwrap_or(-1))?;
        capabilities.take()?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    }
    match sandbox {
        Some(descriptor) => sandbox::enter(descriptor),
        None => Ok(()),
    }
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

/// Makes the calling thread take a third of what a busy service takes of the CPU.
pub fn yield_to_services() {
    // Refused only to lower one's own value; without it the thread merely is as quick as the services.
    let _as_quick = rustix::process::setpriority_process(None, 5);
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

    use super::super::sandbox::Sandbox;
    use super::*;

    const STRANGER: Rights =
        Rights { uid: 12_345, capabilities: Capabilities(0), sandbox: None, open_files: None };

    fn run(program: &str, arguments: &[&str], rights: Rights) -> (String, String) {
        let (mut out, stdout) = io::pipe().unwrap();
        let (mut err, stderr) = io::pipe().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let environment = [("PATH".to_owned(), "/bin:/usr/bin".to_owned())];
        let launch = Launch {
            program: Path::new(program),
            arguments: &arguments,
            environment: &environment,
            folder: Path::new("/"),
            rights,
            groups: &[7, 8],
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
        let (out, status) = run("/bin/sh", &["-c", script], Rights::default());
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
            rights: Rights::default(),
            groups: &[],
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
            let (status, _) = run("/bin/cat", &["/proc/self/status"], STRANGER);
            for line in [
                "Uid:\t12345\t12345\t12345\t12345",
                "Gid:\t12345\t12345\t12345\t12345",
                "NoNewPrivs:\t1",
                "Groups:\t7 8 \n",
            ] {
                assert!(status.contains(line), "{line} not in {status}");
            }
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set} in {status}");
            }
        } else {
            assert!(confine(Rights::default(), &[], None).is_ok());
        }
    }

    #[test]
    fn single_rights_and_limits_are_kept() {
        if rustix::process::geteuid().is_root() {
            let rights = Rights { capabilities: Capabilities(1 << 12), open_files: Some(77), ..STRANGER };
            let script = "ulimit -Hn; cat /proc/self/status";
            let (status, errors) = run("/bin/sh", &["-c", script], rights);
            assert!(status.starts_with("77\n"), "{status}{errors}");
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert!(status.contains(&format!("{set}:\t0000000000001000")), "{set} in {status}");
            }
        } else {
            assert_eq!(Capabilities(1 << 12).take().unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
    }

    #[test]
    fn a_sandbox_confines_writing_to_its_folders() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
            std::os::unix::fs::chown(folder, Some(me().uid), Some(me().uid)).unwrap();
        }
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let sandbox = Sandbox::new(&[&inside], &[Path::new("/dev")]).unwrap();
        let expected =
            if sandbox.is_some() { "in: 0 0\nout: 2\nnull: 0\n" } else { "in: 0 0\nout: 0\nnull: 0\n" };
        let rights = Rights { sandbox: sandbox.as_ref().map(Sandbox::descriptor), ..me() };
        let script = "cd \"$1\"; (mkdir -p a b; echo x > a/f) 2>/dev/null; r=$?; mv a/f b/f; echo in: $r $?;\n\
            (echo x > ../out/f) 2>/dev/null; echo out: $?; (echo x > /dev/null); echo null: $?";
        let (out, errors) = run("/bin/sh", &["-c", script, "sh", &inside.to_string_lossy()], rights);
        assert_eq!(out, expected, "{errors}");
    }

    /// An account that the tests can become: another one for root, the same for everyone else.
    fn me() -> Rights {
        match rustix::process::geteuid() {
            uid if uid.is_root() => STRANGER,
            uid => Rights { uid: uid.as_raw(), ..STRANGER },
        }
    }

    #[test]
    fn memory_of_this_process_is_some() {
        assert!(resident_memory(rustix::process::getpid()).unwrap() > 100_000);
    }
}
