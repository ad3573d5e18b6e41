//! The resources of services and their limits: accounts, files, memory, processes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use krazy_init::control::{ExitReason, LogStream};

use super::{ask, case, ensure, give_word, log, order, read, status};
use crate::hostile;
use crate::rights::{END, eventually, told};

/// The longest a request may take while something else goes wrong: what hangs takes until the watchdog restarts the
/// machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn judge() {
    case("a file that everyone may write stands outside of what services may change", || {
        told(fs::create_dir("/run/open"))?;
        told(fs::set_permissions("/run/open", Permissions::from_mode(0o777)))?;
        told(fs::write("/run/open/file", ""))?;
        told(fs::set_permissions("/run/open/file", Permissions::from_mode(0o666)))
    });
    // Reached by a service only if nothing restricts it.
    let _listener = hostile::abstract_listener();
    case("services try what they may and may not do", || {
        give_word("rights")?;
        for service in ["confined", "granted", "hostile", "intruder", "owner"] {
            eventually(|| {
                ensure(log(service)?.contains(END), &format!("{service} has not ended its tries"))
            })?;
        }
        Ok(())
    });
    case("what a service sends to the system's log is in its output", || {
        let pid = status("confined")?.pid.ok_or("no pid")?;
        for (stream, text) in [(LogStream::Err, "a syslog error"), (LogStream::Out, "a syslog note")] {
            let line = format!(" confined[{pid}]: {text}");
            let lines = || ask(|client| client.logs("confined", stream, 100));
            eventually(|| {
                ensure(lines()?.iter().any(|written| written.text.ends_with(&line)), &format!("no {text}"))
            })?;
        }
        Ok(())
    });
    case("what a hostile service left in its /tmp is nowhere else", || {
        for path in hostile::LEFT {
            ensure(fs::symlink_metadata(path).is_err(), path)?;
        }
        // They would be read, and one of them for ever, if they were there.
        log("confined").map(drop)
    });
    case("a denied system call is told in the log of the service, with the key", || {
        let lines = ask(|client| client.logs("hostile", LogStream::Err, 1000))?;
        let line = "the system call mount was denied; help: `service.hostile.sandbox.system-calls = false`";
        let all: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        ensure(all.iter().filter(|text| text.contains(line)).count() == 1, &all.join(" / "))
    });
    case("kernel settings close what services do not need", || {
        for (setting, value) in [
            ("kernel/modprobe", ""),
            ("kernel/yama/ptrace_scope", "1"),
            ("kernel/perf_event_paranoid", "3"),
            ("kernel/unprivileged_bpf_disabled", "2"),
            ("kernel/dmesg_restrict", "1"),
            ("kernel/kptr_restrict", "1"),
            ("vm/unprivileged_userfaultfd", "0"),
            ("dev/tty/ldisc_autoload", "0"),
        ] {
            eventually(|| {
                let now = read(&format!("/proc/sys/{setting}"))?;
                ensure(now.trim() == value, &format!("{setting} is {now}"))
            })?;
        }
        Ok(())
    });
    case("accounts differ and are not root", || {
        let mut uids: Vec<u32> = ask(|client| client.list())?
            .into_iter()
            .filter(|service| service.name != "judge")
            .map(|service| service.uid)
            .collect();
        let count = uids.len();
        uids.sort_unstable();
        uids.dedup();
        ensure(uids.len() == count && uids.iter().all(|uid| *uid >= 10_000), &format!("{uids:?}"))
    });
    case("status tells memory, uptime and account", || {
        let steady = status("steady")?;
        let pid = steady.pid.ok_or("no pid")?;
        ensure(read(&format!("/proc/{pid}/comm"))?.trim() == "steady", "another process")?;
        ensure(
            steady.rss.is_some_and(|rss| (1 << 10..64 << 20).contains(&rss)),
            &format!("{:?}", steady.rss),
        )?;
        ensure(steady.uptime.is_some() && steady.memory.is_some(), "no uptime or memory")?;
        ensure(read("/sys/fs/cgroup/services/granted/cpu.weight")?.trim() == "50", "CPU weight")
    });
    case("a service that eats all memory ends alone and comes back", || {
        let others: Vec<_> =
            ["steady", "kept", "stubborn"].into_iter().map(|name| status(name).map(|it| it.pid)).collect();
        give_word("hungry")?;
        eventually(|| {
            let hungry = status("hungry")?;
            ensure(
                hungry.restarts > 0 && hungry.last_exit == Some(ExitReason::OutOfMemory),
                &format!("{hungry:?}"),
            )
        })?;
        give_word("fed")?;
        let now: Vec<_> =
            ["steady", "kept", "stubborn"].into_iter().map(|name| status(name).map(|it| it.pid)).collect();
        ensure(others == now, "others were restarted")
    });
    case("a fork bomb fills its own cgroup only", || {
        give_word("bomb")?;
        eventually(|| ensure(log("bomb")?.contains("stopped after"), &log("bomb")?))?;
        let tasks = read("/sys/fs/cgroup/services/bomb/pids.current")?;
        ensure(tasks.trim().parse().is_ok_and(|tasks: u32| tasks <= 20), &tasks)?;
        told(std::process::Command::new("/bin/once").output().map(drop))?;
        order(krazy_init::control::Command::Stop { service: "bomb".to_owned() })?;
        eventually(|| {
            ensure(
                read("/sys/fs/cgroup/services/bomb/cgroup.events")?.contains("populated 0"),
                "its children live",
            )
        })
    });
    case("a flood of output is bounded and disturbs nobody", flood);
}

fn flood() -> super::Verdict {
    give_word("flood")?;
    eventually(|| ensure(fs::metadata("/tmp/flood.log.1").is_ok(), "no flood"))?;
    for _ in 0..20 {
        let start = Instant::now();
        status("steady")?;
        let took = start.elapsed();
        ensure(took < PATIENCE, &format!("a request took {took:?}"))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let size = |path: &str| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let (log, old) = (size("/tmp/flood.log"), size("/tmp/flood.log.1"));
    let _stopped = fs::remove_file(crate::word("flood"));
    order(krazy_init::control::Command::Stop { service: "flood".to_owned() })?;
    ensure(log <= 1 << 20 && old <= 1 << 20, &format!("{log} and {old} bytes"))?;
    let tail = ask(|client| client.logs("flood", LogStream::Out, 3))?;
    ensure(tail.len() == 3 && tail[0].text.contains(" of a flood "), "no tail")?;
    // Wall time, seconds since the kernel's start, text.
    let words: Vec<&str> = tail[0].text.splitn(3, ' ').collect();
    ensure(words[0].ends_with('Z') && words[1].parse::<f64>().is_ok(), &tail[0].text)
}
