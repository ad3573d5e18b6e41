//! QEMU as a child process: started, listened to, and never left behind.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::Watch;
use super::transcript::Transcript;
use crate::failure::{Exit, Failure};
use crate::shell::Shell;

/// What Ctrl-C sends while the terminal is raw.
const CTRL_C: u8 = 0x03;

/// How often deadlines and interruptions are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Time QEMU has to close its files after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes kept of what QEMU itself says.
const COMPLAINT: u64 = 16 << 10;

/// How a machine came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The expected text appeared.
    Expected,
    /// It took too long.
    TimedOut {
        /// The time it had.
        after: Duration,
        /// What it said last.
        last_lines: String,
    },
    /// KVM gave up on an instruction; QEMU would stand still for ever.
    KvmBroke {
        /// What QEMU said about it.
        complaint: String,
    },
    /// It was silent for longer than [`Session::run`]'s patience.
    Silent,
    /// The user had enough.
    Interrupted,
    /// Nobody reads the serial line any more.
    OutputClosed,
    /// QEMU ended by itself.
    Exited {
        /// Its exit code; none after a signal.
        code: Option<i32>,
        /// What QEMU said on standard error.
        complaint: String,
        /// What the guest said last.
        last_lines: String,
        /// Whether the guest said nothing at all.
        silent: bool,
    },
}

impl End {
    /// Whether it is the accelerator that failed, not the guest and not the command line.
    pub fn accelerator_failed(&self) -> bool {
        match self {
            End::Silent | End::KvmBroke { .. } => true,
            // Without permission QEMU says so and ends; a register that KVM refuses aborts it.
            End::Exited { silent: true, code, complaint, .. } => {
                code.is_none() || *code != Some(0) && complaint.to_lowercase().contains("kvm")
            }
            _ => false,
        }
    }

    /// The reason in a few words.
    pub fn cause(&self) -> String {
        match self {
            End::Exited { complaint, .. } | End::KvmBroke { complaint } => complaint
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("QEMU died")
                .trim()
                .to_owned(),
            _ => "the machine stays silent".to_owned(),
        }
    }
}

/// One run of `run-qemu`, over possibly more than one start of QEMU.
pub struct Session<'a> {
    watch: &'a Watch,
    interrupted: &'a dyn Fn() -> bool,
    output: &'a mut dyn Write,
    deadline: Option<Instant>,
    /// Whether Ctrl-C was typed.
    ctrl_c: Arc<AtomicBool>,
    /// Where typed bytes go: the standard input of the QEMU that runs now.
    keyboard: Arc<Mutex<Option<ChildStdin>>>,
}

impl<'a> Session<'a> {
    /// Begins to listen to standard input; on a raw terminal (`raw`) Ctrl-C arrives as a byte.
    pub fn new(
        watch: &'a Watch,
        interrupted: &'a dyn Fn() -> bool,
        output: &'a mut dyn Write,
        raw: bool,
    ) -> Self {
        let keyboard = Arc::new(Mutex::new(None));
        let ctrl_c = Arc::new(AtomicBool::new(false));
        // Reading a terminal from the background would stop this program.
        if raw || !io::stdin().is_terminal() {
            forward_input(keyboard.clone(), raw.then(|| ctrl_c.clone()));
        }
        let deadline = watch.timeout.map(|timeout| Instant::now() + timeout);
        Session { watch, interrupted, output, deadline, ctrl_c, keyboard }
    }

    /// Runs `program` to its end. With `patience`, it is stopped if nothing comes from it for that long at first.
    pub fn run(
        &mut self,
        program: &str,
        arguments: &[OsString],
        patience: Option<Duration>,
        shell: Shell,
    ) -> Result<End> {
        shell.verbose("Running", shown(program, arguments));
        let mut running = Running::start(program, arguments)?;
        *self.keyboard.lock().unwrap_or_else(PoisonError::into_inner) = running.0.stdin.take();
        let stdout = running.0.stdout.take().context("QEMU has no standard output")?;
        let stderr = running.0.stderr.take().context("QEMU has no standard error")?;
        let serial = forward_serial(stdout);
        let kvm_broke = Arc::new(AtomicBool::new(false));
        let complaint = collect(stderr, kvm_broke.clone());

        let patience = patience.map(|patience| Instant::now() + patience);
        let mut transcript = Transcript::new(self.watch.expect.as_deref().unwrap_or_default());
        let end = self.listen(&mut running, &serial, &mut transcript, patience, &kvm_broke);
        drop(serial);
        if transcript.is_within_a_line() && end != Some(End::OutputClosed) {
            // What follows on the terminal begins on a line of its own. A closed output was reported or is news
            // to nobody.
            let _closed = self.output.write_all(b"\n").and_then(|()| self.output.flush());
        }
        let status = match end {
            Some(_) => running.stop(),
            None => running.0.wait(),
        }
        .context("failed to wait for QEMU")?;
        let complaint = complaint.join().unwrap_or_default();
        Ok(match end {
            Some(End::KvmBroke { .. }) => End::KvmBroke { complaint },
            Some(end) => end,
            None => End::Exited {
                code: status.code(),
                complaint,
                last_lines: transcript.last_lines(),
                silent: transcript.is_silent(),
            },
        })
    }

    /// Copies and searches the serial line until QEMU ends (`None`) or there is a reason to stop.
    fn listen(
        &mut self,
        running: &mut Running,
        serial: &Receiver<Vec<u8>>,
        transcript: &mut Transcript,
        patience: Option<Instant>,
        kvm_broke: &AtomicBool,
    ) -> Option<End> {
        loop {
            match serial.recv_timeout(TICK) {
                Ok(bytes) => {
                    if self.output.write_all(&bytes).and_then(|()| self.output.flush()).is_err() {
                        return Some(End::OutputClosed);
                    }
                    if transcript.push(&bytes) {
                        return Some(End::Expected);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The user's own QEMU arguments may have closed the line early.
                Err(RecvTimeoutError::Disconnected) => match running.0.try_wait() {
                    Ok(None) => std::thread::sleep(TICK),
                    Ok(Some(_)) | Err(_) => return None,
                },
            }
            let now = Instant::now();
            if (self.interrupted)() || self.ctrl_c.load(Ordering::Relaxed) {
                return Some(End::Interrupted);
            }
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                let after = self.watch.timeout.unwrap_or_default();
                return Some(End::TimedOut { after, last_lines: transcript.last_lines() });
            }
            if kvm_broke.load(Ordering::Relaxed) {
                return Some(End::KvmBroke { complaint: String::new() });
            }
            if transcript.is_silent() && patience.is_some_and(|patience| now >= patience) {
                return Some(End::Silent);
            }
        }
    }
}

/// A QEMU that is killed when dropped.
struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[OsString]) -> Result<Self> {
        let mut command = Command::new(program);
        // A process group of its own, so that the terminal's signals reach only this program.
        command.args(arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            // Also a cargo-krazy that was killed leaves no machine behind.
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        match command.spawn() {
            Ok(child) => Ok(Running(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let failure = Failure::new(Exit::MissingTool, format!("`{program}` is not installed"));
                Err(failure.help(install_hint(program)).into())
            }
            Err(error) => Err(error).with_context(|| format!("failed to start `{program}`")),
        }
    }

    /// Asks QEMU to close the disk and end; ends it after [`GRACE`].
    fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(status);
        }
        // Not waited for yet, so the number is still our child's.
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.0.kill()?;
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already waited for on every path but an error's, which is then the one to report.
        let _dead = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// How to install the emulator `program`.
pub fn install_hint(program: &str) -> String {
    let (debian, fedora) = match program.strip_prefix("qemu-system-") {
        Some("aarch64") => ("qemu-system-arm", "qemu-system-aarch64-core"),
        _ => ("qemu-system-x86", "qemu-system-x86-core"),
    };
    format!(
        "install it: `sudo apt install {debian}` (Debian, Ubuntu), `sudo dnf install {fedora}` (Fedora), `brew install qemu` (macOS)"
    )
}

/// The command line as a shell would take it, near enough to be read.
fn shown(program: &str, arguments: &[OsString]) -> String {
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    let quoted =
        arguments.map(|text| if text.contains([' ', '\'']) { format!("{text:?}") } else { text.into() });
    std::iter::once(program.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// What comes from QEMU's standard output, until it closes.
fn forward_serial(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    // Bounded, so that a guest that talks faster than the terminal prints has to wait.
    let (sender, receiver) = sync_channel(64);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut listened_to = true;
        loop {
            match stdout.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                // The rest is read all the same: a QEMU that blocks on a full pipe does not end.
                Ok(read) => listened_to = listened_to && sender.send(buffer[..read].to_vec()).is_ok(),
            }
        }
    });
    receiver
}

/// The beginning of what comes from `stderr`, up to its end. `kvm_broke` is set as soon as KVM reports that it
/// cannot go on: QEMU then pauses the machine instead of ending.
fn collect(stderr: ChildStderr, kvm_broke: Arc<AtomicBool>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = String::new();
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        // A line is cut where it is longer than anything QEMU writes.
        while let Ok(1..) = (&mut lines).take(COMPLAINT).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            if text.starts_with("KVM internal error") {
                kvm_broke.store(true, Ordering::Relaxed);
            }
            // The rest is read, too: QEMU must not block on a full pipe.
            if kept.len() < COMPLAINT as usize {
                kept.push_str(&text);
            }
            line.clear();
        }
        kept
    })
}

/// Copies standard input to whichever QEMU runs. The thread ends with standard input, or with the program.
/// The pipe to QEMU stays open after the end of input: its console would take the end for a hang-up.
/// With `ctrl_c`, the terminal is raw and that key is ours.
fn forward_input(keyboard: Arc<Mutex<Option<ChildStdin>>>, ctrl_c: Option<Arc<AtomicBool>>) {
    std::thread::spawn(move || {
        let mut stdin = io::stdin();
        let mut buffer = [0; 256];
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            let bytes = &buffer[..read];
            if let Some(ctrl_c) = &ctrl_c
                && bytes.contains(&CTRL_C)
            {
                ctrl_c.store(true, Ordering::Relaxed);
                continue;
            }
            let mut keyboard = keyboard.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(pipe) = &mut *keyboard {
                // What is typed to a machine that just ended is lost, as on hardware.
                let _ended = pipe.write_all(bytes).and_then(|()| pipe.flush());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script in the place of QEMU.
    fn run(script: &str, watch: Watch, patience: Option<Duration>) -> (End, String) {
        let mut output = Vec::new();
        let end = Session::new(&watch, &|| false, &mut output, false)
            .run("sh", &["-c".into(), script.into()], patience, Shell::default())
            .unwrap();
        (end, String::from_utf8(output).unwrap())
    }

    fn expect(text: &str) -> Watch {
        Watch { expect: Some(text.into()), timeout: Some(Duration::from_secs(20)) }
    }

    #[test]
    fn the_expected_text_stops_the_machine() {
        let began = Instant::now();
        let (end, output) = run("echo rea; echo ready; exec sleep 60", expect("ready"), None);
        assert_eq!(end, End::Expected);
        assert_eq!(output, "rea\nready\n");
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_machine_that_ends_tells_how() {
        let (end, _) = run("echo last words; echo why >&2; exit 3", expect("ready"), None);
        let last_lines = "the serial line ended with:\n  | last words".into();
        assert_eq!(end, End::Exited { code: Some(3), complaint: "why\n".into(), last_lines, silent: false });
        assert!(!end.accelerator_failed());
    }

    #[test]
    fn an_early_death_is_told_from_a_late_one() {
        let (end, _) =
            run("echo; echo 'error: failed to set MSR 0x10a' >&2; kill -ABRT $$", Watch::default(), None);
        assert!(!end.accelerator_failed(), "{end:?}");
        let (end, _) =
            run("echo 'error: failed to set MSR 0x10a' >&2; kill -ABRT $$", Watch::default(), None);
        assert!(end.accelerator_failed(), "{end:?}");
        assert_eq!(end.cause(), "error: failed to set MSR 0x10a");
        let (end, _) =
            run("echo 'failed to initialize kvm: Permission denied' >&2; exit 1", Watch::default(), None);
        assert!(end.accelerator_failed(), "{end:?}");
        let (end, _) = run("echo '-foo: invalid option' >&2; exit 1", Watch::default(), None);
        assert!(!end.accelerator_failed(), "{end:?}");
        let (end, _) = run("exit 0", Watch::default(), None);
        assert!(!end.accelerator_failed(), "{end:?}");
    }

    #[test]
    fn a_machine_that_kvm_gave_up_on_is_stopped() {
        let script = "echo SeaBIOS; echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60";
        let (end, _) = run(script, Watch::default(), None);
        assert!(end.accelerator_failed(), "{end:?}");
        assert_eq!(end.cause(), "KVM internal error. Suberror: 1");
    }

    #[test]
    fn time_limits_hold_even_if_sigterm_is_ignored() {
        let watch = Watch { expect: None, timeout: Some(Duration::from_millis(300)) };
        let (end, _) = run("trap '' TERM; echo up; while :; do sleep 0.2; done", watch, None);
        assert!(
            matches!(end, End::TimedOut { ref last_lines, .. } if last_lines.ends_with("| up")),
            "{end:?}"
        );
        let (end, _) = run("exec sleep 60", Watch::default(), Some(Duration::from_millis(100)));
        assert_eq!(end, End::Silent);
    }

    #[test]
    fn a_closed_serial_line_does_not_suspend_the_time_limit() {
        let watch = Watch { expect: None, timeout: Some(Duration::from_millis(300)) };
        let (end, output) = run("printf half; exec sleep 60 >&-", watch, None);
        assert!(matches!(end, End::TimedOut { .. }), "{end:?}");
        assert_eq!(output, "half\n");
    }

    #[test]
    fn an_interruption_stops_the_machine() {
        let watch = Watch::default();
        let mut output = Vec::new();
        let end = Session::new(&watch, &|| true, &mut output, false)
            .run("sleep", &["60".into()], None, Shell::default())
            .unwrap();
        assert_eq!(end, End::Interrupted);
    }

    #[test]
    fn a_second_start_is_clean() {
        let watch = expect("ready");
        let mut output = Vec::new();
        let mut session = Session::new(&watch, &|| false, &mut output, false);
        let first =
            session.run("sh", &["-c".into(), "kill -ABRT $$".into()], None, Shell::default()).unwrap();
        assert!(first.accelerator_failed());
        let second = session.run("sh", &["-c".into(), "echo ready".into()], None, Shell::default()).unwrap();
        assert_eq!(second, End::Expected);
    }

    #[test]
    fn a_missing_emulator_names_its_package() {
        let error = Running::start("qemu-system-pdp11", &[]).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "`qemu-system-pdp11` is not installed");
        assert_eq!(Failure::exit_of(&error), Exit::MissingTool);
        assert!(install_hint("qemu-system-x86_64").contains("apt install qemu-system-x86`"));
        assert!(install_hint("qemu-system-aarch64").contains("apt install qemu-system-arm`"));
    }
}
