//! Services that misbehave, one function each, and well-behaved ones that must not be affected.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::time::Duration;

use crate::{await_word, rest};

/// The argument of the double-forked child.
const CHILD: &str = "--child";

/// The argument that makes the child exit after a moment.
pub const BRIEF: &str = "--brief";
const BRIEF_CHILD: &str = "--brief-child";

/// The file that shows that the child has written its line.
const LIVES: &str = "/tmp/daemon-lives";

/// Exits at once, with status 3.
pub fn quits() {
    exit(3);
}

/// Exits at once, with status 0.
pub fn once() {
    println!("done");
}

/// Leaves a process in a session of its own behind, as daemons do, and exits. With [`BRIEF`] that process exits, too.
pub fn daemon() {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        CHILD => {
            println!("the daemon lives");
            if let Err(error) = std::fs::write(LIVES, "") {
                println!("it cannot tell: {error}");
            }
            rest();
        }
        BRIEF_CHILD => return std::thread::sleep(Duration::from_millis(200)),
        _ => {}
    }
    let mut child = Command::new("/bin/daemon");
    child.arg(if role == BRIEF { BRIEF_CHILD } else { CHILD }).stdin(Stdio::null());
    // SAFETY: setsid is a system call without effects on memory.
    unsafe {
        child.pre_exec(|| match libc::setsid() {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    if let Err(error) = child.spawn() {
        println!("no child: {error}");
        return;
    }
    while role != BRIEF && !Path::new(LIVES).exists() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ignores the stop signal.
pub fn stubborn() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    println!("ignoring SIGTERM");
    rest();
}

/// Writes as fast as it can.
pub fn flood() {
    await_word("flood");
    let mut lines = Vec::new();
    for number in 0..1000 {
        lines.extend_from_slice(
            format!("line {number} of a flood that nobody reads as fast as it comes\n").as_bytes(),
        );
    }
    while std::io::stdout().write_all(&lines).is_ok() {}
}

/// Takes memory until there is none.
pub fn hungry() {
    await_word("hungry");
    if crate::word("fed").exists() {
        rest();
    }
    println!("eating");
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![0xa5u8; 1 << 20]);
    }
}

/// Starts processes that start processes, until the kernel refuses; then prints their number.
pub fn bomb() {
    await_word("bomb");
    let mut children = Vec::new();
    let why = loop {
        match Command::new("/bin/steady").stdout(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => break error,
        }
        if children.len() >= 1000 {
            println!("nothing stopped the bomb");
            rest();
        }
    };
    println!("stopped after {}: {why}", children.len());
    rest();
}

/// Reports its own readiness.
pub fn notifier() {
    await_word("notifier");
    let told = std::env::var("NOTIFY_SOCKET").map_err(|error| error.to_string()).and_then(|path| {
        let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
        socket.send_to(b"STATUS=here\nREADY=1\n", path).map_err(|error| error.to_string())
    });
    println!("told: {told:?}");
    rest();
}

/// Is ready when its port is open; then prints a line ten times a second.
pub fn listener() {
    await_word("listener");
    match TcpListener::bind("127.0.0.1:7000") {
        Ok(_listener) => loop {
            println!("listening");
            std::thread::sleep(Duration::from_millis(100));
        },
        Err(error) => println!("no port: {error}"),
    }
}

/// Starts after the two above.
pub fn follower() {
    println!("following");
    rest();
}

/// Prints one line; its log is kept on `/data`.
pub fn kept() {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    println!("boot {}", boot.trim());
    rest();
}

/// Does nothing, like most services most of the time; with `--probe` it is the [probe](crate::probe).
pub fn steady() {
    if std::env::args().any(|argument| argument == "--probe") {
        crate::probe::run();
    }
    rest();
}

/// Runs until the judge breaks it with a file in its home.
pub fn fragile() {
    let home = std::env::var("HOME").unwrap_or_default();
    let broken = Path::new(&home).join("broken");
    loop {
        if broken.exists() {
            eprintln!("a part is missing");
            exit(7);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
