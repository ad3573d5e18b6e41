//! What an interrupt does to a process: each test starts itself again as a child and sends that SIGINT.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this file is a test; clippy exempts only the test functions"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cargo_krazy::failure::Exit;
use cargo_krazy::interrupt;
use rustix::process::{Pid, Signal, kill_process};

/// Names the file a child holds while it works; where it is set, a test is the child.
const HELD: &str = "KRAZY_TEST_HELD_FILE";

/// Starts the test `name` as a child and waits until it works.
fn start(name: &str, held: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .stderr(Stdio::piped())
        .env(HELD, held)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("working")), "{name} did not start");
    assert!(held.exists());
    child
}

fn interrupt_child(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

/// The child's exit code and what it said, and how long it took from now.
fn end(child: Child) -> (Option<i32>, String, Duration) {
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), start.elapsed())
}

/// Whether this process is a child.
fn is_child() -> bool {
    std::env::var_os(HELD).is_some()
}

#[test]
fn a_loop_that_checks_ends_by_itself() {
    if is_child() {
        return checking_child();
    }
    let directory = tempfile::tempdir().unwrap();
    let held = directory.path().join("held");
    let child = start("a_loop_that_checks_ends_by_itself", &held);
    interrupt_child(&child);
    assert_eq!(end(child).0, Some(Exit::Interrupted as i32));
    assert!(!held.exists());
}

#[test]
fn blocked_work_is_ended_after_its_cleanup() {
    if is_child() {
        return blocked_child();
    }
    let directory = tempfile::tempdir().unwrap();
    let held = directory.path().join("held");
    let child = start("blocked_work_is_ended_after_its_cleanup", &held);
    interrupt_child(&child);
    let (code, said, time) = end(child);
    assert_eq!((code, said.as_str()), (Some(Exit::Interrupted as i32), "error: interrupted\n"));
    assert!(!held.exists());
    assert!(time < Duration::from_secs(60), "{time:?}");
}

#[test]
fn what_was_forgotten_is_not_cleaned_up() {
    if is_child() {
        return finished_child();
    }
    let directory = tempfile::tempdir().unwrap();
    let held = directory.path().join("held");
    let child = start("what_was_forgotten_is_not_cleaned_up", &held);
    interrupt_child(&child);
    assert_eq!(end(child).0, Some(Exit::Interrupted as i32));
    assert!(held.exists());
}

/// Makes the held file, and registers its removal.
fn hold() -> (std::path::PathBuf, interrupt::Cleanup) {
    interrupt::install().unwrap();
    let held = std::path::PathBuf::from(std::env::var_os(HELD).unwrap());
    std::fs::write(&held, "").unwrap();
    let remove = held.clone();
    (held, interrupt::cleanup(move || std::fs::remove_file(remove).unwrap()))
}

fn checking_child() {
    let (held, guard) = hold();
    println!("working");
    let error = loop {
        match interrupt::check() {
            Ok(()) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => break error,
        }
    };
    // Longer than the grace period of work that did not notice.
    std::thread::sleep(Duration::from_millis(1500));
    drop(guard);
    std::fs::remove_file(held).unwrap();
    std::process::exit(error.exit() as i32);
}

fn blocked_child() {
    let (_held, _guard) = hold();
    println!("working");
    std::thread::sleep(Duration::from_secs(600));
}

fn finished_child() {
    let (_held, guard) = hold();
    drop(guard);
    println!("working");
    std::thread::sleep(Duration::from_secs(600));
}
