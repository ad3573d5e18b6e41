//! The strictest restrictions there are here, for a process that parses what comes from a network, and hands the result
//! to another process over a descriptor that it was given. It has an account without files, capabilities or new rights,
//! an empty root, and the system calls for the descriptors that it has; see [`Seal::apply`].

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::linux::capabilities::Capabilities;
use crate::linux::landlock;
use crate::linux::seccomp::sealed;

/// The restrictions of a process.
#[derive(Clone, Debug)]
pub struct Seal<'a> {
    /// The number of its account and its only group. Only a process of root can change to it.
    pub account: u32,
    /// An empty directory that becomes its root, likewise.
    pub root: Option<&'a Path>,
    /// The descriptors that it keeps besides standard input and output.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// The most open descriptors.
    pub open_files: u32,
    /// The most threads of its account.
    pub threads: u32,
    /// True if it may open sockets for UDP, and ask for the interfaces of the machine.
    pub datagrams: bool,
}

/// A restriction that is not in effect.
#[derive(Debug, PartialEq, Eq)]
pub struct Shortfall {
    what: &'static str,
    why: String,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)
    }
}

impl Seal<'_> {
    /// Restricts the calling process irrevocably, and ends it when its parent ends. It must have one thread only. Returns
    /// what could not be done: a process that is not root keeps its account, and kernels differ.
    pub fn apply(&self) -> Vec<Shortfall> {
        let mut shortfalls = Vec::new();
        let mut apply = |what, outcome: io::Result<()>| {
            if let Err(error) = outcome {
                shortfalls.push(Shortfall { what, why: error.to_string() });
            }
        };
        apply("its descriptors are not closed", self.close_others());
        apply("its limits are not set", self.limit());
        // SAFETY: a system call without arguments.
        if unsafe { libc::geteuid() } == 0 {
            apply("its root is not empty", self.enter_root());
            apply("it has the account root", self.enter_account());
        } else {
            apply(
                "it has the account that it was started with",
                Err(io::Error::other("not started as root")),
            );
        }
        // After the change of the account, which would undo some of it. The parent may have ended already: then the
        // descriptor that leads to it has, too.
        let settings = [
            (libc::PR_SET_NO_NEW_PRIVS, 1),
            (libc::PR_SET_DUMPABLE, 0),
            (libc::PR_SET_PDEATHSIG, libc::SIGKILL),
        ];
        for (option, value) in settings {
            // SAFETY: prctl on integers.
            let result = unsafe { libc::prctl(option, libc::c_long::from(value), 0, 0, 0) };
            apply("it can gain rights, be traced, or outlive its parent", check(result.into()));
        }
        apply(
            "files and other processes are in its reach",
            match landlock::version() {
                version @ 1.. => landlock::deny_everything(version),
                _ => Err(io::Error::other("this kernel has no Landlock")),
            },
        );
        apply("it may make every system call", sealed::enter(self.datagrams));
        shortfalls
    }

    fn close_others(&self) -> io::Result<()> {
        let mut kept: Vec<u32> = self.descriptors.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
        kept.sort_unstable();
        let mut first = 3;
        for last in kept.into_iter().chain([u32::MAX]) {
            if first < last {
                // SAFETY: nothing else in this process uses these descriptors: it has just been executed.
                check(unsafe { libc::syscall(libc::SYS_close_range, first, last - 1, 0) })?;
            }
            first = last.saturating_add(1);
        }
        Ok(())
    }

    fn limit(&self) -> io::Result<()> {
        let files = u64::from(self.open_files);
        let mut limits = vec![(libc::RLIMIT_NOFILE, files), (libc::RLIMIT_CORE, 0)];
        // SAFETY: the structure is filled by the kernel; zero is a valid value of every field.
        let (is_root, mut stderr) = unsafe { (libc::geteuid() == 0, std::mem::zeroed::<libc::stat>()) };
        if is_root {
            // The limit counts the threads of all processes of an account.
            limits.push((libc::RLIMIT_NPROC, self.threads.into()));
        }
        // SAFETY: as above. A log in a file, as of somebody who tries the program, must be written.
        if unsafe { libc::fstat(2, &mut stderr) } != 0 || stderr.st_mode & libc::S_IFMT != libc::S_IFREG {
            limits.push((libc::RLIMIT_FSIZE, 0));
        }
        for (resource, value) in limits {
            let limit = libc::rlimit { rlim_cur: value as libc::rlim_t, rlim_max: value as libc::rlim_t };
            // SAFETY: the kernel reads the structure.
            check(unsafe { libc::setrlimit(resource, &limit) }.into())?;
        }
        Ok(())
    }

    fn enter_root(&self) -> io::Result<()> {
        let path = self.root.ok_or_else(|| io::Error::other("there is no empty directory"))?;
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the paths end with NUL.
        unsafe {
            check(libc::chroot(path.as_ptr()).into())?;
            check(libc::chdir(c"/".as_ptr()).into())
        }
    }

    /// Gives up capabilities whatever becomes of the account: a user namespace need not have that number.
    fn enter_account(&self) -> io::Result<()> {
        Capabilities::default().keep()?;
        let account = self.account;
        // SAFETY: system calls on integers; of the list of groups nothing is read.
        let changed = unsafe {
            check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))
                .and_then(|()| check(libc::syscall(libc::SYS_setresgid, account, account, account)))
                .and_then(|()| check(libc::syscall(libc::SYS_setresuid, account, account, account)))
        };
        Capabilities::default().set()?;
        changed
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
