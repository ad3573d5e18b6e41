//! The measurements of `cargo figures boot` from within the machine: the same program under every init.
//!
//! It prints `probe started US`, microseconds of guest time from the first stage's start to its own; `probe memory KIB`,
//! resident memory of all supervising processes; and for each of [`ROUNDS`] services it kills `probe restart US`, the
//! time until the service is there again.

use std::fs;
use std::time::Duration;

use crate::{kernel_log, rest};

/// The names of supervising processes besides PID 1.
const SUPERVISORS: [&str; 2] = ["runsvdir", "runsv"];

/// Services to kill: `copy-000` and on.
const ROUNDS: usize = 5;

/// Time for everything to start, and for every init to count a service as stable.
const SETTLE: Duration = Duration::from_secs(12);

/// Measures and prints the results.
pub fn run() {
    let now = since_boot();
    match first_stage() {
        Some(start) => println!("probe started {}", (now - start).as_micros()),
        None => println!("probe: the kernel does not say when it ran /init"),
    }
    std::thread::sleep(SETTLE);
    let memory: u64 = supervisors().into_iter().filter_map(resident).sum();
    println!("probe memory {memory}");
    for round in 0..ROUNDS {
        let name = format!("copy-{round:03}");
        let Some(victim) = named(&name) else {
            println!("probe: there is no {name}");
            continue;
        };
        // SAFETY: kill has no effect on memory.
        unsafe { libc::kill(victim, libc::SIGKILL) };
        let start = since_boot();
        while named(&name).is_none_or(|now| now == victim) && since_boot() - start < SETTLE {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("probe restart {}", (since_boot() - start).as_micros());
    }
    println!("probe done");
    rest();
}

/// Time since the kernel's start, as its log counts it.
fn since_boot() -> Duration {
    // SAFETY: the kernel fills the structure, which is plain data.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
        now
    };
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Returns the time at which the kernel ran `/init`.
fn first_stage() -> Option<Duration> {
    kernel_log::find(|message| message.starts_with("Run /init as init process"))
}

fn processes() -> Vec<(i32, String)> {
    let entries =
        fs::read_dir("/proc").map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let named = |pid| Some((pid, fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned()));
    numbers.filter_map(named).collect()
}

fn named(name: &str) -> Option<i32> {
    processes().into_iter().find(|(_, comm)| comm == name).map(|(pid, _)| pid)
}

fn supervisors() -> Vec<i32> {
    let is_supervisor = |(pid, name): &(i32, String)| *pid == 1 || SUPERVISORS.contains(&name.as_str());
    processes().into_iter().filter(is_supervisor).map(|(pid, _)| pid).collect()
}

/// Resident memory in KiB.
fn resident(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
