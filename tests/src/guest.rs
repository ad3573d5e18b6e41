//! A machine booted by `cargo krazy run-qemu`, watched through its serial console.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::judges;

/// The time limit of a boot, or of an update and a boot: it only ends a wait for what will never come. Six machines that
/// are emulated on two processors have taken 200 s from a push to the trial.
pub const BOOT_LIMIT: Duration = Duration::from_secs(900);

/// QEMU with `image` as its only disk and no network card, for machines that `run-qemu` does not make. A restart ends it.
///
/// One processor: while a kernel patches its own code at the start, QEMU 7.2 now and then lets the other processor run
/// into the breakpoint placed there meanwhile.
pub fn emulator(image: &Path) -> Result<Command> {
    let mut command = judges::command("qemu-system-x86_64")?;
    command.args([
        "-machine",
        "pc,graphics=off",
        "-accel",
        "tcg",
        "-cpu",
        "max,-cx16",
        "-smp",
        "1",
        "-m",
        "512",
    ]);
    command.args(["-nodefaults", "-display", "none", "-vga", "none", "-serial", "stdio", "-no-reboot"]);
    command.arg("-drive").arg(format!("if=none,id=disk,format=raw,file={}", image.display()));
    command.args(["-device", "virtio-blk-pci,drive=disk"]);
    Ok(command)
}

/// A running machine. It is stopped when this value is dropped.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    lines: Receiver<String>,
    seen: String,
    failure: Option<&'static str>,
}

impl Guest {
    /// Starts `command`, a `run-qemu`, without a terminal.
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null());
        Self::watch(&mut command)
    }

    /// Starts `command` with the standard input it has.
    pub(crate) fn watch(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        let (sender, lines) = channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                // A broken pipe or a dropped receiver both end the reader.
                while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
        Ok(Guest { child, lines, seen: String::new(), failure: None })
    }

    /// The writing end of its standard input, if that is a pipe.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Lets each wait fail at once if a line of the console contains `text`: what it waits for may never come.
    pub fn fail_on(&mut self, text: &'static str) {
        self.failure = Some(text);
    }

    /// Waits until a line of the console contains `text` and returns that line.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    if line.contains(text) {
                        return Ok(line);
                    }
                    if self.failure.is_some_and(|failure| line.contains(failure)) {
                        bail!("{}before `{text}`:\n{}", line, self.seen);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("no `{text}` after {limit:?}:\n{}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the machine stopped without `{text}`:\n{}", self.seen)
                }
            }
        }
    }

    /// Returns the console's text up to the last line that was waited for.
    pub fn seen(&self) -> &str {
        &self.seen
    }

    /// Takes the lines that the console has printed since, for the text of a failure: no later wait sees them.
    pub fn take_unread(&self) -> String {
        self.lines.try_iter().collect()
    }

    /// Waits for the machine to exit and returns the program's exit code and its whole output.
    pub fn wait(mut self, limit: Duration) -> Result<(Option<i32>, String)> {
        let end = Instant::now() + limit;
        let mut seen = std::mem::take(&mut self.seen);
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => seen.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("still running after {limit:?}:\n{seen}"),
            }
        }
        Ok((self.child.wait()?.code(), seen))
    }

    /// Kills the emulator that `run-qemu` has started, as a power cut would, and waits until `run-qemu` exits. Returns the
    /// console's whole text.
    pub fn kill_emulator(mut self) -> Result<String> {
        let pid = self.child.id();
        // The thread that has started it is its parent.
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let mut emulators = Vec::new();
        for task in tasks {
            let children = std::fs::read_to_string(task?.path().join("children"))?;
            emulators.extend(children.split_whitespace().map(str::to_owned));
        }
        anyhow::ensure!(!emulators.is_empty(), "process {pid} has started no emulator");
        let status = Command::new("kill").arg("-KILL").args(&emulators).status()?;
        anyhow::ensure!(status.success(), "kill ended with {status}");
        self.child.wait()?;
        self.seen.extend(self.lines.iter());
        Ok(std::mem::take(&mut self.seen))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The process id may belong to another process by now.
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // SIGTERM lets run-qemu end its emulator; SIGKILL would leave it behind.
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success());
        if !asked {
            let _already_gone = self.child.kill();
        }
        let _reaped = self.child.wait();
    }
}

/// Returns a free port on loopback.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Fetches `path` over HTTP/1.0 from `port` on loopback, retrying until `limit`: an emulator's forwarded port
/// accepts before the guest listens. Returns status line, headers and body.
pub fn http_get(port: u16, path: &str, limit: Duration) -> Result<(String, Vec<u8>)> {
    let end = Instant::now() + limit;
    loop {
        match try_get(port, path) {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("no answer from port {port} after {limit:?}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

fn try_get(port: u16, path: &str) -> Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no HTTP answer")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Ok((head, answer.split_off(end + 4)))
}

/// Sends `request` to `port` on loopback and returns the first bytes of the answer, retrying until `limit`.
pub fn exchange(port: u16, request: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let end = Instant::now() + limit;
    let attempt = || -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request)?;
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer)?;
        anyhow::ensure!(count > 0, "the connection was closed without an answer");
        answer.truncate(count);
        Ok(answer)
    };
    loop {
        match attempt() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}
