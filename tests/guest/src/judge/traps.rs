//! Names that others made where init and the judge read.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use krazy_init::control::{Command, ExitReason, LogStream, ServiceState};

use super::{Verdict, ask, case, ensure, give_word, log, order, read, status};
use crate::rights::{eventually, told};
use crate::traps::END;

/// The longest time of an answer about a log: what hangs takes until the watchdog restarts the machine.
const SOON: Duration = Duration::from_secs(30);

pub fn judge() {
    case("a service sets traps for those who read logs", || {
        give_word("trapper")?;
        eventually(|| ensure(log("trapper")?.contains(END), "it has not set them"))
    });
    case("logs are init's, and have their names in /tmp", || {
        for name in ["steady.log", "steady.err", "trapper.log"] {
            let link = told(fs::symlink_metadata(format!("/tmp/{name}")))?;
            ensure(link.is_symlink() && link.uid() == 0, &format!("/tmp/{name} is no link of root"))?;
            let target = told(fs::read_link(format!("/tmp/{name}")))?;
            ensure(target.as_os_str() == format!("/run/log/{name}").as_str(), &format!("{target:?}"))?;
        }
        ensure(read("/tmp/trapper.log")?.contains(END), "not its log")?;
        let directory = told(fs::metadata("/run/log"))?;
        ensure(directory.uid() == 0 && directory.mode() & 0o7777 == 0o755, "others may write")
    });
    case("a pipe in place of a full log delays nobody", || {
        // As root: no service can make this name.
        let path = "/run/log/steady.log.1";
        let name = CString::new(path).map_err(|error| error.to_string())?;
        // SAFETY: the text ends with NUL and outlives the call.
        ensure(unsafe { libc::mkfifo(name.as_ptr(), 0o666) } == 0, "no pipe")?;
        let verdict = answers_soon();
        told(fs::remove_file(path))?;
        verdict
    });
}

/// In place of a process of the same account that stops it before it executes its program, which needs luck.
pub fn stopped_start() {
    case("a process that is stopped before it runs its program delays nobody", || {
        let freeze = |value| told(fs::write("/sys/fs/cgroup/services/steady/cgroup.freeze", value));
        order(Command::Stop { service: "steady".to_owned() })?;
        eventually(|| ensure(status("steady")?.state == ServiceState::Stopped, "it was not stopped"))?;
        freeze("1")?;
        order(Command::Start { service: "steady".to_owned() })?;
        let start = Instant::now();
        let verdict = eventually(|| {
            answers_soon()?;
            let steady = status("steady")?;
            let gave_up = matches!(&steady.last_exit, Some(ExitReason::NotStarted(why)) if why.contains("not executed"));
            ensure(gave_up, &format!("{steady:?}"))
        });
        let took = start.elapsed();
        freeze("0")?;
        verdict?;
        ensure(took > Duration::from_secs(9), &format!("given up after {took:?}"))?;
        eventually(|| ensure(status("steady")?.state == ServiceState::Running, "it does not run"))
    });
}

fn answers_soon() -> Verdict {
    let start = Instant::now();
    ask(|client| client.logs("steady", LogStream::Out, 1000))?;
    status("steady")?;
    let took = start.elapsed();
    ensure(took < SOON, &format!("it took {took:?}"))
}
