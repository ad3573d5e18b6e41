//! Adding a target with rustup, and remembering for a while that it did not work.
//!
//! A machine without the network, or behind a mirror that lacks the target, would otherwise ask and wait before
//! every build.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::environment::Environment;
use crate::shell::Shell;

/// Time for which a failure is remembered.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// The reason that rustup did not add a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The message of rustup, on one line.
    pub(crate) reason: String,
    /// True if that was an earlier time, and rustup was not asked again.
    pub(crate) remembered: bool,
}

/// Adds the target `triple` to `toolchain`, unless that failed within the last hour, which the file `memory`
/// tells. rustup runs in `directory`.
pub(crate) fn add_target(
    env: &Environment,
    rustup: &Path,
    toolchain: &str,
    triple: &str,
    directory: &Path,
    memory: &Path,
    shell: Shell,
) -> Result<(), Refusal> {
    let subject = format!("{toolchain} {triple}");
    if let Some(reason) = remembered(memory, &subject) {
        return Err(Refusal { reason, remembered: true });
    }
    shell.status("Adding", format!("target {triple} to toolchain {toolchain}"));
    let args = ["target", "add", "--toolchain", toolchain, triple];
    let Err(error) = env.ask(rustup, &args, Some(directory)) else { return Ok(()) };
    let reason = summary(&format!("{error:#}"));
    // The memory only saves time: without it, rustup is asked again.
    let _forgotten = memory
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(memory, format!("{subject}\n{reason}\n")));
    Err(Refusal { reason, remembered: false })
}

/// Returns the content of the file `memory` about `subject`, if it is fresh.
fn remembered(memory: &Path, subject: &str) -> Option<String> {
    let written = fs::metadata(memory).and_then(|meta| meta.modified()).ok()?;
    // A file from the future counts as none: the clock was set back.
    SystemTime::now().duration_since(written).ok().filter(|age| *age < MEMORY)?;
    let text = fs::read_to_string(memory).ok()?;
    let (about, reason) = text.split_once('\n')?;
    (about == subject).then(|| reason.trim().to_owned())
}

/// Returns the error and its causes from rustup's output, which has progress before and maybe a backtrace after them.
fn summary(said: &str) -> String {
    let from = said.find("error: ").map_or(0, |at| at + "error: ".len());
    let until = said.find("Stack backtrace:").filter(|end| *end > from).unwrap_or(said.len());
    let lines = said[from..until].lines().map(|line| {
        let line = line.trim();
        // Causes are numbered when there is more than one.
        line.split_once(": ")
            .filter(|(number, _)| number.parse::<u8>().is_ok())
            .map_or(line, |(_, cause)| cause)
    });
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect();
    lines.join(": ")
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;

    const SAID: &str = "info: downloading component rust-std
error: component download failed for rust-std-x

Caused by:
    0: could not download file from 'https://host/x'
    1: http request returned an unsuccessful status code: 404

Stack backtrace:
   0: main
";

    #[test]
    fn reason_is_one_line() {
        let reason = "component download failed for rust-std-x: could not download file from 'https://host/x': \
                      http request returned an unsuccessful status code: 404";
        assert_eq!(summary(SAID), reason);
        assert_eq!(summary("failed to run rustup: No such file"), "failed to run rustup: No such file");
    }

    #[test]
    fn failure_is_remembered_for_one_target_and_an_hour() {
        let machine = Machine::new();
        let memory = machine.path("krazy/rustup-failure");
        machine.program("rustup", "echo asked >> \"$0.log\"; echo error: no network >&2; exit 1");
        let shell = Shell::default();
        let add = |triple: &str| {
            let rustup = machine.path("rustup");
            add_target(
                &machine.environment(&[]),
                &rustup,
                "stable",
                triple,
                &machine.path(""),
                &memory,
                shell,
            )
        };
        let asked = || fs::read_to_string(machine.path("rustup.log")).unwrap().lines().count();
        assert_eq!(add("a").unwrap_err(), Refusal { reason: "no network".into(), remembered: false });
        assert_eq!(add("a").unwrap_err(), Refusal { reason: "no network".into(), remembered: true });
        assert_eq!(asked(), 1);
        add("b").unwrap_err();
        assert_eq!(asked(), 2);
        let old = SystemTime::now() - 2 * MEMORY;
        fs::File::options().write(true).open(&memory).unwrap().set_modified(old).unwrap();
        add("b").unwrap_err();
        assert_eq!(asked(), 3);
    }
}
