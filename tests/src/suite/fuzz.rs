//! `cargo suite fuzz [SECONDS [TARGET…]]`: the fuzz targets of `/fuzz`, with a time limit for each. The suite itself only
//! runs them as unit tests (`fuzz/smoke.rs`), because this build compiles every dependency a second time.
//!
//! One cargo invocation builds all targets with the coverage instrumentation that `cargo fuzz --sanitizer none` uses
//! too; it needs no nightly. Inputs that reach new code are kept in the target directory, so a later run continues
//! there. A crash, an input that takes more than [`INPUT_TIMEOUT`] or more memory than [`MEMORY_LIMIT`] fails the suite.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::{cargo, status};
use crate::process::find;
use crate::setup::{target_directory, workspace};

/// Seconds of each target, if none are given.
pub(super) const SECONDS: u64 = 60;

/// Limit of one input in seconds. Inputs take microseconds, but other work may share the machine.
const INPUT_TIMEOUT: u64 = 20;

/// Limit of a target's memory in MiB. A decompressor's dictionary takes up to 256 MiB.
const MEMORY_LIMIT: u64 = 1024;

/// Source: clang's SanitizerCoverage. Edges have counters, and comparisons tell their operands to libFuzzer.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The outcome of a target.
struct Outcome {
    target: String,
    executions: u64,
    seconds: u64,
    /// The end of libFuzzer's log, if it found something.
    finding: Option<String>,
}

/// Builds all targets and runs those named, or all, for `seconds` each.
pub(super) fn run(seconds: u64, named: &[String]) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        bail!("unknown fuzz target `{unknown}`; there are {}", all.join(", "));
    }
    let directory = build()?;
    let queue = Mutex::new(if named.is_empty() { all } else { named.to_vec() });
    let next = || queue.lock().ok()?.pop();
    let work = || -> Result<Vec<Outcome>> {
        std::iter::from_fn(next).map(|target| fuzz(&directory, target, seconds)).collect()
    };
    let workers = thread::available_parallelism()?.get();
    let outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
            .collect()
    });
    let outcomes: Result<Vec<Vec<Outcome>>> = outcomes;
    let mut outcomes: Vec<_> = outcomes?.into_iter().flatten().collect();
    outcomes.sort_by(|one, other| one.target.cmp(&other.target));
    report(&outcomes)
}

/// Prints the table; findings are an error.
fn report(outcomes: &[Outcome]) -> Result<()> {
    eprintln!("| target | executions | seconds | findings |\n|---|---:|---:|---|");
    for Outcome { target, executions, seconds, finding } in outcomes {
        let findings = if finding.is_some() { "yes" } else { "none" };
        eprintln!("| {target} | {executions} | {seconds} | {findings} |");
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    eprintln!("| all | {} | {} | |", sum(|outcome| outcome.executions), sum(|outcome| outcome.seconds));
    let found: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}:\n{}", outcome.target, outcome.finding.as_ref()?)))
        .collect();
    ensure!(found.is_empty(), "fuzzing found faults:\n{}", found.join("\n"));
    Ok(())
}

/// Returns the names of all targets.
fn targets() -> Result<Vec<String>> {
    let directory = workspace().join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&directory).with_context(|| format!("failed to read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets. Returns the directory of the executables.
fn build() -> Result<PathBuf> {
    ensure!(find("c++").is_some(), "libFuzzer needs a C++ compiler; install the Debian package g++");
    let host = host()?;
    let directory = target_directory().join("fuzz");
    let mut build = cargo();
    // With a target, cargo does not instrument build scripts and procedural macros.
    build.args(["build", "--quiet", "--release", "--bins", "--target", &host, "--manifest-path"]);
    build.arg(workspace().join("fuzz/Cargo.toml")).arg("--target-dir").arg(&directory);
    status(build.env("RUSTFLAGS", RUSTFLAGS))?;
    Ok(directory.join(host).join("release"))
}

/// Returns the target triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("failed to run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// Runs one target.
fn fuzz(executables: &Path, target: String, seconds: u64) -> Result<Outcome> {
    let own = target_directory().join("fuzz-inputs").join(&target);
    let (corpus, artifacts) = (own.join("corpus"), own.join("artifacts"));
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("failed to create {}", directory.display()))?;
    }
    let log = own.join("log");
    let mut command = Command::new(executables.join(&target));
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={INPUT_TIMEOUT}"));
    command.arg(format!("-rss_limit_mb={MEMORY_LIMIT}")).args(["-print_final_stats=1", "-verbosity=1"]);
    command.args(["-max_len=4096", "-len_control=20"]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    // New inputs go into the first directory.
    command.arg(&corpus).arg(workspace().join("fuzz/seeds").join(&target));
    command.stdout(File::create(own.join("output"))?).stderr(File::create(&log)?);
    let status = command.status().with_context(|| format!("failed to run the fuzz target {target}"))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let executions = executions(&text);
    let lines: Vec<_> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(40)..].join("\n");
    ensure!(!status.success() || executions > 0, "the fuzz target {target} executed nothing:\n{end}");
    let finding = (!status.success()).then(|| format!("{status}; the whole log is {}\n{end}", log.display()));
    Ok(Outcome { target, executions, seconds, finding })
}

/// Returns the number of executions in libFuzzer's log: of the final statistics, or of the last status line, which is
/// all that a crash leaves.
fn executions(log: &str) -> u64 {
    let number = |line: &str| {
        let text = match line.strip_prefix("stat::number_of_executed_units:") {
            Some(number) => number,
            None => line.strip_prefix('#')?.split_whitespace().next()?,
        };
        text.trim().parse().ok()
    };
    log.lines().rev().find_map(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read_from_the_log() {
        let status = "INFO: seed corpus\n#2\tINITED cov: 9\n#4096\tpulse  cov: 9 ft: 10\n";
        assert_eq!(executions(status), 4096);
        assert_eq!(executions(&format!("{status}stat::number_of_executed_units: 5000\n")), 5000);
        assert_eq!(executions(""), 0);
    }

    #[test]
    fn every_target_has_seeds_a_unit_test_and_an_entry_in_the_manifest() {
        let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
        let manifest = read("fuzz/Cargo.toml");
        let functions = [
            "cargo-krazy/src/fuzzing.rs",
            "krazy-admind/src/fuzzing.rs",
            "krazy-boot/src/fuzzing/mod.rs",
            "krazy-init/src/fuzzing.rs",
        ];
        let unit_tests: String =
            functions.map(|path| read(path).split_once("smoke_tests! {").unwrap().1.to_owned()).concat();
        for target in targets().unwrap() {
            assert!(manifest.contains(&format!("name = {target:?}")), "{target}");
            assert!(unit_tests.contains(&format!(" {target}: ")), "{target}");
            let seeds = fs::read_dir(workspace().join("fuzz/seeds").join(&target)).unwrap();
            for seed in seeds {
                assert!(seed.unwrap().metadata().unwrap().len() <= 4096, "{target}");
            }
        }
    }
}
