//! Services that try permitted and forbidden operations. Each prints its outcomes as cases; the judge passes the lines
//! on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use krazy_init::control::{Client, SOCKET};

use crate::judge::{Verdict, case, ensure};
use crate::{await_word, rest};

/// The longest wait for what init does in its own time. The host of this machine may give it a tenth of a processor.
const PATIENCE: Duration = Duration::from_secs(900);

/// The last line of either.
pub const END: &str = "that was all";

/// A service without configuration.
pub fn confined() {
    await_word("rights");
    case("confined: an account of its own, no rights, none to be had", || {
        let status = status()?;
        let uid = field(&status, "Uid")?;
        ensure(uid.split('\t').all(|id| id.parse::<u32>().is_ok_and(|id| id >= 10_000)), &uid)?;
        ensure(field(&status, "Gid")? == uid, "user and group differ")?;
        ensure(field(&status, "Groups")?.trim().is_empty(), "it is in further groups")?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ensure(field(&status, set)?.chars().all(|digit| digit == '0'), set)?;
        }
        ensure(field(&status, "NoNewPrivs")? == "1", "it may gain rights")
    });
    case("confined: a private home, which is also where it starts", || {
        let home = std::env::var("HOME").map_err(|error| error.to_string())?;
        ensure(home == "/data/confined", &home)?;
        ensure(
            std::env::current_dir().is_ok_and(|directory| directory == Path::new(&home)),
            "another directory",
        )?;
        let metadata = told(fs::metadata(&home))?;
        ensure(metadata.mode() & 0o7777 == 0o700, "others may enter")?;
        told(fs::write("/data/confined/state", "mine"))
    });
    case("confined: others' homes and the machine's own files are closed", || {
        for path in ["/data/steady", "/data/krazy", "/run/krazy"] {
            refused(path, fs::read_dir(path).map(drop))?;
        }
        refused("/data/krazy/random-seed", File::open("/data/krazy/random-seed").map(drop))
    });
    case("confined: nothing else can be written", || {
        for path in [
            "/bin/x",
            "/etc/x",
            "/data/x",
            "/run/x",
            "/run/resolv.conf",
            "/boot/x",
            "/sys/kernel/uevent_helper",
        ] {
            refused(path, fs::write(path, "x"))?;
        }
        told(fs::write("/tmp/of-confined", "x"))?;
        told(fs::write("/dev/null", "x"))
    });
    case("confined: Landlock refuses what permissions allow", || {
        // Files that everyone may write.
        let open = |path: &str| OpenOptions::new().append(true).open(path).map(drop);
        ensure(fs::metadata("/proc/self/comm").is_ok_and(|it| it.mode() & 0o200 != 0), "no such file")?;
        told(open("/proc/self/comm"))?;
        refused("/run/open/file", open("/run/open/file"))
    });
    case("confined: ports below 1024 are for everyone", || told(TcpListener::bind("0.0.0.0:80").map(drop)));
    case("confined: it can write to the system's log", || {
        // SAFETY: the texts end with NUL and live for ever, and the format takes no arguments.
        unsafe {
            libc::openlog(c"confined".as_ptr(), libc::LOG_PID, libc::LOG_USER);
            libc::syslog(libc::LOG_ERR, c"a syslog error".as_ptr());
            libc::syslog(libc::LOG_INFO, c"a syslog note".as_ptr());
        }
        Ok(())
    });
    case("confined: init does not talk to it", || refused(SOCKET, UnixStream::connect(SOCKET).map(drop)));
    finish();
}

/// A service that was granted more.
pub fn granted() {
    await_word("rights");
    case("granted: arguments, environment and working directory", || {
        let arguments: Vec<String> = std::env::args().collect();
        ensure(arguments == ["/bin/granted", "one word"], &format!("{arguments:?}"))?;
        ensure(std::env::var("GRANTED").as_deref() == Ok("yes"), "no GRANTED")?;
        ensure(
            std::env::current_dir().is_ok_and(|directory| directory == Path::new("/tmp")),
            "another directory",
        )
    });
    case("granted: one capability and no other", || {
        let status = status()?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ensure(field(&status, set)? == "0000000000001000", set)?;
        }
        Ok(())
    });
    case("granted: a limit of open files", || {
        let limits = told(fs::read_to_string("/proc/self/limits"))?;
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
        ensure(files.split_ascii_whitespace().filter(|word| *word == "333").count() == 2, files)
    });
    case("granted: the log of an account whose group it is in", || {
        told(fs::read_to_string("/tmp/confined.log").map(drop))?;
        refused("/tmp/steady.log", File::open("/tmp/steady.log").map(drop))
    });
    case("granted: a device that was there", || {
        told(OpenOptions::new().write(true).open("/dev/kmsg").map(drop))
    });
    case("granted: a device whose driver came later", || {
        eventually(|| told(OpenOptions::new().read(true).open("/dev/hwrng").map(drop)))
    });
    case("granted: a serial line by the name that udev gives it", || {
        eventually(|| {
            let entries = told(fs::read_dir("/dev/serial/by-id"))?.flatten();
            let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let is_line = |name: &String| {
                name.starts_with("usb-QEMU_QEMU_USB_SERIAL_") && name.ends_with("-if00-port0")
            };
            let name = names.find(is_line).ok_or("there is no such line")?;
            let path = Path::new("/dev/serial/by-id").join(name);
            // Without waiting for a carrier.
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            told(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map(drop))
        })
    });
    case("granted: a device that it did not ask for", || {
        refused("/dev/vda", OpenOptions::new().read(true).open("/dev/vda").map(drop))
    });
    case("granted: files of sysfs, and no others", || {
        let power = "/sys/bus/pci/devices/0000:00:00.0/power";
        told(fs::write(format!("{power}/control"), "on"))?;
        refused("another file", fs::write("/sys/bus/pci/devices/0000:00:00.0/enable", "1"))
    });
    case("granted: init answers, and krazy is on its PATH", || {
        let services =
            Client::connect().and_then(|mut client| client.list()).map_err(|error| error.to_string())?;
        ensure(services.iter().any(|service| service.name == "granted"), "it is not listed")?;
        let output = told(Command::new("krazy").arg("status").arg("granted").output())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(output.status.success() && text.starts_with("granted"), &text)
    });
    finish();
}

/// Prints the last line and rests.
pub fn finish() -> ! {
    println!("{END}");
    rest();
}

/// Repeats `check` until it holds. The limit only ends a wait for what will never come: how long anything takes says more
/// about the host of this machine than about init.
pub fn eventually(mut check: impl FnMut() -> Verdict) -> Verdict {
    let start = Instant::now();
    loop {
        match check() {
            Err(why) if start.elapsed() >= PATIENCE => return Err(format!("{why}, after {PATIENCE:?}")),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(()) => return Ok(()),
        }
    }
}

/// Returns the text of a system error.
pub fn told<T>(outcome: io::Result<T>) -> Result<T, String> {
    outcome.map_err(|error| error.to_string())
}

/// Expects `error`: success fails the case, and so does any other error.
pub fn refused(what: &str, outcome: io::Result<()>) -> Verdict {
    match outcome {
        Ok(()) => Err(format!("{what} was not refused")),
        Err(error) => {
            let kinds = [Some(libc::EACCES), Some(libc::EPERM), Some(libc::EROFS)];
            ensure(kinds.contains(&error.raw_os_error()), &format!("{what}: {error}"))
        }
    }
}

fn status() -> Result<String, String> {
    told(fs::read_to_string("/proc/self/status"))
}

fn field(status: &str, name: &str) -> Result<String, String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
    line.map(|value| value.trim_start_matches('\t').to_owned()).ok_or_else(|| format!("no {name}"))
}
