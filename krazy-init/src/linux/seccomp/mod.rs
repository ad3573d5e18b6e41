//! Filters of system calls for services. Source: seccomp(2).
//!
//! Services have two filters, because the kernel logs by filter and not by call: one that gives calls unknown to it ENOSYS, silently, so
//! that C libraries fall back to older calls; and one that denies calls of administration by name and has the kernel
//! log each denial, from where [`denials`] reads it.
//!
//! The crate seccompiler 0.5 has one verdict for a filter and five instructions for a number, 1,740 for these calls; the
//! kernel checks, translates and tries them at every start of a service. These have three for a range of numbers.

mod assembler;
mod calls;
pub(crate) mod denials;
pub(crate) mod sealed;

use std::io;

use krazy_boot::manifest::sandbox::Sandbox;
use libc::{c_long, sock_filter, sock_fprog};

use super::capabilities::Capabilities;
use assembler::{Program, Verdict};

const SET_MODE_FILTER: libc::c_uint = 1;
/// `SECCOMP_FILTER_FLAG_LOG` (Linux 4.14).
const FLAG_LOG: libc::c_ulong = 1 << 1;

/// All flags of clone(2) that make a namespace. `CLONE_NEWTIME` is a signal's number there, and a flag of unshare(2) only.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();
const TIME_NAMESPACE: u32 = 0x80;

/// Families of sockets that a service can create: Unix, IPv4, IPv6, netlink, packets (for which it needs `net-raw`).
const FAMILIES: [u32; 5] = [1, 2, 10, 16, 17];

/// The execution domains that a service can have: the one it has, and the question for it.
const PERSONALITIES: [u32; 2] = [0, u32::MAX];

/// The filters of a service, for the kernel.
#[derive(Debug)]
pub(crate) struct Filters {
    silent: Vec<sock_filter>,
    logged: Vec<sock_filter>,
}

impl Filters {
    /// The filters of a service with these restrictions and capabilities; `None` if nothing is restricted.
    pub(crate) fn new(sandbox: Sandbox, capabilities: Capabilities) -> Option<Self> {
        if !sandbox.filters_calls() {
            return None;
        }
        let missing = Verdict::Errno(libc::ENOSYS);
        let denied = Verdict::Errno(libc::EPERM);
        let mut silent = Program::new(missing);
        if sandbox.namespaces {
            // Its flags are in memory, which a filter cannot read; libraries fall back to clone.
            silent.calls([unsigned(libc::SYS_clone3)], missing);
        }
        let silent = if sandbox.system_calls {
            let special = [libc::SYS_clone3, libc::SYS_personality].map(unsigned);
            let known = calls::allowed().chain(calls::denied().map(|call| call.number)).map(u32::from);
            silent.calls(known.chain(special), Verdict::Allow);
            silent.finish(missing)
        } else {
            silent.finish(Verdict::Allow)
        };
        // Calls in another numbering have failed by the silent filter.
        let mut logged = Program::new(Verdict::Allow);
        if sandbox.system_calls {
            let administration = calls::denied().filter(|call| !call.is_allowed_with(capabilities.0));
            logged.calls(administration.map(|call| call.number.into()), denied);
            logged.call_unless(unsigned(libc::SYS_personality), &PERSONALITIES, denied);
        }
        if sandbox.namespaces {
            logged.calls([unsigned(libc::SYS_setns)], denied);
            logged.call_with_bits(unsigned(libc::SYS_clone), NAMESPACES, denied);
            logged.call_with_bits(unsigned(libc::SYS_unshare), NAMESPACES | TIME_NAMESPACE, denied);
        }
        if sandbox.socket_families {
            let unknown = Verdict::Errno(libc::EAFNOSUPPORT);
            logged.call_unless(unsigned(libc::SYS_socket), &FAMILIES, unknown);
        }
        Some(Filters { silent, logged: logged.finish(Verdict::Allow) })
    }

    /// Restricts the calling process irrevocably, by system calls only. It must have set `PR_SET_NO_NEW_PRIVS` before.
    pub(crate) fn install(&self) -> io::Result<()> {
        // Of two filters that let a call fail, the last one decides.
        install(&self.silent, 0)?;
        install(&self.logged, FLAG_LOG)
    }
}

fn install(filter: &[sock_filter], flags: libc::c_ulong) -> io::Result<()> {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, whose instructions outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &program) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns true if the kernel can filter system calls and log the denied ones.
pub(crate) fn is_supported() -> bool {
    // With a program at null the kernel fails with EFAULT only if it knows operation and flag. Source: seccomp(2).
    // SAFETY: the kernel reads no memory of this process.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, FLAG_LOG, std::ptr::null::<sock_fprog>())
    };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Numbers of calls are small and not negative.
fn unsigned(number: c_long) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::assembler::tests::{HERE, run};
    use super::*;

    const ALLOWED: u32 = 0x7fff_0000;

    /// Returns the number of the error that a call gets, as the kernel combines two filters; 0 if it is made.
    fn error(sandbox: Sandbox, capabilities: u64, number: c_long, argument: u32) -> i32 {
        let Some(filters) = Filters::new(sandbox, Capabilities(capabilities)) else { return 0 };
        let number = unsigned(number);
        let verdicts = [&filters.logged, &filters.silent].map(|filter| run(filter, HERE, number, argument));
        let refused = verdicts.into_iter().find(|verdict| *verdict != ALLOWED);
        refused.map_or(0, |verdict| (verdict & 0xffff) as i32)
    }

    #[test]
    fn ordinary_calls_pass_and_administration_is_denied() {
        for number in [libc::SYS_openat, libc::SYS_mmap, libc::SYS_futex, libc::SYS_execve, libc::SYS_mseal] {
            assert_eq!(error(Sandbox::FULL, 0, number, 0), 0, "{number}");
        }
        for call in calls::denied() {
            assert_eq!(error(Sandbox::FULL, 0, call.number.into(), 0), libc::EPERM, "{}", call.name);
        }
        // Newer than these tables.
        for number in [libc::SYS_clone3, 500, 4000, 0x4000_0000] {
            assert_eq!(error(Sandbox::FULL, 0, number, 0), libc::ENOSYS, "{number}");
        }
    }

    #[test]
    fn capability_allows_its_calls_and_no_others() {
        const SYS_TIME: u64 = 1 << 25;
        assert_eq!(error(Sandbox::FULL, SYS_TIME, libc::SYS_clock_settime, 0), 0);
        assert_eq!(error(Sandbox::FULL, SYS_TIME, libc::SYS_mount, 0), libc::EPERM);
    }

    #[test]
    fn arguments_decide_about_namespaces_families_and_personalities() {
        let check = |number, argument| error(Sandbox::FULL, 0, number, argument);
        // As pthread_create and fork call it.
        assert_eq!(check(libc::SYS_clone, 0x7d_0f00), 0);
        assert_eq!(check(libc::SYS_clone, 17), 0);
        assert_eq!(check(libc::SYS_clone, 0x1000_0011), libc::EPERM);
        assert_eq!(check(libc::SYS_unshare, 0x400), 0);
        assert_eq!(check(libc::SYS_unshare, 0x1000_0000), libc::EPERM);
        assert_eq!(check(libc::SYS_setns, 3), libc::EPERM);
        assert_eq!(check(libc::SYS_socket, 2), 0);
        assert_eq!(check(libc::SYS_socket, 38), libc::EAFNOSUPPORT);
        assert_eq!(check(libc::SYS_personality, u32::MAX), 0);
        assert_eq!(check(libc::SYS_personality, 0x4_0000), libc::EPERM);
    }

    #[test]
    fn lifted_restriction_leaves_the_others() {
        let sandbox = Sandbox { system_calls: false, ..Sandbox::FULL };
        assert_eq!(error(sandbox, 0, libc::SYS_mount, 0), 0);
        assert_eq!(error(sandbox, 0, 500, 0), 0);
        assert_eq!(error(sandbox, 0, libc::SYS_clone3, 0), libc::ENOSYS);
        assert_eq!(error(sandbox, 0, libc::SYS_unshare, 0x1000_0000), libc::EPERM);
        let sandbox = Sandbox { namespaces: false, ..Sandbox::FULL };
        assert_eq!(error(sandbox, 0, libc::SYS_clone3, 0), 0);
        assert_eq!(error(sandbox, 0, libc::SYS_unshare, 0x1000_0000), 0);
        let sandbox = Sandbox { socket_families: false, ..Sandbox::FULL };
        assert_eq!(error(sandbox, 0, libc::SYS_socket, 38), 0);
        assert!(Filters::new(Sandbox::NONE, Capabilities(0)).is_none());
    }

    #[test]
    fn filters_are_short() {
        let filters = Filters::new(Sandbox::FULL, Capabilities(0)).unwrap();
        assert!(
            filters.silent.len() < 120 && filters.logged.len() < 160,
            "{} {}",
            filters.silent.len(),
            filters.logged.len()
        );
    }
}
