//! What `cargo suite` does, in order. A step that fails ends it, after all of its tests have run; the last line tells
//! the outcome.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{cross, judges};

/// Runs the whole suite. Arguments are handed to the system tests as libtest filters.
pub fn main() -> ExitCode {
    let filters: Vec<OsString> = std::env::args_os().skip(1).collect();
    let begin = Instant::now();
    let mut tally = Tally::default();
    let outcome = run(&filters, &mut tally);
    let time = minutes(begin.elapsed());
    match outcome {
        Ok(()) => {
            eprintln!("suite passed: {tally} in {time}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("suite failed: {error:#}; {tally} in {time}");
            ExitCode::FAILURE
        }
    }
}

fn run(filters: &[OsString], tally: &mut Tally) -> Result<()> {
    judges::install_missing()?;
    if !judges::is_root()? {
        bail!(
            "some tests mount file systems and change owners; run the suite as root, in a container for instance"
        );
    }
    cross::install_missing()?;
    let mut step =
        |what: &str, arguments: &[&str], filters: &[OsString]| cargo(what, arguments, filters, tally);
    if filters.is_empty() {
        step("format", &["fmt", "--all", "--check"], &[])?;
        let lints = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        step("lints", &lints, &[])?;
        let units = ["test", "--workspace", "--all-features", "--exclude", "krazy-tests", "--no-fail-fast"];
        step("unit and integration tests", &units, &[])?;
    }
    step("the program", &["build", "--release", "--package", "cargo-krazy"], &[])?;
    // Two machines at a time keep two cores busy; each test is bounded by its own time limits.
    let system = ["test", "--package", "krazy-tests", "--no-fail-fast", "--", "--test-threads", "2"];
    step("system tests", &system, filters)?;
    ensure!(tally.ignored == 0, "{} tests were ignored", tally.ignored);
    ensure!(tally.passed > 0, "no test matches {filters:?}");
    Ok(())
}

/// Runs cargo, passes on what it says, and counts its tests.
fn cargo(what: &str, arguments: &[&str], filters: &[OsString], tally: &mut Tally) -> Result<()> {
    let begin = Instant::now();
    eprintln!("suite: {what}");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package has no workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(judges::ADMINISTRATORS.map(PathBuf::from));
    let mut child = Command::new(cargo)
        .current_dir(workspace)
        .env("PATH", std::env::join_paths(folders)?)
        .args(arguments)
        .args(filters)
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to run cargo")?;
    let mut stdout = BufReader::new(child.stdout.take().context("cargo has no standard output")?);
    let mut line = Vec::new();
    while stdout.read_until(b'\n', &mut line).context("failed to read what cargo says")? > 0 {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        tally.add(&text);
        line.clear();
    }
    let status = child.wait().context("failed to wait for cargo")?;
    eprintln!("suite: {what}: {}", minutes(begin.elapsed()));
    ensure!(status.success(), "{what}: {status}");
    Ok(())
}

/// Tests, as libtest counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Counts what a line such as `test result: ok. 5 passed; 0 failed; 0 ignored; …` tells.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tests passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 25 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.27s\n");
        tally.add("test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n");
        tally.add("test config::a_test_result ... ok\n");
        assert_eq!(tally, Tally { passed: 30, failed: 2, ignored: 1 });
        assert_eq!(tally.to_string(), "30 tests passed, 2 failed, 1 ignored");
        assert_eq!(minutes(Duration::from_secs(127)), "2 min 07 s");
    }
}
