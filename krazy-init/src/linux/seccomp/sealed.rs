//! The filter of a process that serves a network with the descriptors it has: everything else is denied.
//!
//! A denied call fails with EPERM, which programs and C libraries take for an ordinary failure. To kill the process would
//! let a C library that makes one harmless call more, in an update of it, end a service for good; and a process that was
//! taken over gains nothing from a call that fails. Only clone3 fails with ENOSYS, so that C libraries use clone, whose
//! flags a filter can see.

use libc::{c_int, c_long, sock_filter};

use super::assembler::{Condition, Program, Verdict};
use super::{NAMESPACES, install, unsigned};

/// Calls that are allowed whatever their arguments are.
#[rustfmt::skip]
const CALLS: &[c_long] = &[
    // Descriptors that it has.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_close, libc::SYS_recvfrom,
    libc::SYS_sendto, libc::SYS_recvmsg, libc::SYS_sendmsg, libc::SYS_accept4, libc::SYS_shutdown,
    libc::SYS_getsockopt, libc::SYS_getsockname, libc::SYS_getpeername,
    // Events and time.
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_ppoll, libc::SYS_eventfd2,
    libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_gettimeofday,
    // Memory.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_brk, libc::SYS_madvise,
    // Its threads and signals, and its end.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_gettid, libc::SYS_getpid,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn, libc::SYS_sigaltstack, libc::SYS_restart_syscall, libc::SYS_getrandom,
    libc::SYS_exit, libc::SYS_exit_group,
];

/// Older forms of them.
#[cfg(target_arch = "x86_64")]
const CALLS_HERE: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll];
/// Calls that only this processor has.
#[cfg(not(target_arch = "x86_64"))]
const CALLS_HERE: &[c_long] = &[];

/// The bits of a socket's type besides its flags. Source: Linux `include/linux/net.h`, `SOCK_TYPE_MASK`.
const SOCKET_TYPE: u32 = 0xf;

/// Requests by `ioctl`: to make a descriptor not block, and the number of an interface. Source: Linux
/// `include/uapi/asm-generic/ioctls.h`, `include/uapi/linux/sockios.h`.
const FIONBIO: u32 = 0x5421;
const SIOCGIFINDEX: u32 = 0x8933;

/// Returns the filter. With `datagrams` the process may open sockets for UDP, and ask for the interfaces of the machine.
fn filter(datagrams: bool) -> Vec<sock_filter> {
    let denied = Verdict::Errno(libc::EPERM);
    let mut program = Program::new(denied);
    program.calls(CALLS.iter().chain(CALLS_HERE).map(|number| unsigned(*number)), Verdict::Allow);
    program.calls([unsigned(libc::SYS_clone3)], Verdict::Errno(libc::ENOSYS));
    let mut call_if = |number, alternatives: &[&[Condition]]| {
        program.call_if(unsigned(number), alternatives, denied);
    };
    let is = |argument, value: c_int| Condition::is(argument, value.cast_unsigned());
    let kind = |value: c_int| Condition { argument: 1, mask: SOCKET_TYPE, value: value.cast_unsigned() };
    // Threads, and no processes.
    let threads = libc::CLONE_THREAD.cast_unsigned();
    call_if(libc::SYS_clone, &[&[Condition { argument: 0, mask: threads | NAMESPACES, value: threads }]]);
    // No code but that of the program.
    let no_code = Condition { argument: 2, mask: libc::PROT_EXEC.cast_unsigned(), value: 0 };
    call_if(libc::SYS_mmap, &[&[no_code]]);
    call_if(libc::SYS_mprotect, &[&[no_code]]);
    call_if(libc::SYS_socketpair, &[&[is(0, libc::AF_UNIX)]]);
    let control = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC]
        .map(|command| [is(1, command)]);
    call_if(libc::SYS_fcntl, &control.each_ref().map(|conditions| &conditions[..]));
    // Not SO_LINGER: a descriptor with it, passed on, would block whoever closes it.
    let option = |option: c_int| [is(1, libc::SOL_SOCKET), is(2, option)];
    let options = [option(libc::SO_REUSEADDR), option(libc::SO_REUSEPORT)];
    let protocols = [libc::IPPROTO_TCP, libc::IPPROTO_IP, libc::IPPROTO_IPV6].map(|level| [is(1, level)]);
    let settable: Vec<&[Condition]> =
        options.iter().map(|option| &option[..]).chain(protocols.iter().map(|level| &level[..])).collect();
    call_if(libc::SYS_setsockopt, &settable);
    call_if(libc::SYS_prctl, &[&[is(0, libc::PR_SET_NAME)]]);
    let mut requests = vec![[Condition::is(1, FIONBIO)]];
    if datagrams {
        // Names of interfaces become numbers by requests to any socket.
        requests.push([Condition::is(1, SIOCGIFINDEX)]);
        call_if(
            libc::SYS_socket,
            &[
                &[is(0, libc::AF_INET), kind(libc::SOCK_DGRAM)],
                &[is(0, libc::AF_INET6), kind(libc::SOCK_DGRAM)],
                &[is(0, libc::AF_UNIX), kind(libc::SOCK_DGRAM)],
                &[is(0, libc::AF_NETLINK), kind(libc::SOCK_RAW), is(2, libc::NETLINK_ROUTE)],
            ],
        );
        call_if(libc::SYS_bind, &[&[]]);
    }
    let requests: Vec<&[Condition]> = requests.iter().map(|request| &request[..]).collect();
    call_if(libc::SYS_ioctl, &requests);
    program.finish(denied)
}

/// Restricts the calling process irrevocably. It must have set `PR_SET_NO_NEW_PRIVS` before.
pub(crate) fn enter(datagrams: bool) -> std::io::Result<()> {
    install(&filter(datagrams), 0)
}

#[cfg(test)]
mod tests {
    use super::super::assembler::tests::{HERE, run_with};
    use super::*;

    /// Returns the number of the error that a call gets; 0 if it is made.
    fn error(datagrams: bool, number: c_long, arguments: &[i32]) -> i32 {
        let arguments: Vec<u32> = arguments.iter().map(|argument| argument.cast_unsigned()).collect();
        match run_with(&filter(datagrams), HERE, unsigned(number), &arguments) {
            0x7fff_0000 => 0,
            verdict => (verdict & 0xffff) as i32,
        }
    }

    #[test]
    fn calls_on_its_descriptors_pass_and_others_are_denied() {
        for number in [libc::SYS_read, libc::SYS_accept4, libc::SYS_epoll_pwait, libc::SYS_exit_group] {
            assert_eq!(error(false, number, &[]), 0, "{number}");
        }
        for number in [
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_connect,
            libc::SYS_listen,
            libc::SYS_kill,
            libc::SYS_tgkill,
            libc::SYS_ptrace,
            libc::SYS_setuid,
            libc::SYS_io_uring_setup,
            500,
            0x4000_0001,
        ] {
            assert_eq!(error(true, number, &[]), libc::EPERM, "{number}");
        }
        assert_eq!(error(true, libc::SYS_clone3, &[]), libc::ENOSYS);
    }

    #[test]
    fn arguments_decide_about_threads_code_and_sockets() {
        // As pthread_create and fork call it.
        assert_eq!(error(false, libc::SYS_clone, &[0x7d_0f00]), 0);
        assert_eq!(error(false, libc::SYS_clone, &[17]), libc::EPERM);
        assert_eq!(error(false, libc::SYS_clone, &[0x1001_0000]), libc::EPERM);
        assert_eq!(error(false, libc::SYS_mmap, &[0, 4096, libc::PROT_READ | libc::PROT_WRITE]), 0);
        assert_eq!(error(false, libc::SYS_mmap, &[0, 4096, libc::PROT_EXEC]), libc::EPERM);
        assert_eq!(error(false, libc::SYS_mprotect, &[0, 4096, libc::PROT_EXEC]), libc::EPERM);
        let datagram = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for (arguments, expected) in [
            ([libc::AF_INET, datagram, 17], 0),
            ([libc::AF_INET6, datagram, 17], 0),
            ([libc::AF_INET, libc::SOCK_STREAM, 0], libc::EPERM),
            ([libc::AF_INET, libc::SOCK_RAW, 1], libc::EPERM),
            ([libc::AF_UNIX, libc::SOCK_STREAM, 0], libc::EPERM),
            ([libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE], 0),
            ([libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT], libc::EPERM),
            ([libc::AF_PACKET, libc::SOCK_DGRAM, 0], libc::EPERM),
        ] {
            assert_eq!(error(true, libc::SYS_socket, &arguments), expected, "{arguments:?}");
            assert_eq!(error(false, libc::SYS_socket, &arguments), libc::EPERM, "{arguments:?}");
        }
        assert_eq!((error(true, libc::SYS_bind, &[]), error(false, libc::SYS_bind, &[])), (0, libc::EPERM));
        assert_eq!(error(true, libc::SYS_prctl, &[libc::PR_SET_NAME]), 0);
        let set = |level, option| error(true, libc::SYS_setsockopt, &[9, level, option]);
        assert_eq!(set(libc::IPPROTO_TCP, libc::TCP_NODELAY), 0);
        assert_eq!(set(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP), 0);
        assert_eq!(set(libc::SOL_SOCKET, libc::SO_REUSEADDR), 0);
        assert_eq!(set(libc::SOL_SOCKET, libc::SO_LINGER), libc::EPERM);
        assert_eq!(error(true, libc::SYS_prctl, &[libc::PR_SET_DUMPABLE]), libc::EPERM);
        assert_eq!(error(true, libc::SYS_fcntl, &[3, libc::F_SETOWN]), libc::EPERM);
    }
}
