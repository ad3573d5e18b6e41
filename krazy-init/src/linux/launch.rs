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
mod tests;
