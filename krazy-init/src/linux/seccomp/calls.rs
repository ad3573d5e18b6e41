//! The system calls of ordinary programs, and those that administer a machine.
//!
//! The groups are those of systemd.exec(5), `SystemCallFilter=`: allowed is about what `@system-service` lists, without
//! keyrings, `userfaultfd`, `personality` and io_uring; denied by name are the calls of `@clock`, `@cpu-emulation`, `@debug`,
//! `@keyring`, `@module`, `@mount`, `@privileged`, `@raw-io`, `@reboot` and `@swap` that need more than an account.
//! Numbers are those of the processor that init was compiled for.

use krazy_boot::manifest::capability;

/// A call that is denied by name. Small, because every byte of init stays in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denied {
    /// Its name.
    pub(super) name: &'static str,
    /// Its number.
    pub(super) number: u16,
    /// The number of the capability with which it is allowed, because it is of no use without.
    capability: u8,
}

/// No capability allows a call.
const NO_CAPABILITY: u8 = u8::MAX;
const SYS_PACCT: u8 = 20;
const SYS_TIME: u8 = 25;
const BPF: u8 = 39;
const SYS_CHROOT: u8 = 18;
const SYS_MODULE: u8 = 16;
const SYS_ADMIN: u8 = 21;
const SYS_BOOT: u8 = 22;
const DAC_READ_SEARCH: u8 = 2;
const PERFMON: u8 = 38;
const SYS_PTRACE: u8 = 19;
const SYSLOG: u8 = 34;
const SYS_TTY_CONFIG: u8 = 26;
const SYS_RAWIO: u8 = 17;

impl Denied {
    /// The name of the capability with which it is allowed.
    pub(super) fn capability(self) -> Option<&'static str> {
        capability::CAPABILITIES.get(usize::from(self.capability)).copied()
    }

    /// Returns true if a service with these capabilities may use it.
    pub(super) fn is_allowed_with(self, capabilities: u64) -> bool {
        self.capability < 64 && capabilities >> self.capability & 1 == 1
    }
}

/// The numbers of calls by their constants in the crate libc.
macro_rules! numbers {
    ($($constant:ident)*) => { &[$(libc::$constant as u16),*] };
}

/// Calls that are denied, each with the capability that allows it.
macro_rules! denied {
    ($($name:literal $constant:ident $capability:ident;)*) => {
        &[$(Denied { name: $name, number: libc::$constant as u16, capability: $capability }),*]
    };
}

/// Calls of ordinary programs.
#[rustfmt::skip]
pub(super) const ALLOWED: &[u16] = numbers![
    // Files and directories.
    SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_read SYS_write SYS_readv SYS_writev SYS_pread64
    SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2 SYS_lseek SYS_fstat SYS_newfstatat SYS_statx
    SYS_statfs SYS_fstatfs SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_fcntl SYS_flock SYS_ioctl SYS_dup
    SYS_dup3 SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_mkdirat SYS_mknodat SYS_unlinkat SYS_renameat2
    SYS_linkat SYS_symlinkat SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_umask SYS_utimensat SYS_truncate
    SYS_ftruncate SYS_fallocate SYS_fadvise64 SYS_readahead SYS_copy_file_range SYS_sendfile SYS_splice SYS_tee
    SYS_vmsplice SYS_sync SYS_fsync SYS_fdatasync SYS_syncfs SYS_sync_file_range SYS_setxattr SYS_lsetxattr
    SYS_fsetxattr SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr
    SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_name_to_handle_at SYS_inotify_init1 SYS_inotify_add_watch
    SYS_inotify_rm_watch SYS_pipe2 SYS_memfd_create SYS_memfd_secret SYS_renameat
    // Events and time.
    SYS_ppoll SYS_pselect6 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2
    SYS_signalfd4 SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime SYS_timer_create SYS_timer_settime
    SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete SYS_getitimer SYS_setitimer SYS_nanosleep
    SYS_clock_nanosleep SYS_clock_gettime SYS_clock_getres SYS_gettimeofday SYS_times
    // Asynchronous input and output.
    SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents
    // Memory.
    SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_msync SYS_mincore SYS_madvise SYS_process_madvise
    SYS_mlock SYS_mlock2 SYS_munlock SYS_mlockall SYS_munlockall SYS_remap_file_pages SYS_pkey_mprotect
    SYS_pkey_alloc SYS_pkey_free SYS_membarrier SYS_mseal SYS_mbind SYS_set_mempolicy SYS_get_mempolicy
    SYS_set_mempolicy_home_node SYS_migrate_pages SYS_move_pages
    // Sockets.
    SYS_socket SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_shutdown SYS_getsockname
    SYS_getpeername SYS_getsockopt SYS_setsockopt SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg
    SYS_recvmmsg
    // Messages between processes.
    SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_semget SYS_semop SYS_semtimedop SYS_semctl SYS_msgget SYS_msgsnd
    SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify
    SYS_mq_getsetattr SYS_process_vm_readv SYS_process_vm_writev SYS_kcmp
    // Processes and threads.
    SYS_clone SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_getpid SYS_getppid SYS_gettid
    SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_set_tid_address SYS_set_robust_list SYS_get_robust_list
    SYS_futex SYS_futex_waitv SYS_rseq SYS_prctl SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule
    SYS_landlock_restrict_self SYS_pidfd_open SYS_pidfd_send_signal SYS_process_mrelease SYS_uname SYS_sysinfo
    SYS_getcpu SYS_getrandom SYS_restart_syscall SYS_unshare SYS_setns
    // Signals.
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigqueueinfo
    SYS_rt_tgsigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_kill SYS_tkill SYS_tgkill
    // Resources.
    SYS_getrlimit SYS_setrlimit SYS_prlimit64 SYS_getrusage SYS_getpriority SYS_setpriority SYS_ioprio_get
    SYS_ioprio_set SYS_sched_yield SYS_sched_setparam SYS_sched_getparam SYS_sched_setscheduler
    SYS_sched_getscheduler SYS_sched_setattr SYS_sched_getattr SYS_sched_get_priority_max SYS_sched_get_priority_min
    SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_getaffinity
    // Accounts; the kernel refuses what an account may not do.
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid
    SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid SYS_setfsgid SYS_setgroups SYS_capget
    SYS_capset
];

/// Older forms of them, which newer processors do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) const ALLOWED_HERE: &[u16] = numbers![
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_readlink SYS_mkdir SYS_rmdir SYS_mknod SYS_unlink
    SYS_rename SYS_link SYS_symlink SYS_chmod SYS_chown SYS_lchown SYS_getdents SYS_pipe SYS_dup2 SYS_poll
    SYS_select SYS_epoll_create SYS_epoll_wait SYS_inotify_init SYS_eventfd SYS_signalfd SYS_utime SYS_utimes
    SYS_futimesat SYS_alarm SYS_pause SYS_time SYS_fork SYS_vfork SYS_getpgrp SYS_arch_prctl SYS_get_thread_area
    SYS_set_thread_area SYS_fchmodat2
];

/// Calls that only this processor has.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const ALLOWED_HERE: &[u16] = &[];

/// Calls of administration.
#[rustfmt::skip]
pub(super) const DENIED: &[Denied] = denied![
    "acct" SYS_acct SYS_PACCT;
    "add_key" SYS_add_key NO_CAPABILITY;
    "adjtimex" SYS_adjtimex SYS_TIME;
    "bpf" SYS_bpf BPF;
    "chroot" SYS_chroot SYS_CHROOT;
    "clock_adjtime" SYS_clock_adjtime SYS_TIME;
    "clock_settime" SYS_clock_settime SYS_TIME;
    "delete_module" SYS_delete_module SYS_MODULE;
    "fanotify_init" SYS_fanotify_init SYS_ADMIN;
    "fanotify_mark" SYS_fanotify_mark SYS_ADMIN;
    "finit_module" SYS_finit_module SYS_MODULE;
    "fsconfig" SYS_fsconfig SYS_ADMIN;
    "fsmount" SYS_fsmount SYS_ADMIN;
    "fsopen" SYS_fsopen SYS_ADMIN;
    "fspick" SYS_fspick SYS_ADMIN;
    "init_module" SYS_init_module SYS_MODULE;
    "io_uring_enter" SYS_io_uring_enter NO_CAPABILITY;
    "io_uring_register" SYS_io_uring_register NO_CAPABILITY;
    "io_uring_setup" SYS_io_uring_setup NO_CAPABILITY;
    "kexec_load" SYS_kexec_load SYS_BOOT;
    "keyctl" SYS_keyctl NO_CAPABILITY;
    "lookup_dcookie" SYS_lookup_dcookie SYS_ADMIN;
    "mount" SYS_mount SYS_ADMIN;
    "mount_setattr" SYS_mount_setattr SYS_ADMIN;
    "move_mount" SYS_move_mount SYS_ADMIN;
    "open_by_handle_at" SYS_open_by_handle_at DAC_READ_SEARCH;
    "open_tree" SYS_open_tree SYS_ADMIN;
    "perf_event_open" SYS_perf_event_open PERFMON;
    "pidfd_getfd" SYS_pidfd_getfd SYS_PTRACE;
    "pivot_root" SYS_pivot_root SYS_ADMIN;
    "ptrace" SYS_ptrace SYS_PTRACE;
    "quotactl" SYS_quotactl SYS_ADMIN;
    "quotactl_fd" SYS_quotactl_fd SYS_ADMIN;
    "reboot" SYS_reboot SYS_BOOT;
    "request_key" SYS_request_key NO_CAPABILITY;
    "setdomainname" SYS_setdomainname SYS_ADMIN;
    "sethostname" SYS_sethostname SYS_ADMIN;
    "settimeofday" SYS_settimeofday SYS_TIME;
    "swapoff" SYS_swapoff SYS_ADMIN;
    "swapon" SYS_swapon SYS_ADMIN;
    "syslog" SYS_syslog SYSLOG;
    "umount2" SYS_umount2 SYS_ADMIN;
    "userfaultfd" SYS_userfaultfd NO_CAPABILITY;
    "vhangup" SYS_vhangup SYS_TTY_CONFIG;
];

/// Those of this processor.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) const DENIED_HERE: &[Denied] = denied![
    "ioperm" SYS_ioperm SYS_RAWIO;
    "iopl" SYS_iopl SYS_RAWIO;
    "kexec_file_load" SYS_kexec_file_load SYS_BOOT;
    "modify_ldt" SYS_modify_ldt NO_CAPABILITY;
];

/// Those of this processor.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const DENIED_HERE: &[Denied] = &[];

/// Calls beyond the constants of the crate libc, whose numbers are the same on all processors: `cachestat`, `fchmodat2`,
/// `map_shadow_stack`, `futex_wake`, `futex_wait`, `futex_requeue`, `setxattrat` to `removexattrat`.
/// Source: Linux `scripts/syscall.tbl`.
pub(super) const ALLOWED_LATER: &[u16] = &[451, 452, 453, 454, 455, 456, 463, 464, 465, 466];

/// `io_pgetevents`, which the crate libc lacks for glibc.
const IO_PGETEVENTS: u16 = if cfg!(target_arch = "x86_64") { 333 } else { 292 };

/// All calls that are denied.
pub(super) fn denied() -> impl Iterator<Item = Denied> {
    DENIED.iter().chain(DENIED_HERE).copied()
}

/// All calls that are allowed.
pub(super) fn allowed() -> impl Iterator<Item = u16> {
    ALLOWED.iter().chain(ALLOWED_HERE).chain(ALLOWED_LATER).chain([&IO_PGETEVENTS]).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_denied() {
        for call in denied() {
            assert!(!allowed().any(|number| number == call.number), "{}", call.name);
        }
        for special in [libc::SYS_clone3, libc::SYS_personality] {
            assert!(!allowed().any(|number| i64::from(number) == special));
        }
    }

    #[test]
    fn calls_are_allowed_with_their_capabilities() {
        let capability = |name: &str| denied().find(|call| call.name == name).and_then(Denied::capability);
        for (call, name) in [
            ("acct", "sys-pacct"),
            ("bpf", "bpf"),
            ("chroot", "sys-chroot"),
            ("clock_settime", "sys-time"),
            ("init_module", "sys-module"),
            ("mount", "sys-admin"),
            ("open_by_handle_at", "dac-read-search"),
            ("perf_event_open", "perfmon"),
            ("ptrace", "sys-ptrace"),
            ("reboot", "sys-boot"),
            ("syslog", "syslog"),
            ("vhangup", "sys-tty-config"),
        ] {
            assert_eq!(capability(call), Some(name));
        }
        assert_eq!(capability("keyctl"), None);
        for call in denied() {
            assert_eq!(call.is_allowed_with(u64::MAX), call.capability().is_some(), "{}", call.name);
            assert!(!call.is_allowed_with(0));
        }
    }
}
