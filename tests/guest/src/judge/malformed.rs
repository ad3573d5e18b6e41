//! A malformed machine: its root holds programs that cannot run and three hundred that can, its `/data` is damaged, and
//! it has no network card.

use krazy_init::control::{Command, ExitReason, ServiceState};

use super::{WAITING, ask, case, ensure, order, read, status};
use crate::rest;
use crate::rights::eventually;

/// Programs that cannot run, and a part of the reason.
const BROKEN: [(&str, &str); 4] = [
    ("missing", "No such file"),
    ("not-executable", "Permission denied"),
    ("other-architecture", "Exec format error"),
    ("no-interpreter", "No such file"),
];

/// Copies of one service that does nothing.
pub const COPIES: usize = 300;

/// A machine whose network the host simulates.
pub fn judge_link() {
    case("name servers come from DHCP and from the router", || {
        eventually(|| {
            let servers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let wanted = ["nameserver 10.9.0.1\n", "nameserver fd00::53\n"];
            ensure(wanted.iter().all(|server| servers.contains(server)), &servers)
        })
    });
    rest();
}

/// A machine with a fixed address and a read-only disk.
pub fn judge_fixed() {
    case("a fixed address needs no address server", || {
        eventually(|| {
            let addresses = read("/proc/net/fib_trie")?;
            ensure(addresses.contains("10.0.2.77") && !addresses.contains("10.0.2.15"), &addresses)?;
            let routes = read("/proc/net/route")?;
            ensure(routes.lines().any(|line| line.contains("\t00000000\t0202000A\t")), &routes)?;
            ensure(ask(|client| client.boot())?.milestones.network, "it does not count as a network")
        })
    });
    case("a disk that cannot be written is said, and services run", || {
        let info = ask(|client| client.boot())?;
        let told = info.degraded.iter().any(|text| text.contains("/data is temporary"));
        ensure(told && !info.milestones.data, &info.degraded.join("; "))?;
        ensure(std::fs::write("/data/judge/x", "x").is_ok(), "/data cannot be written")
    });
    if let Err(why) = order(Command::Halt) {
        println!("case the machine halts: FAILED {why}");
    }
    rest();
}

pub fn judge() {
    case("a damaged /data is replaced by a temporary one, and that is said", || {
        let info = ask(|client| client.boot())?;
        ensure(!info.milestones.data, "it counts as the disk's")?;
        let told = info
            .degraded
            .iter()
            .any(|text| text.contains("/data is temporary") && text.contains("no intact ext4"));
        ensure(told, &info.degraded.join("; "))?;
        ensure(std::fs::write("/data/judge/x", "x").is_ok(), "it cannot be written")
    });
    case("a machine without network card runs", || {
        let info = ask(|client| client.boot())?;
        ensure(!info.milestones.network, "it has a network")?;
        ensure(!info.degraded.iter().any(|text| text.contains("network")), &info.degraded.join("; "))
    });
    for (service, why) in BROKEN {
        case(&format!("a service that cannot run is told and tried again: {service}"), || {
            eventually(|| {
                let found = status(service)?;
                let said =
                    matches!(&found.last_exit, Some(ExitReason::NotStarted(text)) if text.contains(why));
                ensure(
                    said && found.restarts > 2 && found.state == ServiceState::Backoff,
                    &format!("{found:?}"),
                )
            })
        });
    }
    case("three hundred services run and are looked after", || {
        eventually(|| {
            let services = ask(|client| client.list())?;
            let copies: Vec<_> =
                services.iter().filter(|service| service.name.starts_with("copy-")).collect();
            let running = copies.iter().filter(|service| service.state == ServiceState::Running).count();
            ensure(copies.len() == COPIES && running == COPIES, &format!("{running} of {}", copies.len()))
        })?;
        for name in ["copy-000", "copy-150", "copy-299"] {
            let before = status(name)?;
            let pid = before.pid.and_then(|pid| i32::try_from(pid).ok()).ok_or("no pid")?;
            // SAFETY: kill has no effect on memory.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            eventually(|| {
                let after = status(name)?;
                ensure(after.pid.is_some() && after.pid != before.pid, &format!("{after:?}"))
            })?;
        }
        Ok(())
    });
    println!("{WAITING}: Ctrl-Alt-Del");
    rest();
}
