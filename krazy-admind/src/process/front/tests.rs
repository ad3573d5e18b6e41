//! Attempts of a front that was taken over: a process restricts itself like the front, and tries.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use libc::{c_int, c_long};

use super::restrict;

/// The variable that makes [`attempts`] more than nothing, with the empty directory.
const CHILD: &str = "KRAZY_SEALED";

/// The attempts, and the error of each; 0 for what a front needs.
const EXPECTED: &[(&str, c_int)] = &[
    ("read the tokens", libc::EPERM),
    ("read the environment of init", libc::EPERM),
    ("list the root", libc::EPERM),
    ("make a file in memory", libc::EPERM),
    ("open a Unix stream socket", libc::EPERM),
    ("connect a Unix socket to init", libc::EPERM),
    ("execute a program", libc::EPERM),
    ("fork", libc::EPERM),
    ("make a process in a user namespace", libc::EPERM),
    ("enter a user namespace", libc::EPERM),
    ("call clone3", libc::ENOSYS),
    ("trace init", libc::EPERM),
    ("read the memory of its parent", libc::EPERM),
    ("signal its parent", libc::EPERM),
    ("open a handle of init", libc::EPERM),
    ("open a TCP socket for another port", libc::EPERM),
    ("listen", libc::EPERM),
    ("open a raw socket", libc::EPERM),
    ("open a packet socket", libc::EPERM),
    ("open a socket of netfilter", libc::EPERM),
    ("become root", libc::EPERM),
    ("join the group of init's socket", libc::EPERM),
    ("leave its root", libc::EPERM),
    ("mount", libc::EPERM),
    ("set up io_uring", libc::EPERM),
    ("load a BPF program", libc::EPERM),
    ("count events of the processor", libc::EPERM),
    ("handle page faults", libc::EPERM),
    ("read a keyring", libc::EPERM),
    ("restart the machine", libc::EPERM),
    ("map memory with code", libc::EPERM),
    ("make memory executable", libc::EPERM),
    ("be dumpable again", libc::EPERM),
    ("raise its limits", libc::EPERM),
    ("have signals sent to others", libc::EPERM),
    ("a system call of the future", libc::EPERM),
    ("open a socket for UDP", 0),
    ("make a pair of sockets", 0),
    ("map memory", 0),
    ("tell the time", 0),
    ("start a thread", 0),
];

#[test]
fn front_is_refused_everything_but_its_descriptors() {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::front::tests::attempts", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, empty.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let told = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" | "));
        line.unwrap_or_else(|| panic!("`{name}` was not tried: {text}{errors}")).parse::<c_int>().unwrap()
    };
    for (name, error) in EXPECTED {
        assert_eq!(told(name), *error, "{name}");
    }
    // A process that is not root keeps its account; everything else is in effect.
    assert_eq!(told("shortfalls"), c_int::from(!rustix::process::geteuid().is_root()));
    // The limit counts for an account of its own only.
    if rustix::process::geteuid().is_root() {
        assert_eq!(told("start threads without end"), libc::EAGAIN);
        assert_eq!(told("send to a socket in the file system"), libc::ENOENT);
    }
}

/// Runs in a process of its own, which it ends.
#[test]
#[ignore = "another test runs it in a process of its own"]
fn attempts() {
    let Some(empty) = std::env::var_os(CHILD) else { return };
    let (one, _two) = UnixStream::pair().unwrap();
    let shortfalls = restrict(&[one.as_fd()], Some(empty.as_ref()), true);
    // The harness has begun a line.
    tell("\nshortfalls", shortfalls.len() as c_int);
    for (name, _) in EXPECTED {
        tell(name, attempt(name).err().map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
    }
    tell("send to a socket in the file system", error_of(send_to_init()));
    let threads = (0..100).map(|_| sleeper()).find_map(Result::err);
    tell("start threads without end", threads.map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
    std::process::exit(0);
}

/// Writes a line. Not by `println!`, which the harness of the tests holds back.
fn tell(name: &str, error: c_int) {
    let line = format!("{name} | {error}\n");
    rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).unwrap();
}

fn error_of(outcome: io::Result<()>) -> c_int {
    outcome.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn sleeper() -> io::Result<()> {
    let forever = || std::thread::sleep(std::time::Duration::from_secs(600));
    std::thread::Builder::new().stack_size(64 << 10).spawn(forever).map(drop)
}

/// Makes a system call with these arguments.
fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the callers pass integers, null, and texts with a NUL at their end.
    match unsafe { libc::syscall(number, a, b, c, d, e, 0 as c_long) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A Unix datagram socket and the address of a socket in the file system.
fn send_to_init() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None)?;
    let address = rustix::net::SocketAddrUnix::new("/run/krazy/notify.sock")?;
    rustix::net::sendto(&socket, b"READY=1", rustix::net::SendFlags::empty(), &address)?;
    Ok(())
}

fn attempt(name: &str) -> io::Result<()> {
    let text = |text: &'static std::ffi::CStr| text.as_ptr() as c_long;
    let socket = |family: c_int, kind: c_int, protocol: c_int| {
        call(libc::SYS_socket, [family.into(), kind.into(), protocol.into(), 0, 0])
    };
    let open = |path| call(libc::SYS_openat, [libc::AT_FDCWD.into(), path, 0, 0, 0]);
    let parent = std::os::unix::process::parent_id().into();
    let new_user = c_long::from(libc::CLONE_NEWUSER);
    let (read, code) = (c_long::from(libc::PROT_READ), c_long::from(libc::PROT_READ | libc::PROT_EXEC));
    let map = |protection| {
        let flags = c_long::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        call(libc::SYS_mmap, [0, 4096, protection, flags, -1])
    };
    match name {
        "read the tokens" => open(text(c"/data/krazy/tokens.json")),
        "read the environment of init" => open(text(c"/proc/1/environ")),
        "list the root" => open(text(c"/")),
        "make a file in memory" => call(libc::SYS_memfd_create, [text(c"x"), 0, 0, 0, 0]),
        "open a Unix stream socket" => socket(libc::AF_UNIX, libc::SOCK_STREAM, 0),
        "connect a Unix socket to init" => call(libc::SYS_connect, [1, text(c"\x01"), 2, 0, 0]),
        "execute a program" => call(libc::SYS_execve, [text(c"/bin/init"), 0, 0, 0, 0]),
        "fork" => call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0]),
        "make a process in a user namespace" => {
            call(libc::SYS_clone, [new_user | c_long::from(libc::SIGCHLD), 0, 0, 0, 0])
        }
        "enter a user namespace" => call(libc::SYS_unshare, [new_user, 0, 0, 0, 0]),
        "call clone3" => call(libc::SYS_clone3, [0; 5]),
        "trace init" => call(libc::SYS_ptrace, [16, 1, 0, 0, 0]),
        "read the memory of its parent" => call(libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0]),
        "signal its parent" => call(libc::SYS_kill, [parent, 0, 0, 0, 0]),
        "open a handle of init" => call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0]),
        "open a TCP socket for another port" => socket(libc::AF_INET, libc::SOCK_STREAM, 0),
        "listen" => call(libc::SYS_listen, [1, 1, 0, 0, 0]),
        "open a raw socket" => socket(libc::AF_INET, libc::SOCK_RAW, 1),
        "open a packet socket" => socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0),
        "open a socket of netfilter" => socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        "become root" => call(libc::SYS_setresuid, [0; 5]),
        "join the group of init's socket" => call(libc::SYS_setgroups, [0; 5]),
        "leave its root" => call(libc::SYS_chroot, [text(c".."), 0, 0, 0, 0]),
        "mount" => call(libc::SYS_mount, [text(c"tmpfs"), text(c"/"), text(c"tmpfs"), 0, 0]),
        "set up io_uring" => call(libc::SYS_io_uring_setup, [8, 0, 0, 0, 0]),
        "load a BPF program" => call(libc::SYS_bpf, [5, 0, 0, 0, 0]),
        "count events of the processor" => call(libc::SYS_perf_event_open, [0, 0, -1, -1, 0]),
        "handle page faults" => call(libc::SYS_userfaultfd, [0; 5]),
        "read a keyring" => call(libc::SYS_keyctl, [0, -4, 0, 0, 0]),
        "restart the machine" => call(libc::SYS_reboot, [0; 5]),
        "map memory with code" => map(code),
        "make memory executable" => {
            let page = std::ptr::from_ref(&CHILD) as c_long & !4095;
            call(libc::SYS_mprotect, [page, 4096, code, 0, 0])
        }
        "be dumpable again" => call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0]),
        "raise its limits" => call(libc::SYS_prlimit64, [0, 7, text(c"0123456789abcdef"), 0, 0]),
        "have signals sent to others" => call(libc::SYS_fcntl, [1, libc::F_SETOWN.into(), parent, 0, 0]),
        "a system call of the future" => call(4000, [0; 5]),
        "open a socket for UDP" => socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0),
        "make a pair of sockets" => UnixStream::pair().map(drop),
        "map memory" => map(read),
        "tell the time" => std::time::SystemTime::now().elapsed().map(drop).map_err(io::Error::other),
        "start a thread" => std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join())),
        other => panic!("nothing tries `{other}`"),
    }
}
