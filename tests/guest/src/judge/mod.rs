//! The judge: a service that is root, watches init through the control socket and `/proc`, and prints a line a case:
//! `case NAME: ok` or `case NAME: FAILED why`. The host collects the lines and compares them with its list.
//!
//! The machine restarts several times under it; what it does follows from what was booted:
//!
//! | boot | is | judged |
//! |---|---|---|
//! | 1 | slot A, confirmed | the system, services and their faults; at its end slot B is armed |
//! | 2 | slot B on trial, with a required service that breaks | the state during a trial |
//! | 3 | slot A again | the reason of the failed trial; slot B is armed again |
//! | 4 | slot B on trial, nothing breaks | confirmation, on a disk that the host makes slow; at its end init is hit by a fatal signal |
//! | 5 | slot B, confirmed | the end before, and `/data` that turns read-only; the host presses the power button |
//!
//! With `--malformed` it judges a machine without `/data` and network whose root is malformed; with `--link`, one whose
//! network the host simulates.

mod checks;
mod faults;
mod limits;
mod malformed;
mod ports;
mod slots;
mod slow_disk;
mod socket;
mod system;
mod traps;

use std::fs;

use krazy_boot::disk::slot::Slot;
use krazy_init::control::{Client, Command, ExitReason, LogStream, ServiceStatus};

use crate::rest;
use crate::rights::told;

/// The line that the host waits for before it acts on the machine.
pub const WAITING: &str = "waiting for the host";

/// Counts the boots.
const BOOTS: &str = "/data/judge/boots";

/// The outcome of a case, with the reason of a failure.
pub type Verdict = Result<(), String>;

/// Judges one case and prints the verdict.
pub fn case(name: &str, judge: impl FnOnce() -> Verdict) {
    match judge() {
        Ok(()) => println!("case {name}: ok"),
        Err(why) => println!("case {name}: FAILED {}", why.replace('\n', " / ")),
    }
}

/// Fails the case with `why` unless `holds`.
pub fn ensure(holds: bool, why: &str) -> Verdict {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}

/// Judges the machine.
pub fn run() {
    match std::env::args().nth(1).as_deref() {
        Some("--malformed") => return malformed::judge(),
        Some("--fixed") => return malformed::judge_fixed(),
        Some("--link") => return malformed::judge_link(),
        _ => {}
    }
    let boot = fs::read_to_string(BOOTS).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0u32) + 1;
    if let Err(error) = fs::write(BOOTS, boot.to_string()) {
        println!("case the judge counts boots: FAILED {error}");
    }
    let slot = ask(|client| client.boot()).ok().and_then(|info| info.slot);
    println!("boot {boot}, slot {}", slot.map_or("?", Slot::letter));
    match boot {
        1 => {
            faults::order_of_start();
            system::judge();
            limits::judge();
            ports::judge();
            checks::judge();
            traps::judge();
            traps::stopped_start();
            faults::judge();
            socket::judge();
            slots::arm();
        }
        2 => slots::on_trial(),
        3 => slots::returned(),
        4 => slots::confirm(),
        _ => slots::end(),
    }
    // Everything from here on is the host's or init's doing.
    rest();
}

/// Asks init over a connection of its own.
fn ask<T>(
    question: impl FnOnce(&mut Client) -> Result<T, krazy_init::control::ClientError>,
) -> Result<T, String> {
    Client::connect().and_then(|mut client| question(&mut client)).map_err(|error| error.to_string())
}

fn order(command: Command) -> Verdict {
    ask(|client| client.order(command))
}

fn status(service: &str) -> Result<ServiceStatus, String> {
    ask(|client| client.status(service))
}

fn log(service: &str) -> Result<String, String> {
    let lines = ask(|client| client.logs(service, LogStream::Out, 1000))?;
    Ok(lines.into_iter().map(|line| line.text + "\n").collect())
}

/// Gives `service` the signal that it waits for.
fn give_word(service: &str) -> Verdict {
    told(fs::write(crate::word(service), ""))
}

fn ended_by(service: &str, wanted: &ExitReason) -> Verdict {
    let last = status(service)?.last_exit;
    ensure(last.as_ref() == Some(wanted), &format!("{service} ended by {last:?}"))
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// The numbers of all processes, with their parents' and states.
fn processes() -> Vec<(i32, i32, char)> {
    let entries =
        fs::read_dir("/proc").map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let stat = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((pid, fields.next()?.parse().ok()?, state))
    };
    numbers.filter_map(stat).collect()
}
