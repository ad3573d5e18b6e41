//! A machine while it runs: its serial line copied and searched, deadlines kept, the keyboard passed on.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Watch;
use super::pipes::{collect, forward_input, forward_serial};
use super::process::{Running, shown};
use super::stop_reason::StopReason;
use super::transcript::Transcript;
use crate::shell::Shell;

/// Interval of checks for deadlines and interruptions.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One run of `run-qemu`, over possibly more than one start of QEMU.
pub(crate) struct Session<'a> {
    watch: &'a Watch,
    interrupted: &'a dyn Fn() -> bool,
    output: &'a mut dyn Write,
    deadline: Option<Instant>,
    /// True if Ctrl-C was typed.
    ctrl_c: Arc<AtomicBool>,
    /// The destination of typed bytes: the standard input of the QEMU that runs now.
    keyboard: Arc<Mutex<Option<ChildStdin>>>,
    /// Set while standard input is read; true inside if the terminal is raw.
    unheard: Option<bool>,
}

impl<'a> Session<'a> {
    /// A session that reads standard input as soon as QEMU runs; on a raw terminal (`raw`)
    /// Ctrl-C arrives as a byte.
    pub(crate) fn new(
        watch: &'a Watch,
        interrupted: &'a dyn Fn() -> bool,
        output: &'a mut dyn Write,
        raw: bool,
    ) -> Self {
        // Reading a terminal from the background would stop this program.
        let unheard = (raw || !io::stdin().is_terminal()).then_some(raw);
        let deadline = watch.timeout.map(|timeout| Instant::now() + timeout);
        Session {
            watch,
            interrupted,
            output,
            deadline,
            ctrl_c: Arc::default(),
            keyboard: Arc::default(),
            unheard,
        }
    }

    /// Runs `program` to its end. With `silence_limit`, it is stopped if nothing comes from it for that long at first.
    pub(crate) fn run(
        &mut self,
        program: &str,
        arguments: &[OsString],
        silence_limit: Option<Duration>,
        shell: Shell,
    ) -> Result<StopReason> {
        shell.verbose("Running", shown(program, arguments));
        let mut running = Running::start(program, arguments)?;
        *self.keyboard.lock().unwrap_or_else(PoisonError::into_inner) = running.0.stdin.take();
        // Not before QEMU runs: piped input would be read and lost.
        if let Some(raw) = self.unheard.take() {
            forward_input(self.keyboard.clone(), raw.then(|| self.ctrl_c.clone()));
        }
        let stdout = running.0.stdout.take().context("QEMU has no standard output")?;
        let stderr = running.0.stderr.take().context("QEMU has no standard error")?;
        let serial = forward_serial(stdout);
        let kvm_broke = Arc::new(AtomicBool::new(false));
        let complaint = collect(stderr, kvm_broke.clone());

        let silence_limit = silence_limit.map(|silence_limit| Instant::now() + silence_limit);
        let mut transcript = Transcript::new(self.watch.expect.as_deref().unwrap_or_default());
        let end = self.listen(&mut running, &serial, &mut transcript, silence_limit, &kvm_broke);
        drop(serial);
        if transcript.is_within_a_line() && end != Some(StopReason::OutputClosed) {
            // The next message on the terminal begins on a line of its own. A failure is not reported: it would be that of
            // a closed output, which nothing reads.
            let _closed = self.output.write_all(b"\n").and_then(|()| self.output.flush());
        }
        let status = match end {
            Some(_) => running.stop(),
            None => running.0.wait(),
        }
        .context("failed to wait for QEMU")?;
        let complaint = complaint.join().unwrap_or_default();
        Ok(match end {
            Some(StopReason::KvmFailed { .. }) => StopReason::KvmFailed { complaint },
            Some(end) => end,
            None => StopReason::Exited {
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
        silence_limit: Option<Instant>,
        kvm_broke: &AtomicBool,
    ) -> Option<StopReason> {
        loop {
            match serial.recv_timeout(POLL_INTERVAL) {
                Ok(bytes) => {
                    if self.output.write_all(&bytes).and_then(|()| self.output.flush()).is_err() {
                        return Some(StopReason::OutputClosed);
                    }
                    if transcript.push(&bytes) {
                        return Some(StopReason::Expected);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The user's own QEMU arguments may have closed the line early.
                Err(RecvTimeoutError::Disconnected) => match running.0.try_wait() {
                    Ok(None) => std::thread::sleep(POLL_INTERVAL),
                    Ok(Some(_)) | Err(_) => return None,
                },
            }
            let now = Instant::now();
            if (self.interrupted)() || self.ctrl_c.load(Ordering::Relaxed) {
                return Some(StopReason::Interrupted);
            }
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                let after = self.watch.timeout.unwrap_or_default();
                return Some(StopReason::TimedOut { after, last_lines: transcript.last_lines() });
            }
            if kvm_broke.load(Ordering::Relaxed) {
                return Some(StopReason::KvmFailed { complaint: String::new() });
            }
            if transcript.is_silent() && silence_limit.is_some_and(|silence_limit| now >= silence_limit) {
                return Some(StopReason::Silent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script in the place of QEMU.
    fn run(script: &str, watch: Watch, silence_limit: Option<Duration>) -> (StopReason, String) {
        let mut output = Vec::new();
        let end = Session::new(&watch, &|| false, &mut output, false)
            .run("sh", &["-c".into(), script.into()], silence_limit, Shell::default())
            .unwrap();
        (end, String::from_utf8(output).unwrap())
    }

    fn expect(text: &str) -> Watch {
        Watch { expect: Some(text.into()), timeout: Some(Duration::from_secs(20)) }
    }

    #[test]
    fn expected_text_stops_the_machine() {
        let began = Instant::now();
        let (end, output) = run("echo rea; echo ready; exec sleep 60", expect("ready"), None);
        assert_eq!(end, StopReason::Expected);
        assert_eq!(output, "rea\nready\n");
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn machine_that_ends_tells_how() {
        let (end, _) = run("echo last words; echo why >&2; exit 3", expect("ready"), None);
        let last_lines = "the serial line ended with:\n  | last words".into();
        assert_eq!(
            end,
            StopReason::Exited { code: Some(3), complaint: "why\n".into(), last_lines, silent: false }
        );
        assert!(!end.accelerator_failed());
    }

    #[test]
    fn early_death_is_told_from_a_late_one() {
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
    fn machine_that_kvm_gave_up_on_is_stopped() {
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
            matches!(end, StopReason::TimedOut { ref last_lines, .. } if last_lines.ends_with("| up")),
            "{end:?}"
        );
        let (end, _) = run("exec sleep 60", Watch::default(), Some(Duration::from_millis(100)));
        assert_eq!(end, StopReason::Silent);
    }

    #[test]
    fn closed_serial_line_does_not_suspend_the_time_limit() {
        let watch = Watch { expect: None, timeout: Some(Duration::from_millis(300)) };
        let (end, output) = run("printf half; exec sleep 60 >&-", watch, None);
        assert!(matches!(end, StopReason::TimedOut { .. }), "{end:?}");
        assert_eq!(output, "half\n");
    }

    #[test]
    fn interruption_stops_the_machine() {
        let watch = Watch::default();
        let mut output = Vec::new();
        let end = Session::new(&watch, &|| true, &mut output, false)
            .run("sleep", &["60".into()], None, Shell::default())
            .unwrap();
        assert_eq!(end, StopReason::Interrupted);
    }

    #[test]
    fn second_start_is_clean() {
        let watch = expect("ready");
        let mut output = Vec::new();
        let mut session = Session::new(&watch, &|| false, &mut output, false);
        let first =
            session.run("sh", &["-c".into(), "kill -ABRT $$".into()], None, Shell::default()).unwrap();
        assert!(first.accelerator_failed());
        let second = session.run("sh", &["-c".into(), "echo ready".into()], None, Shell::default()).unwrap();
        assert_eq!(second, StopReason::Expected);
    }
}
