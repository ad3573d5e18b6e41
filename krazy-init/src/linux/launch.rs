//! Starts the main process of a service with exactly its rights, and in its own cgroup from the start.
//!
//! The child is made by clone3 with `CLONE_INTO_CGROUP` (Linux 5.7): a process that moves itself into a cgroup makes
//! the kernel wait until no other can be forking, tens of milliseconds for the first service of a boot. Source:
//! clone(2), and Linux `kernel/cgroup/cgroup.c`, `cgroup_attach_lock`.

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Pid;

use super::capabilities::Capabilities;
use super::confinement::Confinement;
use super::launched::{Launched, in_sandbox};

/// The soft and the hard limit of open descriptors of a service.
pub(super) const NOFILE: (u64, u64) = (1024, 524_288);

/// A process to start.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The file to execute; also its `argv[0]`.
    pub(crate) program: &'a Path,
    /// Arguments after the program's name.
    pub(crate) arguments: &'a [String],
    /// The whole environment.
    pub(crate) environment: &'a [(String, String)],
    /// True if a variable is to tell it its own number, as sd_watchdog_enabled(3) expects.
    pub(crate) has_watchdog: bool,
    /// Its working directory.
    pub(crate) directory: &'a Path,
    /// Its rights.
    pub(crate) rights: Rights,
    /// Supplementary groups, for another user than root.
    pub(crate) groups: &'a [u32],
    /// Its sandbox, for another user than root.
    pub(crate) confinement: Option<&'a Confinement>,
    /// The directory of its cgroup.
    pub(crate) cgroup: Option<&'a File>,
    /// Its standard output.
    pub(crate) stdout: OwnedFd,
    /// Its standard error.
    pub(crate) stderr: OwnedFd,
}

/// The rights of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// User and group; 0 keeps all rights.
    pub(crate) uid: u32,
    /// Capabilities that another user than root keeps.
    pub(crate) capabilities: Capabilities,
    /// A hard limit of open files, instead of a soft one that the process can raise.
    pub(crate) open_files: Option<u32>,
}

/// Starts a process with a new session and process group, without input, with its own account and no way to gain rights.
/// Does not wait until the program is executed: a failure to do so is the outcome of what is returned.
pub(crate) fn spawn(launch: Launch<'_>) -> io::Result<Launched> {
    let program = CString::new(launch.program.as_os_str().as_bytes())?;
    let directory = CString::new(launch.directory.as_os_str().as_bytes())?;
    let arguments = launch.arguments.iter().map(|text| CString::new(text.as_bytes()));
    let arguments: Vec<CString> =
        std::iter::once(Ok(program.clone())).chain(arguments).collect::<Result<_, _>>()?;
    let variables = launch.environment.iter().map(|(key, value)| CString::new(format!("{key}={value}")));
    let variables: Vec<CString> = variables.collect::<Result<_, _>>()?;
    let mut watchdog_pid = *WATCHDOG_PID;
    let watchdog_pid = launch.has_watchdog.then_some(watchdog_pid.as_mut_ptr());
    let (arguments, mut variables) = (pointers(&arguments), pointers(&variables));
    if let Some(text) = watchdog_pid {
        // Before the null pointer at the end.
        variables.insert(0, text.cast_const().cast());
    }
    // Both ends close on exec: an empty pipe that ends is the sign of success.
    let (outcome, writer) = io::pipe()?;
    let cgroup = launch.cgroup.map(AsRawFd::as_raw_fd);
    let (child, to_join) = match clone(cgroup) {
        Ok(child) => (child, None),
        // The limit of tasks applies to a clone into the cgroup but not to a process that moves in, and processes that
        // the service left behind may not be gone yet.
        Err(_) => (clone(None)?, cgroup),
    };
    let Some(child) = child else {
        if let Some(text) = watchdog_pid {
            // SAFETY: the array lives until the end of this function, which the child does not reach, and is written here
            // only. `getpid` is a plain system call.
            unsafe {
                write_number(&mut *text.cast::<[u8; WATCHDOG_PID.len()]>(), libc::getpid().unsigned_abs())
            };
        }
        let error = match become_service(&launch, to_join, &program, &directory, &arguments, &variables) {
            Ok(never) => match never {},
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        let bytes = error.to_ne_bytes();
        // SAFETY: plain system calls. If the write fails, the parent sees the child exit.
        unsafe {
            libc::write(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
            libc::_exit(127)
        }
    };
    // Now, not at the end of the function: this copy, or one in a later child, would keep the pipe open.
    drop(writer);
    Launched::new(child, outcome)
}

/// The variable that tells a service its number, with room for the digits and the NUL at the end.
const WATCHDOG_PID: &[u8; 24] = b"WATCHDOG_PID=\0\0\0\0\0\0\0\0\0\0\0";

/// Writes the digits of `number` behind the name of the variable, without an allocation.
fn write_number(text: &mut [u8; WATCHDOG_PID.len()], number: u32) {
    let start = b"WATCHDOG_PID=".len();
    let mut rest = number;
    let mut length = 0;
    // At most ten digits.
    for digit in (start..start + 10).rev() {
        text[digit] = b'0' + (rest % 10) as u8;
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    let first = start + 10 - length;
    text.copy_within(first..start + 10, start);
    text[start + length..].fill(0);
}

/// Returns a list for execve, terminated by a null pointer.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Forks this process, into the cgroup with this directory. Returns `None` in the child.
fn clone(cgroup: Option<RawFd>) -> io::Result<Option<Pid>> {
    /// `CLONE_INTO_CGROUP` of `linux/sched.h`, which libc lacks for musl.
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: zero is a valid value of every field.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(directory) = cgroup {
        arguments.flags = INTO_CGROUP;
        arguments.cgroup = directory as u64;
    }
    // SAFETY: without CLONE_VM it is a fork: the child has its own memory. It has only this thread, so it must not take a
    // lock that another thread may have held, such as the allocator's: it makes system calls only, until exec or exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of_val(&arguments)) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid @ 1..) => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Turns the child into the service, by system calls only.
fn become_service(
    launch: &Launch<'_>,
    to_join: Option<RawFd>,
    program: &CString,
    directory: &CString,
    arguments: &[*const c_char],
    variables: &[*const c_char],
) -> io::Result<Infallible> {
    // SAFETY: plain system calls on descriptors and on texts that outlive them.
    unsafe {
        if let Some(directory) = to_join {
            // First, while the process still has the rights of root.
            let procs = libc::openat(directory, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check(procs)?;
            // "0" is the process that writes.
            check(libc::write(procs, b"0".as_ptr().cast(), 1).try_into().unwrap_or(-1))?;
        }
    }
    // Descriptors and paths from here on are those of the service's own mounts.
    let ruleset = match launch.confinement.filter(|_| launch.rights.uid != 0) {
        Some(confinement) => confinement.separate().map_err(in_sandbox)?,
        None => None,
    };
    // SAFETY: as above.
    unsafe {
        let input = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        check(input)?;
        for (descriptor, stream) in
            [(input, 0), (launch.stdout.as_raw_fd(), 1), (launch.stderr.as_raw_fd(), 2)]
        {
            check(libc::dup2(descriptor, stream))?;
        }
        check(libc::chdir(directory.as_ptr()))?;
    }
    confine(launch.rights, launch.groups)?;
    if let Some(confinement) = launch.confinement.filter(|_| launch.rights.uid != 0) {
        // Last: from here on only calls are made that every service may make.
        confinement.seal(ruleset).map_err(in_sandbox)?;
    }
    // SAFETY: both lists end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Gives up all rights but `rights`. Runs in the child. Source: credentials(7), capabilities(7).
fn confine(rights: Rights, groups: &[u32]) -> io::Result<()> {
    let Rights { uid, capabilities, open_files } = rights;
    // SAFETY: plain system calls on integers and on a buffer that outlives them.
    unsafe {
        // A session of its own: no controlling terminal, and a process group to which the stop signal goes.
        check(libc::setsid())?;
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()))?;
        // exec resets handlers, but not ignored signals.
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
        // Groups first: only root may set them. Not by musl's wrappers: they synchronize all threads, and only this one
        // exists after a fork.
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()).try_into().unwrap_or(-1))?;
        check(libc::syscall(libc::SYS_setresgid, uid, uid, uid).try_into().unwrap_or(-1))?;
        // The change from root to another user clears the effective and ambient capabilities, and the permitted ones unless
        // `PR_SET_KEEPCAPS` is set.
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid).try_into().unwrap_or(-1))?;
        capabilities.take()?;
        // Also the condition on which an unprivileged process may restrict itself.
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    }
}

pub(super) fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::process::WaitOptions;

    use krazy_boot::manifest::sandbox::Sandbox;

    use super::super::confinement::{Confined, Support};
    use super::*;

    const OTHER_USER: Rights = Rights { uid: 12_345, capabilities: Capabilities(0), open_files: None };

    fn run(program: &str, arguments: &[&str], rights: Rights) -> (String, String) {
        run_confined(program, arguments, rights, None)
    }

    fn run_confined(
        program: &str,
        arguments: &[&str],
        rights: Rights,
        confinement: Option<&Confinement>,
    ) -> (String, String) {
        let (mut out, stdout) = io::pipe().unwrap();
        let (mut err, stderr) = io::pipe().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let environment = [("PATH".to_owned(), "/bin:/usr/bin".to_owned())];
        let launch = Launch {
            program: Path::new(program),
            arguments: &arguments,
            environment: &environment,
            has_watchdog: false,
            directory: Path::new("/"),
            rights,
            groups: &[7, 8],
            confinement,
            cgroup: None,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let pid = spawn(launch).unwrap().wait().unwrap();
        let (mut text, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut errors).unwrap();
        rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap();
        (text, errors)
    }

    #[test]
    fn service_has_its_own_session_and_a_clean_environment() {
        let script = "echo $PPID; ps -o pid=,pgid=,sid= -p $$; env; exec cat /proc/self/status >&2";
        let (out, status) = run("/bin/sh", &["-c", script], Rights::default());
        let ids: Vec<&str> = out.lines().nth(1).unwrap().split_ascii_whitespace().collect();
        assert!(ids[0] == ids[1] && ids[1] == ids[2], "{out}");
        assert!(out.contains("PATH=/bin:/usr/bin") && !out.contains("CARGO"), "{out}");
        assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    }

    #[test]
    fn variable_tells_a_process_its_number() {
        for (number, expected) in
            [(1, "WATCHDOG_PID=1"), (40, "WATCHDOG_PID=40"), (u32::MAX, "WATCHDOG_PID=4294967295")]
        {
            let mut text = *WATCHDOG_PID;
            write_number(&mut text, number);
            let text = std::ffi::CStr::from_bytes_until_nul(&text).unwrap();
            assert_eq!(text.to_str().unwrap(), expected);
        }
        let (mut out, stdout) = io::pipe().unwrap();
        let launch = Launch {
            program: Path::new("/bin/sh"),
            arguments: &["-c".to_owned(), "echo $$ $WATCHDOG_PID".to_owned()],
            environment: &[],
            has_watchdog: true,
            directory: Path::new("/"),
            rights: Rights::default(),
            confinement: None,
            groups: &[],
            cgroup: None,
            stdout: stdout.into(),
            stderr: io::pipe().unwrap().1.into(),
        };
        let pid = spawn(launch).unwrap().wait().unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap();
        let number = pid.as_raw_nonzero();
        assert_eq!(text, format!("{number} {number}\n"));
    }

    #[test]
    fn missing_program_is_an_error() {
        let launch = Launch {
            program: Path::new("/nowhere/program"),
            arguments: &[],
            environment: &[],
            has_watchdog: false,
            directory: Path::new("/"),
            rights: Rights::default(),
            groups: &[],
            confinement: None,
            cgroup: None,
            stdout: io::pipe().unwrap().1.into(),
            stderr: io::pipe().unwrap().1.into(),
        };
        assert_eq!(spawn(launch).unwrap().wait().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn another_account_has_no_rights() {
        // Only root can change to another user.
        if rustix::process::geteuid().is_root() {
            let (status, _) = run("/bin/cat", &["/proc/self/status"], OTHER_USER);
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
            assert!(confine(Rights::default(), &[]).is_ok());
        }
    }

    #[test]
    fn single_capability_and_file_limit_are_kept() {
        if rustix::process::geteuid().is_root() {
            let rights = Rights { capabilities: Capabilities(1 << 12), open_files: Some(77), ..OTHER_USER };
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
    fn sandbox_confines_writing_to_its_directories() {
        // Not in /tmp, which every service may change.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        for directory in [&inside, &outside] {
            std::fs::create_dir(directory).unwrap();
            std::os::unix::fs::chown(directory, Some(reachable_user().uid), Some(reachable_user().uid))
                .unwrap();
        }
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let sandbox = Sandbox { writes: true, ..Sandbox::NONE };
        let directories = [inside.as_path()];
        let service = confined(sandbox, &directories);
        // Not the mounts, for which the test needs more rights than it may have.
        let support = Support { mounts: false, ..Support::of_this_kernel() };
        let confinement = Confinement::new(&service, support).unwrap();
        let expected =
            if support.landlock >= 1 { "in: 0 0\nout: 2\nnull: 0\n" } else { "in: 0 0\nout: 0\nnull: 0\n" };
        let script = "cd \"$1\"; (mkdir -p a b; echo x > a/f) 2>/dev/null; r=$?; mv a/f b/f; echo in: $r $?;\n\
            (echo x > ../out/f) 2>/dev/null; echo out: $?; (echo x > /dev/null); echo null: $?";
        let arguments = ["-c", script, "sh", &inside.to_string_lossy()];
        let (out, errors) = run_confined("/bin/sh", &arguments, reachable_user(), Some(&confinement));
        assert_eq!(out, expected, "{errors}");
    }

    #[test]
    fn filter_denies_administration_and_leaves_the_rest() {
        let support = Support { mounts: false, landlock: 0, ..Support::of_this_kernel() };
        if !support.filters {
            return;
        }
        let service = confined(Sandbox::FULL, &[]);
        let confinement = Confinement::new(&service, support).unwrap();
        let script =
            "unshare -r true; echo unshare: $?; true | cat; echo pipe: $?; cat /proc/self/status >&2";
        let (out, status) = run_confined("/bin/sh", &["-c", script], reachable_user(), Some(&confinement));
        assert_eq!(out, "unshare: 1\npipe: 0\n", "{status}");
        assert!(status.contains("Seccomp:\t2") && status.contains("Operation not permitted"), "{status}");
    }

    #[test]
    fn mounts_of_a_service_are_its_own() {
        // Only root can make a namespace of mounts, and not in every container.
        // SAFETY: it affects this thread only, and fails without the right.
        let can = std::thread::spawn(|| unsafe { libc::unshare(libc::CLONE_NEWNS) == 0 }).join().unwrap();
        if !can {
            return;
        }
        let support = Support { landlock: 0, filters: false, mounts: true };
        let sandbox = Sandbox { private_tmp: true, hidden_processes: true, ..Sandbox::NONE };
        let confinement = Confinement::new(&confined(sandbox, &[]), support).unwrap();
        let script = "ls -A /tmp /dev/shm; cat /proc/1/comm 2>/dev/null; echo seen: $?; echo x > /tmp/x; cat /tmp/x; pwd";
        let (out, errors) = run_confined("/bin/sh", &["-c", script], OTHER_USER, Some(&confinement));
        assert_eq!(out, "/dev/shm:\n\n/tmp:\nseen: 1\nx\n/\n", "{errors}");
    }

    fn confined<'a>(sandbox: Sandbox, directories: &'a [&'a Path]) -> Confined<'a> {
        Confined {
            sandbox,
            capabilities: Capabilities(0),
            directories,
            devices: Path::new("/dev"),
            writes_sysfs: false,
        }
    }

    /// Returns an account that the test can change to: another one for root, else its own.
    fn reachable_user() -> Rights {
        match rustix::process::geteuid() {
            uid if uid.is_root() => OTHER_USER,
            uid => Rights { uid: uid.as_raw(), ..OTHER_USER },
        }
    }
}
