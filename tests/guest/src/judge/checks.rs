//! Services that run and do not work.

use std::fs;

use krazy_init::control::{ExitReason, LogStream, ServiceState};

use super::{ask, case, ensure, give_word, log, read, status};
use crate::rights::{eventually, told};

pub fn judge() {
    case("a service that stops sending keep-alive messages is ended and started again", || {
        eventually(|| ensure(status("silent")?.state == ServiceState::Running, "it does not run"))?;
        ensure(log("silent")?.contains("watchdog of 20000000 us, for me: true"), &log("silent")?)?;
        // Longer than its limit: as long as it sends, nothing happens to it.
        eventually(|| ensure(status("silent")?.uptime.is_some_and(|uptime| uptime > 30), "it was ended"))?;
        ensure(status("silent")?.restarts == 0, "it was ended while it sent")?;
        give_word("silent")?;
        eventually(|| {
            let silent = status("silent")?;
            ensure(silent.restarts > 0, &format!("{silent:?}"))?;
            ensure(silent.last_exit == Some(ExitReason::Watchdog(20)), &format!("{silent:?}"))
        })?;
        told(fs::remove_file(crate::word("silent")))?;
        eventually(|| ensure(status("silent")?.state == ServiceState::Running, "it was not started again"))
    });
    case("a service whose health command fails is ended and started again", || {
        eventually(|| ensure(status("sickly")?.stable, "it is not stable"))?;
        told(fs::write("/data/sickly/ill", ""))?;
        eventually(|| {
            let sickly = status("sickly")?;
            let expected = ExitReason::Unhealthy("`/bin/sickly --health` exit status 4, 2 times".to_owned());
            ensure(sickly.last_exit == Some(expected) && !sickly.stable, &format!("{sickly:?}"))
        })?;
        told(fs::remove_file("/data/sickly/ill"))?;
        let errors = ask(|client| client.logs("sickly", LogStream::Err, 100))?;
        ensure(errors.iter().any(|line| line.text.ends_with("it is ill")), "what it wrote is lost")?;
        eventually(|| ensure(status("sickly")?.stable, "it does not become stable"))
    });
    case("a health command that hangs is killed, and its service ended", || {
        told(fs::write("/data/sickly/hangs", ""))?;
        eventually(|| {
            let sickly = status("sickly")?;
            let hung = matches!(&sickly.last_exit, Some(ExitReason::Unhealthy(why)) if why.contains("took longer than 20 s"));
            ensure(hung, &format!("{sickly:?}"))
        })?;
        told(fs::remove_file("/data/sickly/hangs"))?;
        eventually(|| ensure(status("sickly")?.stable, "it does not become stable"))
    });
    case("memory is limited for services that ask for nothing", || {
        let limit = |service: &str| read(&format!("/sys/fs/cgroup/services/{service}/memory.max"));
        let memory = read("/proc/meminfo")?;
        let total = memory.split_ascii_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
        let total = total.ok_or("no MemTotal")? * 1024;
        let steady: u64 = limit("steady")?.trim().parse().map_err(|_| "no limit of memory")?;
        ensure(steady < total && steady > total / 2, &format!("{steady} of {total} bytes"))?;
        ensure(limit("page")?.trim() == "max", "a limit that was lifted")
    });
}
