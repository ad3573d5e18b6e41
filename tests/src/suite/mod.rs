//! `cargo suite [unit | system] [FILTER…]`: every check of the workspace, in order. Two are not among them: `cargo suite
//! fuzz`, which runs as long as it is told to ([`fuzz`]), and `cargo suite kernel`, which compiles a kernel and boots it.
//!
//! | step | part | checks |
//! |---|---|---|
//! | format, spelling, lints | unit | rustfmt, typos, clippy without warnings |
//! | UEFI loader | unit | the one in krazy-boot is what its sources give |
//! | documentation | unit | `cargo doc` without warnings, the book in `docs/` |
//! | unit tests | unit | every crate but this one, with a short run of every fuzz target, and documentation tests |
//! | system tests | system | the real program: its images before foreign judges and in QEMU |
//!
//! `cargo suite loader --bless` replaces the compiled UEFI loader ([`loader`]).
//!
//! A step that fails ends the suite after all of its tests have run. The last line is the outcome.

mod fuzz;
mod loader;
mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::report::Tally;
use crate::process::{SYSTEM_DIRECTORIES, is_root};
use crate::setup::{self, target_directory, tools, workspace};

/// The number of slowest tests that are listed at the end.
const LISTED_TESTS: usize = 10;

/// Arguments of the suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    unit: bool,
    system: bool,
    /// The tests of a kernel of our own instead of the other system tests.
    kernel: bool,
    /// Seconds and names of fuzz targets, if these are to be run and nothing else.
    fuzz: Option<(u64, Vec<String>)>,
    /// Set if the UEFI loader is to be compared (false) or replaced (true), and nothing else.
    loader: Option<bool>,
    /// Filters of nextest; with any of them only tests are run.
    filters: Vec<OsString>,
}

impl Options {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut filters: Vec<OsString> = arguments.into_iter().collect();
        let part = filters.first().and_then(|first| first.to_str()).unwrap_or_default().to_owned();
        let (unit, system) = match part.as_str() {
            "unit" => (true, false),
            "system" | "kernel" => (false, true),
            "" => (true, true),
            "fuzz" => {
                let texts: Vec<_> =
                    filters[1..].iter().map(|text| text.to_string_lossy().into_owned()).collect();
                let (seconds, targets) = match texts.split_first() {
                    Some((seconds, targets)) => (
                        seconds.parse().with_context(|| format!("`{seconds}` is no number of seconds"))?,
                        targets,
                    ),
                    None => (fuzz::SECONDS, &[][..]),
                };
                let fuzz = Some((seconds, targets.to_vec()));
                return Ok(Options { fuzz, ..Options::default() });
            }
            "loader" => {
                let bless = match &filters[1..] {
                    [] => false,
                    [flag] if flag == "--bless" => true,
                    _ => bail!("use `cargo suite loader` or `cargo suite loader --bless`"),
                };
                return Ok(Options { loader: Some(bless), ..Options::default() });
            }
            _ => bail!(
                "unknown part `{part}`; use `cargo suite`, `cargo suite unit [FILTER…]`, `cargo suite system [FILTER…]`, \
                 `cargo suite kernel`, `cargo suite loader [--bless]` or `cargo suite fuzz [SECONDS [TARGET…]]`"
            ),
        };
        if unit != system {
            filters.remove(0);
        }
        Ok(Options { unit, system, kernel: part == "kernel", filters, ..Options::default() })
    }
}

/// Runs the suite with the arguments of this process.
pub fn main() -> ExitCode {
    let begin = Instant::now();
    let mut tally = Tally::default();
    let outcome = Options::parse(std::env::args_os().skip(1)).and_then(|options| run(&options, &mut tally));
    for (name, time) in tally.slowest(LISTED_TESTS) {
        eprintln!("suite: {:>6.1} s  {name}", time.as_secs_f64());
    }
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

fn run(options: &Options, tally: &mut Tally) -> Result<()> {
    if let Some((seconds, targets)) = &options.fuzz {
        return step("fuzzing", || fuzz::run(*seconds, targets));
    }
    if let Some(bless) = options.loader {
        step("tools", setup::install_missing)?;
        return step("UEFI loader", || loader::run(bless));
    }
    ensure!(
        is_root()?,
        "some tests mount file systems and change owners; run the suite as root, in a container for instance"
    );
    step("tools", setup::install_missing)?;
    if options.unit {
        if options.filters.is_empty() {
            check_sources()?;
        }
        let workspace = ["--workspace", "--exclude", "krazy-tests", "--all-features"];
        tests("unit tests", "default", &workspace, options, tally)?;
        if options.filters.is_empty() {
            let documentation = ["test", "--quiet", "--workspace", "--all-features", "--doc"];
            step("documentation tests", || status(cargo().args(documentation)))?;
        }
    }
    if options.system {
        step("the program", || {
            // The unit tests have compiled it with these features; `--test` adds those of the development dependencies.
            let mut build = cargo();
            build.args(["build", "--workspace", "--exclude", "krazy-tests", "--all-features"]);
            status(build.args(["--bin", "cargo-krazy", "--test", "cli"]))
        })?;
        let of_kernel = ["--package", "krazy-tests", "--ignore-default-filter", "-E", "binary(own_kernel)"];
        let packages = if options.kernel { &of_kernel[..] } else { &of_kernel[..2] };
        tests("system tests", "system", packages, options, tally)?;
    }
    ensure!(tally.count() > 0, "no test matches {:?}", options.filters);
    Ok(())
}

/// The checks that need no test.
fn check_sources() -> Result<()> {
    step("format", || {
        status(cargo().args(["fmt", "--all", "--check"]))?;
        status(cargo().args(["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]))
    })?;
    step("spelling", || status(tools::typos()?.current_dir(workspace())))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    step("lints", || status(cargo().args(lints)))?;
    step("UEFI loader", || loader::run(false))?;
    step("documentation", || {
        let mut doc = cargo();
        doc.args([
            "doc",
            "--quiet",
            "--workspace",
            "--all-features",
            "--no-deps",
            "--document-private-items",
        ]);
        // Private items are documented, too, so links to them are not broken.
        status(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))?;
        let book = target_directory().join("book");
        status(tools::MDBOOK.command().arg("build").arg(workspace().join("docs")).arg("--dest-dir").arg(book))
    })
}

/// Runs the tests of `packages` under nextest with one of the profiles of `.config/nextest.toml`.
fn tests(what: &str, profile: &str, packages: &[&str], options: &Options, tally: &mut Tally) -> Result<()> {
    // nextest keeps it there, whatever CARGO_TARGET_DIR says.
    let junit = workspace().join("target").join("nextest").join(profile).join("junit.xml");
    // A report of an earlier run must not be counted if this one does not get as far as its own.
    if junit.exists() {
        std::fs::remove_file(&junit)?;
    }
    let outcome = step(what, || {
        let mut nextest = cargo();
        // No test is skipped: an ignored one is run, too.
        nextest.args(["nextest", "run", "--no-fail-fast", "--run-ignored", "all", "--profile", profile]);
        nextest.args(["--no-tests", "pass", "--cargo-quiet"]).args(packages).args(&options.filters);
        // `Krazy` need not ask cargo for the program in every test.
        let program = target_directory().join("debug").join("cargo-krazy");
        if profile == "system" {
            nextest.env("KRAZY_TEST_PROGRAM", program);
        }
        status(&mut nextest)
    });
    if junit.exists() {
        tally.add(&std::fs::read_to_string(&junit)?)?;
    }
    outcome
}

/// Runs a step, and prints its name before and its duration after it.
fn step(what: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    eprintln!("suite: {what}");
    run().with_context(|| what.to_owned())?;
    eprintln!("suite: {what}: {}", minutes(begin.elapsed()));
    Ok(())
}

/// A cargo command in the workspace, with the suite's tools on its PATH.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = [tools::NEXTEST.directory()]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(SYSTEM_DIRECTORIES.map(PathBuf::from));
    // Only a directory whose name contains a colon cannot be joined.
    if let Ok(path) = std::env::join_paths(directories) {
        cargo.env("PATH", path);
    }
    cargo.current_dir(workspace());
    cargo
}

fn status(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("failed to run {command:?}"))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_filters_are_told_apart() {
        let parse = |arguments: &[&str]| Options::parse(arguments.iter().map(OsString::from));
        let options = |unit, system, filters: &[&str]| Options {
            unit,
            system,
            filters: filters.iter().map(OsString::from).collect(),
            ..Options::default()
        };
        assert_eq!(parse(&[]).unwrap(), options(true, true, &[]));
        assert_eq!(parse(&["unit", "selector"]).unwrap(), options(true, false, &["selector"]));
        assert_eq!(parse(&["system", "rpi"]).unwrap(), options(false, true, &["rpi"]));
        assert_eq!(parse(&["kernel"]).unwrap(), Options { kernel: true, ..options(false, true, &[]) });
        let fuzz = |seconds, targets: &[&str]| {
            Some((seconds, targets.iter().map(|&name| name.to_owned()).collect()))
        };
        assert_eq!(parse(&["fuzz"]).unwrap().fuzz, fuzz(fuzz::SECONDS, &[]));
        assert_eq!(parse(&["fuzz", "60", "fat"]).unwrap().fuzz, fuzz(60, &["fat"]));
        assert!(parse(&["fuzz", "fat"]).is_err());
        assert_eq!(parse(&["loader"]).unwrap().loader, Some(false));
        assert_eq!(parse(&["loader", "--bless"]).unwrap().loader, Some(true));
        assert!(parse(&["loader", "x"]).is_err());
        assert!(parse(&["rpi"]).unwrap_err().to_string().contains("cargo suite system [FILTER…]"));
    }

    #[test]
    fn durations_are_printed_in_minutes() {
        assert_eq!(minutes(Duration::from_secs(127)), "2 min 07 s");
    }
}
