//! `cargo krazy run-qemu` with a shell script in the place of QEMU: what it is told, and what becomes of its end.

#![allow(clippy::unwrap_used, reason = "all of this file is a test; clippy exempts only the test functions")]

use std::fs;

use snapbox::cmd::{Command, cargo_bin};
use snapbox::{Redactions, str};
use tempfile::TempDir;

/// A directory with an image and, unless `script` is empty, with a QEMU that runs it.
fn machine(script: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.img"), [0; 512]).unwrap();
    fs::create_dir(directory.path().join("bin")).unwrap();
    if !script.is_empty() {
        let qemu = directory.path().join("bin/qemu-system-x86_64");
        // Another process writes the file: a descriptor of ours, inherited by a test that forks at this moment, would
        // make the script "busy".
        let write = r#"printf '%s\n' '#!/bin/sh' "$1" >"$0"; chmod 755 "$0""#;
        let status =
            std::process::Command::new("sh").args(["-c", write]).arg(qemu).arg(script).status().unwrap();
        assert!(status.success());
    }
    directory
}

/// `cargo krazy run-qemu --accel tcg ARGS` on that machine.
fn run(directory: &TempDir, args: &[&str]) -> Command {
    prepared(Command::new(cargo_bin!("cargo-krazy")), directory)
        .args(["krazy", "run-qemu", "--accel", "tcg"])
        .args(args)
}

fn prepared(command: Command, directory: &TempDir) -> Command {
    let mut redactions = Redactions::new();
    redactions.insert("[DIR]", directory.path().to_owned()).unwrap();
    command
        .with_assert(snapbox::Assert::new().redact_with(redactions).action_env("SNAPSHOTS"))
        .current_dir(directory.path())
        .env("PATH", directory.path().join("bin"))
}

#[test]
fn a_missing_qemu_says_how_to_get_it() {
    run(&machine(""), &["--image", "a.img"]).assert().code(5).stdout_eq("").stderr_eq(str![[r#"
error: `qemu-system-x86_64` is not installed
   help: install it: `sudo apt install qemu-system-x86` (Debian, Ubuntu), `sudo dnf install qemu-system-x86-core` (Fedora), `brew install qemu` (macOS)

"#]]);
}

#[test]
fn a_missing_image_says_how_to_make_it() {
    run(&machine("exit 0"), &["--image", "b.img"]).assert().code(1).stdout_eq("").stderr_eq(str![[r#"
error: there is no image `b.img`
   help: `cargo krazy image` makes it

"#]]);
}

#[test]
fn arguments_after_two_dashes_go_to_qemu() {
    let directory = machine("for argument; do echo \"<$argument>\"; done");
    let output = run(&directory, &["--image", "a.img", "--", "-device", "e1000,id=a b"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("<-device>\n<e1000,id=a b>\n"), "{said}");
    assert!(!said.contains("<-kernel>") && said.contains("a.img"), "{said}");
    assert!(!said.contains("snapshot"), "{said}");
    let output = run(&directory, &["--image", "a.img", "--snapshot"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("snapshot"));
}

#[test]
fn the_expected_text_and_the_time_limit_decide_the_exit_code() {
    let directory = machine("echo ready; exec /bin/sleep 3600");
    run(&directory, &["--image", "a.img", "--expect", "ready"]).assert().success().stdout_eq("ready\n");
    let args = ["--image", "a.img", "--expect", "never", "--timeout", "0.5"];
    run(&directory, &args).assert().code(8).stdout_eq("ready\n").stderr_eq(str![[r#"
error: `never` did not appear on the serial line within 0.5 s
   help: the serial line ended with:
  | ready

"#]]);
    let directory = machine("echo bye");
    run(&directory, &["--image", "a.img"]).assert().success();
    run(&directory, &["--image", "a.img", "--expect", "ready"]).assert().code(8).stderr_eq(str![[r#"
error: `ready` did not appear on the serial line before the machine ended
   help: the serial line ended with:
  | bye

"#]]);
    let directory = machine("echo 'qemu: could not open disk' >&2; exit 1");
    run(&directory, &["--image", "a.img"]).assert().code(1).stderr_eq(str![[r#"
error: QEMU ended with status 1: qemu: could not open disk

"#]]);
}

#[test]
fn no_terminal_is_needed_and_input_reaches_the_machine() {
    let directory = machine("read line; echo \"heard $line\"");
    run(&directory, &["--image", "a.img", "--timeout", "120"])
        .stdin("hello\n")
        .assert()
        .success()
        .stdout_eq("heard hello\n");
    let directory = machine("echo ready; exec /bin/sleep 3600");
    let program = cargo_bin!("cargo-krazy").display().to_string();
    for input in ["<&-", "</dev/null"] {
        let line =
            format!("exec '{program}' krazy run-qemu --accel tcg --image a.img --expect ready {input}");
        prepared(Command::new("/bin/sh"), &directory)
            .args(["-c", &line])
            .assert()
            .success()
            .stdout_eq("ready\n");
    }
}

#[test]
fn programs_get_messages_and_the_serial_line_apart() {
    let args = ["--image", "a.img", "--publish", "0:80", "--message-format", "json"];
    let output = run(&machine("echo serial"), &args).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("serial\n"));
    let said = String::from_utf8(output.stdout).unwrap();
    let messages: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(messages.len(), 2, "{said}");
    assert_eq!((&messages[1]["reason"], &messages[1]["outcome"]), (&"qemu-finished".into(), &"ended".into()));
}
