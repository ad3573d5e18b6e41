//! Runs the kernel's Makefile: in an environment of its own, with its output in a log, interruptible.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use rustix::process::{Pid, Signal, kill_process_group};

use super::tools::Toolchain;
use crate::board::KernelBuild;
use crate::failure::{Exit, Explain, Result};
use crate::files::io_failure;
use crate::interrupt;
use crate::shell::Shell;

/// The build time that every kernel reports: the real one would make two builds differ.
const TIMESTAMP: &str = "Thu Jan  1 00:00:00 UTC 1970";
/// Interval of checks for an interrupt while make is silent.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time make has to end its compilers after SIGTERM.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Lines of the log that an error shows.
const SHOWN: usize = 12;
/// Variables of the user's environment that make and compilers need; no other can change the result.
const PASSED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// A call of make that failed. `what` is the part of the kernel that it builds.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("failed to run make: {error}")]
    NotRun { error: io::Error },
    #[error("there is no room to build {what} in {}", directory.display())]
    NoRoom { what: String, directory: PathBuf },
    #[error("failed to build {what}:{}", lines.iter().map(|line| format!("\n  | {line}")).collect::<String>())]
    Failed { what: String, lines: Vec<String>, log: PathBuf },
}

impl Explain for MakeError {
    fn exit(&self) -> Exit {
        match self {
            MakeError::NotRun { .. } => Exit::MissingTool,
            MakeError::NoRoom { .. } | MakeError::Failed { .. } => Exit::Build,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            MakeError::NotRun { .. } => "install the package make".to_owned(),
            MakeError::NoRoom { .. } => {
                "make room, or set KRAZY_CACHE_DIR to a directory on a larger disk, and TMPDIR for the temporary files \
                 of compilers; the next run resumes"
                    .to_owned()
            }
            MakeError::Failed { log, .. } => {
                format!("the whole log is {}; the next run resumes", log.display())
            }
        })
    }
}

/// A build directory, and the arguments of make for it.
#[derive(Debug)]
pub(crate) struct Make<'m> {
    /// The source tree; nothing is written to it.
    pub(crate) tree: &'m Path,
    /// Everything make writes.
    pub(crate) objects: PathBuf,
    /// All output of all calls.
    pub(crate) log: PathBuf,
    /// The board's kernel.
    pub(crate) target: &'static KernelBuild,
    /// The compiler.
    pub(crate) toolchain: &'m Toolchain,
    /// Compilers at a time.
    pub(crate) jobs: NonZeroUsize,
}

impl Make<'_> {
    /// Empties the log.
    pub(crate) fn begin(&self) -> Result<()> {
        std::fs::create_dir_all(&self.objects).map_err(io_failure("create", &self.objects))?;
        File::create(&self.log).map_err(io_failure("write", &self.log))?;
        Ok(())
    }

    /// Makes `goals`. Returns the number of objects that were compiled.
    pub(crate) fn run(
        &self,
        what: &str,
        goals: &[&str],
        variables: &[String],
        shell: Shell,
    ) -> Result<usize> {
        let mut log = File::options().append(true).open(&self.log).map_err(io_failure("write", &self.log))?;
        let bar = shell.spinner("Compiling", what);
        let (reader, writer) = std::io::pipe().context("failed to make a pipe")?;
        let mut command = self.command(goals, variables);
        shell.verbose("Running", format!("{command:?}"));
        let spawned = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("failed to make a pipe")?)
            .stderr(writer)
            .spawn();
        // It holds the pipe's write end: the end of the output shows only once that is closed.
        drop(command);
        let mut running = Running(spawned.map_err(|error| MakeError::NotRun { error })?);
        let ended = self.listen(&lines(reader), &mut log, &bar, what);
        if ended.is_err() {
            running.stop();
        }
        bar.finish_and_clear();
        let seen = ended?;
        let status = running.0.wait().context("failed to wait for make")?;
        interrupt::check()?;
        if status.success() {
            return Ok(seen.objects);
        }
        Err(self.error(what, seen.lines).into())
    }

    /// The command, with as few variables as possible: the same source and configuration give the same bytes.
    fn command(&self, goals: &[&str], variables: &[String]) -> Command {
        let mut command = Command::new("make");
        command.env_clear();
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("KBUILD_BUILD_TIMESTAMP", TIMESTAMP)
            .env("KBUILD_BUILD_USER", "krazy")
            .env("KBUILD_BUILD_HOST", "krazy")
            .env("KBUILD_BUILD_VERSION", "1")
            // Set but empty: a source tree under git gets no `+` behind its version.
            .env("LOCALVERSION", "");
        let mut output = OsString::from("O=");
        output.push(&self.objects);
        command.arg("-C").arg(self.tree).arg(output).arg(format!("ARCH={}", self.target.arch));
        command.args(&self.toolchain.variables).args(variables).arg(format!("-j{}", self.jobs)).args(goals);
        // A process group of its own, so that an interrupt reaches make and all its compilers through us.
        command.process_group(0);
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            // A cargo-krazy that is killed must not leave a build running, either.
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        command
    }

    fn listen(
        &self,
        lines: &Receiver<String>,
        log: &mut File,
        bar: &ProgressBar,
        what: &str,
    ) -> Result<Seen> {
        let mut seen = Seen::default();
        loop {
            interrupt::check()?;
            match lines.recv_timeout(POLL_INTERVAL) {
                Ok(line) => {
                    writeln!(log, "{line}").map_err(io_failure("write", &self.log))?;
                    if seen.take(&line) {
                        bar.set_message(format!("{what}: {} objects, {}", seen.objects, line.trim()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(seen),
            }
        }
    }

    fn error(&self, what: &str, lines: Vec<String>) -> MakeError {
        let what = what.to_owned();
        if lines.iter().any(|line| line.contains("No space left on device")) {
            return MakeError::NoRoom { what, directory: self.objects.clone() };
        }
        MakeError::Failed { what, lines, log: self.log.clone() }
    }
}

/// The progress and the complaints in make's output.
#[derive(Debug, Default)]
struct Seen {
    /// Objects compiled.
    objects: usize,
    /// Complaints, or else the end of the output.
    lines: Vec<String>,
    complaints: bool,
}

impl Seen {
    /// Takes a line. Returns true if it is about a step of make, such as an object.
    fn take(&mut self, line: &str) -> bool {
        // `  CC      init/main.o`: two blanks, and what is done in capitals.
        let step = line.strip_prefix("  ").and_then(|rest| rest.split_once(' '));
        if let Some((verb, object)) = step
            && !verb.is_empty()
            && verb.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        {
            let compiled = object.trim_start_matches("[M]").trim().ends_with(".o");
            self.objects += usize::from(compiled);
            return true;
        }
        let complaint = line.contains("error:") || line.contains("Error ") || line.contains("***");
        let complaint = complaint || line.contains("No space left") || line.contains("not found");
        if complaint && !self.complaints {
            self.complaints = true;
            self.lines.clear();
        }
        if complaint || !self.complaints {
            self.lines.push(line.to_owned());
        }
        // Of complaints the first ones are the cause; of anything else the end tells more.
        if self.lines.len() > SHOWN {
            if self.complaints {
                self.lines.truncate(SHOWN);
            } else {
                self.lines.remove(0);
            }
        }
        false
    }
}

/// Make, which is ended with all its children when it is dropped.
struct Running(Child);

impl Running {
    fn stop(&mut self) {
        let group = Pid::from_child(&self.0);
        // A group that has ended already is what is wanted.
        let _gone = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + STOP_GRACE_PERIOD;
        while Instant::now() < deadline {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _gone = kill_process_group(group, Signal::KILL);
        let _reaped = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

fn lines(reader: std::io::PipeReader) -> Receiver<String> {
    let (sender, receiver) = sync_channel(256);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            // The receiver is gone: make is being stopped.
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::super::tools::Compiler;
    use super::*;
    use crate::board::Board;

    /// Runs `recipe` as the goal `all` of a Makefile.
    fn run(recipe: &str) -> (Result<usize>, String) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("Makefile"), format!("all:\n\t{recipe}\n")).unwrap();
        let toolchain =
            Toolchain { compiler: Compiler::Gcc, variables: Vec::new(), program: "gcc".to_owned() };
        let make = Make {
            tree: directory.path(),
            objects: directory.path().join("objects"),
            log: directory.path().join("log"),
            target: &Board::named("x86_64").unwrap().kernel_build,
            toolchain: &toolchain,
            jobs: NonZeroUsize::MIN,
        };
        make.begin().unwrap();
        let result = make.run("Linux 6.9", &["all"], &[], Shell::default());
        (result, std::fs::read_to_string(&make.log).unwrap())
    }

    #[test]
    fn objects_are_counted_and_all_is_logged() {
        let (objects, log) =
            run(r#"@echo "  CC      a.o"; echo "  AR      b.a"; echo "  AS      c/d.o"; echo " x" >&2"#);
        assert_eq!(objects.unwrap(), 2);
        assert!(log.contains("  AS      c/d.o\n x\n"), "{log}");
    }

    #[test]
    fn environment_is_ours() {
        let (_, log) = run("@env");
        for line in [
            "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
            "KBUILD_BUILD_USER=krazy",
            "LC_ALL=C",
            "LOCALVERSION=",
        ] {
            assert!(log.lines().any(|found| found == line), "{line} is not in {log}");
        }
        assert!(!log.contains("CARGO"), "{log}");
    }

    #[test]
    fn first_complaints_are_shown() {
        let (result, _) = run("@echo harmless; echo 'a.c:1: error: bad'; echo more; exit 2");
        let error = result.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("failed to build Linux 6.9:\n  | a.c:1: error: bad\n  | make: *** "),
            "{text}"
        );
        assert!(error.next_step().unwrap().ends_with("/log; the next run resumes"));
        assert_eq!(error.exit(), Exit::Build);
    }

    #[test]
    fn full_disk_has_its_own_message() {
        let (result, _) = run("@echo 'as: a.o: No space left on device'; exit 1");
        let error = result.unwrap_err();
        assert!(error.to_string().starts_with("there is no room to build Linux 6.9 in /"), "{error}");
        assert!(error.next_step().unwrap().contains("KRAZY_CACHE_DIR"));
    }
}
