//! A service with the default settings that somebody has taken over: it tries to break out, and prints what refused it, as
//! a table of `tried | refused by | error`, and a case for each line. What an ordinary program needs is tried too.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use libc::{c_int, c_long};

use crate::await_word;
use crate::judge::{Verdict, case, ensure};
use crate::rights::{eventually, finish, told};

/// Files that it makes in its `/tmp`, like logs of init.
pub const LEFT: [&str; 2] = ["/tmp/nobody-else.log", "/tmp/nobody-else.err"];

/// The name of the judge's abstract socket.
const ABSTRACT: &[u8] = b"the judge";

/// Opens a socket that everybody can connect to unless something restricts it.
pub fn abstract_listener() -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(ABSTRACT)?)
}

/// The restrictions, as the table names them.
const FILTER: &str = "system-call filter";
const NAMESPACES: &str = "system-call filter (namespaces)";
const FAMILIES: &str = "system-call filter (socket families)";
const ACCOUNT: &str = "own account, no capabilities";
const DEVICES: &str = "private /dev";
const PROC: &str = "private /proc";
const SCOPE: &str = "Landlock scope";
const READ_ONLY: &str = "read-only file systems, Landlock";
const LIMITS: &str = "limits";

/// Tries everything.
pub fn run() {
    await_word("rights");
    // First: of denied calls the kernel logs ten in five seconds.
    administration();
    namespaces();
    sockets();
    processes();
    files();
    devices();
    resources();
    ordinary();
    finish();
}

fn administration() {
    let null = std::ptr::null::<u8>() as c_long;
    let text = |text: &'static CStr| text.as_ptr() as c_long;
    let here = text(c"/tmp");
    let calls: &[(&str, c_long, [c_long; 5])] = &[
        ("mount a file system", libc::SYS_mount, [text(c"tmpfs"), here, text(c"tmpfs"), 0, null]),
        ("unmount one", libc::SYS_umount2, [text(c"/proc"), 2, 0, 0, 0]),
        ("open a mount to move it", libc::SYS_open_tree, [-100, here, 1, 0, 0]),
        ("change the root", libc::SYS_chroot, [here, 0, 0, 0, 0]),
        ("exchange the root", libc::SYS_pivot_root, [here, here, 0, 0, 0]),
        ("load a module", libc::SYS_init_module, [null, 0, text(c""), 0, 0]),
        ("load a module from a file", libc::SYS_finit_module, [0, text(c""), 0, 0, 0]),
        ("remove a module", libc::SYS_delete_module, [text(c"vfat"), 0, 0, 0, 0]),
        ("load another kernel", libc::SYS_kexec_load, [0, 0, null, 0, 0]),
        ("restart the machine", libc::SYS_reboot, [0xfee1_dead, 672_274_793, 0x0123_4567, 0, 0]),
        ("use a file as swap", libc::SYS_swapon, [text(c"/tmp/swap"), 0, 0, 0, 0]),
        ("load a BPF program", libc::SYS_bpf, [5, null, 0, 0, 0]),
        ("count events of the processor", libc::SYS_perf_event_open, [null, 0, -1, -1, 0]),
        ("handle page faults", libc::SYS_userfaultfd, [0, 0, 0, 0, 0]),
        ("set up io_uring", libc::SYS_io_uring_setup, [8, null, 0, 0, 0]),
        ("add a key", libc::SYS_add_key, [text(c"user"), text(c"x"), here, 4, -4]),
        ("read a keyring", libc::SYS_keyctl, [0, -4, 0, 0, 0]),
        ("request a key", libc::SYS_request_key, [text(c"user"), text(c"x"), null, 0, 0]),
        ("read the kernel's log", libc::SYS_syslog, [3, here, 16, 0, 0]),
        ("set the clock", libc::SYS_clock_settime, [0, null, 0, 0, 0]),
        ("adjust the clock", libc::SYS_adjtimex, [null, 0, 0, 0, 0]),
        ("set the host name", libc::SYS_sethostname, [here, 4, 0, 0, 0]),
        ("set quotas", libc::SYS_quotactl, [0, null, 0, null, 0]),
        ("open a file by its handle", libc::SYS_open_by_handle_at, [-100, null, 0, 0, 0]),
        ("watch a file system", libc::SYS_fanotify_init, [0, 0, 0, 0, 0]),
        ("account processes", libc::SYS_acct, [null, 0, 0, 0, 0]),
        ("switch address randomization off", libc::SYS_personality, [0x4_0000, 0, 0, 0, 0]),
        ("trace another process", libc::SYS_ptrace, [16, 1, 0, 0, 0]),
        ("take a descriptor of another process", libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0]),
    ];
    for (name, number, arguments) in calls {
        refused(name, FILTER, libc::EPERM, || call(*number, *arguments));
    }
    refused("a system call of the future", FILTER, libc::ENOSYS, || call(4000, [0; 5]));
}

fn namespaces() {
    let user = c_long::from(libc::CLONE_NEWUSER);
    let unshare = |flag: c_int| call(libc::SYS_unshare, [flag.into(), 0, 0, 0, 0]);
    refused("unshare a user namespace", NAMESPACES, libc::EPERM, || unshare(libc::CLONE_NEWUSER));
    refused("unshare a network namespace", NAMESPACES, libc::EPERM, || unshare(libc::CLONE_NEWNET));
    let signal = c_long::from(libc::SIGCHLD);
    refused("a child in a user namespace", NAMESPACES, libc::EPERM, || {
        call(libc::SYS_clone, [user | signal, 0, 0, 0, 0])
    });
    refused("the same by clone3", NAMESPACES, libc::ENOSYS, || call(libc::SYS_clone3, [0; 5]));
    refused("enter a namespace", NAMESPACES, libc::EPERM, || call(libc::SYS_setns, [0; 5]));
}

fn sockets() {
    let socket = |family: c_int, kind: c_int| call(libc::SYS_socket, [family.into(), kind.into(), 0, 0, 0]);
    refused("a raw socket", ACCOUNT, libc::EPERM, || {
        call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_RAW.into(), 1, 0, 0])
    });
    refused("a packet socket", ACCOUNT, libc::EPERM, || socket(libc::AF_PACKET, libc::SOCK_RAW));
    for (name, family) in [
        ("a socket of the kernel's cryptography", libc::AF_ALG),
        ("a socket to the hypervisor", libc::AF_VSOCK),
        ("a Bluetooth socket", libc::AF_BLUETOOTH),
    ] {
        refused(name, FAMILIES, libc::EAFNOSUPPORT, || socket(family, libc::SOCK_SEQPACKET));
    }
    refused("an abstract socket of another service", SCOPE, libc::EPERM, || {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(ABSTRACT)?).map(drop)
    });
    refused("init's control socket", ACCOUNT, libc::EACCES, || {
        UnixStream::connect(krazy_init::control::SOCKET).map(drop)
    });
}

fn processes() {
    refused("signal init", SCOPE, libc::EPERM, || call(libc::SYS_kill, [1, libc::SIGTERM.into(), 0, 0, 0]));
    case("hostile: signal any other process", || {
        let own = std::process::id() as c_long;
        let reached = (2..2000).find(|pid| *pid != own && call(libc::SYS_kill, [*pid, 0, 0, 0, 0]).is_ok());
        ensure(reached.is_none(), &format!("process {reached:?} can be signalled"))
    });
    refused("read the memory of init", ACCOUNT, libc::EPERM, || {
        let mut buffer = [0u8; 8];
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 8 };
        let remote = libc::iovec { iov_base: 0x40_0000 as *mut _, iov_len: 8 };
        let (local, remote) = (&raw const local as c_long, &raw const remote as c_long);
        call(libc::SYS_process_vm_readv, [1, local, 1, remote, 1])
    });
    refused("limit init", ACCOUNT, libc::EPERM, || {
        let limit = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
        call(libc::SYS_prlimit64, [1, libc::RLIMIT_NOFILE as c_long, &raw const limit as c_long, 0, 0])
    });
    refused("become root", ACCOUNT, libc::EPERM, || call(libc::SYS_setuid, [0; 5]));
    refused("join the group of init's socket", ACCOUNT, libc::EPERM, || {
        let group = krazy_boot::manifest::accounts::CONTROL_GID;
        call(libc::SYS_setgroups, [1, &raw const group as c_long, 0, 0, 0])
    });
    refused("a higher priority", ACCOUNT, libc::EACCES, || call(libc::SYS_setpriority, [0, 0, -5, 0, 0]));
    refused("read /proc of init", PROC, libc::ENOENT, || fs::read("/proc/1/status").map(drop));
    case("hostile: see another process in /proc", || {
        let own = std::process::id().to_string();
        let entries = told(fs::read_dir("/proc"))?.flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let other = names.find(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own);
        ensure(other.is_none(), &format!("process {other:?}"))
    });
    refused("read the kernel's command line", PROC, libc::EACCES, || fs::read("/proc/cmdline").map(drop));
}

fn files() {
    let write = |path: &str| fs::write(path, "x");
    refused("another home", ACCOUNT, libc::EACCES, || fs::read_dir("/data/steady").map(drop));
    refused("the credentials", ACCOUNT, libc::EACCES, || fs::read_dir("/data/krazy").map(drop));
    for (name, path, number) in [
        ("write to /etc", "/etc/x", libc::EROFS),
        ("write to /bin", "/bin/x", libc::EROFS),
        ("write to /run", "/run/x", libc::EACCES),
        ("a file that everyone may write", "/run/open/file", libc::EACCES),
        ("write to /sys", "/sys/kernel/profiling", libc::EACCES),
        ("write to /proc/sys", "/proc/sys/kernel/core_pattern", libc::EACCES),
        ("write to cgroups", "/sys/fs/cgroup/cgroup.procs", libc::EACCES),
    ] {
        refused_by_any(name, READ_ONLY, &[number, libc::EROFS, libc::EACCES], || {
            OpenOptions::new().write(true).create(true).truncate(false).open(path).map(drop)
        });
    }
    case("hostile: /tmp and /dev/shm are its own", || {
        for directory in ["/tmp", "/dev/shm"] {
            let mut entries = told(fs::read_dir(directory))?;
            ensure(entries.next().is_none(), &format!("{directory} is not empty"))?;
            told(write(&format!("{directory}/x")))?;
            told(fs::remove_file(format!("{directory}/x")))?;
        }
        // SAFETY: the path ends with NUL.
        ensure(unsafe { libc::mkfifo(c"/tmp/nobody-else.log".as_ptr(), 0o666) } == 0, "no FIFO")?;
        told(symlink("/data/krazy/random-seed", LEFT[1]))
    });
}

fn devices() {
    for (name, path) in [
        ("the disk", "/dev/vda"),
        ("the machine's memory", "/dev/mem"),
        ("the kernel's log as a device", "/dev/kmsg"),
        ("the watchdog", "/dev/watchdog"),
        ("the console", "/dev/console"),
    ] {
        refused(name, DEVICES, libc::ENOENT, || File::open(path).map(drop));
    }
    refused("make a node of the disk", ACCOUNT, libc::EPERM, || {
        // SAFETY: the path ends with NUL.
        let made =
            unsafe { libc::mknod(c"/tmp/disk".as_ptr(), libc::S_IFBLK | 0o666, libc::makedev(254, 0)) };
        if made == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    });
    case("hostile: devices of every program, and those that it was granted, later ones too", || {
        for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "log", "fd", "stdout"] {
            ensure(Path::new("/dev").join(name).symlink_metadata().is_ok(), name)?;
        }
        told(fs::write("/dev/null", "x"))?;
        told(OpenOptions::new().read(true).write(true).open("/dev/ptmx").map(drop))?;
        eventually(|| told(File::open("/dev/hwrng").map(drop)))?;
        eventually(|| {
            let entry = told(fs::read_dir("/dev/serial/by-id"))?.flatten().next().ok_or("no serial line")?;
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let mut options = OpenOptions::new();
            told(options.read(true).write(true).custom_flags(flags).open(entry.path()).map(drop))
        })
    });
}

fn resources() {
    refused("fill the memory by its /tmp", "private /tmp with a bound", libc::ENOSPC, || {
        let mut file = File::create("/tmp/fill")?;
        let outcome = loop {
            if let Err(error) = file.write_all(&[0xa5; 1 << 20]) {
                break Err(error);
            }
            if file.metadata()?.len() > 256 << 20 {
                break Ok(());
            }
        };
        fs::remove_file("/tmp/fill")?;
        outcome
    });
    refused("a fork bomb", LIMITS, libc::EAGAIN, || {
        let mut children = Vec::new();
        let outcome = loop {
            match Command::new("/bin/steady").stdout(Stdio::null()).spawn() {
                Ok(child) => children.push(child),
                Err(error) => break Err(error),
            }
            if children.len() > 100 {
                break Ok(());
            }
        };
        for child in &mut children {
            child.kill()?;
            child.wait()?;
        }
        outcome
    });
}

fn ordinary() {
    case("hostile: threads, children, pipes and generated code work", || {
        let sum: u64 =
            (0..4u64).map(|n| std::thread::spawn(move || n)).map(|it| it.join().unwrap_or(99)).sum();
        ensure(sum == 6, "threads")?;
        let output = told(Command::new("/bin/once").output())?;
        ensure(output.stdout == b"done\n", "a child's output")?;
        // SAFETY: an anonymous mapping of one page, to which only this function has a pointer.
        let page = unsafe {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let page = libc::mmap(
                std::ptr::null_mut(),
                4096,
                rights,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            ensure(page != libc::MAP_FAILED, "mmap")?;
            libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC)
        };
        ensure(page == 0, "code of a JIT compiler")?;
        told(std::net::TcpListener::bind("127.0.0.1:0").map(drop))?;
        told(UnixStream::pair().map(drop))?;
        told(std::env::current_dir().map(drop))
    });
}

/// Makes a system call.
fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = arguments;
    // The sixth argument of some.
    let none: c_long = 0;
    // SAFETY: each is to be refused; pointers among the arguments are null or point to memory that outlives the call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, none) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Judges that an attempt fails with this error, and prints a line of the table.
fn refused(name: &str, by: &str, number: i32, attempt: impl FnOnce() -> io::Result<()>) {
    refused_by_any(name, by, &[number], attempt);
}

fn refused_by_any(name: &str, by: &str, numbers: &[i32], attempt: impl FnOnce() -> io::Result<()>) {
    case(&format!("hostile: {name}"), || -> Verdict {
        match attempt() {
            Ok(()) => Err("it was not refused".to_owned()),
            Err(error) => {
                println!("table | {name} | {by} | {error} |");
                let as_expected = error.raw_os_error().is_some_and(|number| numbers.contains(&number));
                ensure(as_expected, &error.to_string())
            }
        }
    });
}
