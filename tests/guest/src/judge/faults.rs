//! Services that misbehave, and the order of starts.

use std::fs::OpenOptions;
use std::io::Write;

use krazy_init::control::{Command, ExitReason, LogStream, ServiceState};

use super::{ask, case, ended_by, ensure, give_word, log, order, processes, read, status};
use crate::rights::{eventually, told};

/// Soon after the start: a service does not wait for ever.
pub fn order_of_start() {
    case("a service waits for those before it until they are ready", || {
        let waiting = || Ok::<_, String>(status("follower")?.waiting_for);
        ensure(waiting()? == ["notifier", "listener", "page"], &format!("{:?}", waiting()?))?;
        give_word("notifier")?;
        eventually(|| ensure(waiting()? == ["listener", "page"], &format!("{:?}", waiting()?)))?;
        give_word("listener")?;
        eventually(|| ensure(waiting()? == ["page"], &format!("{:?}", waiting()?)))?;
        // It has answered, and that it is busy.
        eventually(|| ensure(log("page")?.contains("answered 503"), "it was not asked"))?;
        ensure(waiting()? == ["page"], "a refusal was taken for readiness")?;
        give_word("page")?;
        eventually(|| ensure(status("follower")?.state == ServiceState::Running, "it does not run"))
    });
    case("output can be followed as it comes", || {
        let followed = ask(|client| {
            let client = std::mem::replace(client, krazy_init::control::Client::connect()?);
            let (_, mut follower) = client.follow("listener", LogStream::Out, 0)?;
            (0..3).map(|_| follower.next().transpose()).collect::<Result<Vec<_>, _>>()
        })?;
        let heard = |line: &Option<krazy_init::control::LogLine>| {
            line.as_ref().is_some_and(|line| line.text.contains("listening"))
        };
        ensure(followed.iter().all(heard), &format!("{followed:?}"))
    });
}

pub fn judge() {
    case(
        "a service that ends at once is started again, later and later, and said to be in a crash loop",
        || {
            eventually(|| {
                let quits = status("quits")?;
                let holds = quits.crash_loop && !quits.stable && quits.restarts >= 5;
                ensure(holds && quits.last_exit == Some(ExitReason::Code(3)), &format!("{quits:?}"))
            })?;
            eventually(|| {
                ensure(status("quits")?.next_start_ms.is_some_and(|pause| pause > 1000), "no long pause")
            })
        },
    );
    case("a service whose work is done stays ended", || {
        let once = status("once")?;
        ensure(
            once.state == ServiceState::Exited && once.stable && once.restarts == 0,
            &format!("{once:?}"),
        )?;
        ensure(log("once")?.contains("done"), "its log")
    });
    case("what a service forks away ends with it", || {
        eventually(|| ensure(status("daemon")?.state == ServiceState::Exited, "it runs"))?;
        ensure(log("daemon")?.contains("the daemon lives"), "its child never lived")?;
        eventually(|| {
            ensure(
                read("/sys/fs/cgroup/services/daemon/cgroup.events")?.contains("populated 0"),
                "its child lives",
            )
        })
    });
    case("a service that ignores the stop signal is killed after its time", || {
        order(Command::Stop { service: "stubborn".to_owned() })?;
        eventually(|| ensure(status("stubborn")?.state == ServiceState::Stopped, "it was not stopped"))?;
        ended_by("stubborn", &ExitReason::Signal(9))?;
        order(Command::Start { service: "stubborn".to_owned() })?;
        eventually(|| ensure(status("stubborn")?.pid.is_some(), "it was not started"))
    });
    case("the stop signal is the one that was asked for", || {
        order(Command::Restart { service: "steady".to_owned() })?;
        eventually(|| ended_by("steady", &ExitReason::Signal(10)))?;
        eventually(|| ensure(status("steady")?.pid.is_some(), "it was not started again"))
    });
    case("a service that is killed comes back by itself", || {
        let before = status("steady")?;
        order(Command::Signal { service: "steady".to_owned(), signal: "KILL".to_owned() })?;
        eventually(|| {
            let after = status("steady")?;
            let holds =
                after.pid.is_some() && after.pid != before.pid && after.restarts == before.restarts + 1;
            ensure(holds, &format!("{after:?}"))
        })?;
        ended_by("steady", &ExitReason::Signal(9))
    });
    case("a full /data stops nobody", full_data);
    case("nothing of all this disturbed init", || {
        let info = ask(|client| client.boot())?;
        ensure(info.degraded.is_empty(), &info.degraded.join("; "))?;
        ensure(processes().iter().all(|(_, parent, state)| *parent != 1 || *state != 'Z'), "zombies")
    });
}

/// Fills `/data`, lets services start, and frees it again.
fn full_data() -> super::Verdict {
    let path = "/data/judge/filler";
    let fill = || {
        let mut file = told(OpenOptions::new().create(true).truncate(true).write(true).open(path))?;
        let block = vec![0xa5u8; 1 << 20];
        for size in [1 << 20, 4 << 10, 1] {
            while file.write_all(&block[..size]).is_ok() {}
        }
        ensure(super::system::statvfs("/data").is_ok_and(|(_, free)| free < 1 << 20), "it is not full")?;
        for service in ["steady", "kept"] {
            let before = status(service)?.pid;
            order(Command::Restart { service: service.to_owned() })?;
            eventually(|| {
                let now = status(service)?.pid;
                ensure(now.is_some() && now != before, &format!("{service} was not started"))
            })?;
        }
        Ok(())
    };
    let verdict = fill();
    told(std::fs::remove_file(path))?;
    verdict
}
