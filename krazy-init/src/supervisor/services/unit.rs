//! The kernel's objects of a service: its cgroup, its process, its pipes and log files.

mod launching;

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use krazy_boot::error_chain::system_text;
use krazy_boot::manifest::checks::HealthCommand;
use rustix::fs::OFlags;
use rustix::process::Pid;

use super::super::plan::Spec;
use super::output::OutputLine;
use crate::control::LogStream;
use crate::linux::cgroup::{self, Cgroup};
use crate::linux::confinement::{Confined, Confinement, Support};
use crate::linux::data::{self, Home};
use crate::linux::kernel_clock;
use crate::linux::launch::{self, Launch};
use crate::linux::launched::{EXEC_TIMEOUT, Launched};
use crate::linux::process;
use crate::linux::run_files;
use crate::output::{Chunk, KeptOutput, Lines, LogFile, Throttle};

/// The largest size of a log file on `/data`; each is kept twice.
const KEPT_LIMIT: u64 = 1 << 20;

/// The number of lines of standard error that explain why a service exited.
const LAST_LINES: usize = 3;

/// One service.
#[derive(Debug)]
pub(super) struct Unit {
    spec: Spec,
    /// The main process, until its exit was dealt with.
    pid: Option<Pid>,
    /// The same until its program is executed, and the time at which that is given up.
    launched: Option<(Launched, Duration)>,
    /// Decides how much of its output the console shows.
    throttle: Throttle,
    cgroup: Option<Cgroup>,
    /// Kills for lack of memory that were dealt with.
    known_kills: u64,
    has_tried_cgroup: bool,
    streams: [Stream; 2],
    home_is_ready: bool,
}

/// One direction of output. Both ends of the pipe stay open over restarts, so that nothing a dying process wrote
/// is lost and an end of file needs no handling.
#[derive(Debug)]
pub(super) struct Stream {
    reader: PipeReader,
    writer: PipeWriter,
    lines: Lines,
    file: LogFile,
    /// The same on `/data`.
    kept: Option<KeptOutput>,
}

impl Unit {
    /// Prepares the pipes, and the log files in the directory `logs`.
    pub(super) fn prepare(spec: Spec, logs: &Path, log_limit: u64, now: Duration) -> io::Result<Self> {
        let open =
            |kind| Stream::open(logs.join(format!("{}.{kind}", spec.name)), log_limit, spec.rights.uid);
        let streams = [open("log")?, open("err")?];
        let throttle = Throttle::new(now);
        Ok(Unit {
            spec,
            pid: None,
            launched: None,
            throttle,
            cgroup: None,
            known_kills: 0,
            has_tried_cgroup: false,
            streams,
            home_is_ready: false,
        })
    }

    /// The way it is started.
    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The main process, while there is one.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Makes its cgroup, unless that was tried before: at the first start, because the kernel takes milliseconds for
    /// each. Without one the service still runs, but processes that it leaves behind cannot be killed. Returns the
    /// directory of a new one.
    pub(super) fn make_cgroup(&mut self) -> io::Result<Option<&File>> {
        if std::mem::replace(&mut self.has_tried_cgroup, true) {
            return Ok(None);
        }
        let cgroup = Cgroup::create(&self.spec.name, self.spec.limits)?;
        Ok(Some(self.cgroup.insert(cgroup).directory()))
    }

    /// Keeps its output in `directory` too, which services cannot write.
    pub(super) fn keep_output(&mut self, directory: &Path) -> io::Result<()> {
        for (stream, kind) in self.streams.iter_mut().zip(["log", "err"]) {
            let path = directory.join(format!("{}.{kind}", self.spec.name));
            let kept =
                KeptOutput::resume(path.clone(), KEPT_LIMIT).map_err(|error| in_context(error, &path))?;
            stream.kept = Some(kept);
        }
        Ok(())
    }

    /// The end to read of `stream`.
    pub(super) fn descriptor(&self, stream: LogStream) -> &PipeReader {
        &self.streams[stream as usize].reader
    }

    /// Creates the main process, unless its home has to be prepared first. The start succeeds with
    /// [`Unit::launch_outcome`].
    pub(super) fn start(&mut self, support: Support) -> io::Result<Home> {
        if !self.home_is_ready {
            let home = data::state_of_home(&self.spec.home, self.spec.rights.uid)
                .map_err(|error| in_context(error, &self.spec.home))?;
            if home != Home::Ready {
                return Ok(home);
            }
            self.home_is_ready = true;
            run_files::make_directory(&self.spec.runtime_directory, self.spec.rights.uid)
                .map_err(|error| in_context(error, &self.spec.runtime_directory))?;
        }
        let [out, err] = [self.streams[0].writer()?, self.streams[1].writer()?];
        let confinement = self.confinement(support)?;
        let launch = Launch {
            has_watchdog: self.spec.checks.watchdog.is_some(),
            ..self.launch(&self.spec.program, &self.spec.arguments, &confinement, [out, err])
        };
        // A missing working directory and a missing program give the same error.
        if !self.spec.directory.is_dir() {
            return Err(in_context(io::ErrorKind::NotFound.into(), &self.spec.directory));
        }
        let launched = launch::spawn(launch).map_err(|error| in_context(error, &self.spec.program))?;
        self.pid = Some(launched.pid());
        self.launched = Some((launched, kernel_clock::since_boot() + EXEC_TIMEOUT));
        Ok(Home::Ready)
    }

    /// A process with the rights, the sandbox and the environment of the service.
    fn launch<'a>(
        &'a self,
        program: &'a Path,
        arguments: &'a [String],
        confinement: &'a Confinement,
        output: [OwnedFd; 2],
    ) -> Launch<'a> {
        let [stdout, stderr] = output;
        Launch {
            program,
            arguments,
            environment: &self.spec.environment,
            has_watchdog: false,
            directory: &self.spec.directory,
            groups: &self.spec.groups,
            rights: self.spec.rights,
            confinement: Some(confinement),
            cgroup: self.cgroup.as_ref().map(Cgroup::directory),
            stdout,
            stderr,
        }
    }

    /// Runs its health command, whose output is the service's.
    pub(super) fn check_health(&self, command: &HealthCommand, support: Support) -> io::Result<Launched> {
        let Some((program, arguments)) = command.command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
        };
        let output = [self.streams[0].writer()?, self.streams[1].writer()?];
        let confinement = self.confinement(support)?;
        launch::spawn(self.launch(Path::new(program), arguments, &confinement, output))
    }

    /// Prepares its sandbox. Anew for each start, because it is smaller than what would be kept for hundreds of services.
    fn confinement(&self, support: Support) -> io::Result<Confinement> {
        let spec = &self.spec;
        let service = Confined {
            sandbox: spec.sandbox,
            capabilities: spec.rights.capabilities,
            directories: &[&spec.home, &spec.runtime_directory],
            devices: &spec.device_directory,
            writes_sysfs: spec.writes_sysfs,
        };
        Confinement::new(&service, support)
    }

    /// Sends the stop signal to the main process and those it started in its group.
    pub(super) fn terminate(&self) -> io::Result<()> {
        self.pid.map_or(Ok(()), |pid| process::signal_group(pid, self.spec.stop_signal))
    }

    /// Kills everything it started.
    pub(super) fn kill(&self) -> io::Result<()> {
        // The cgroup still contains processes that left the process group, as daemons do.
        if let Some(cgroup) = &self.cgroup
            && cgroup.kill().is_ok()
        {
            return Ok(());
        }
        self.pid.map_or(Ok(()), |pid| process::signal_group(pid, libc::SIGKILL))
    }

    /// Kills what the main process left behind when it exited. Returns true if there was anything.
    pub(super) fn sweep(&mut self) -> io::Result<bool> {
        let Some(pid) = self.pid.take() else { return Ok(false) };
        match &self.cgroup {
            Some(cgroup) if cgroup.is_populated() => cgroup.kill().map(|()| true),
            Some(_) => Ok(false),
            None => process::signal_group(pid, libc::SIGKILL).map(|()| false),
        }
    }

    /// Sends SIGABRT to the same processes.
    pub(super) fn abort(&self) -> io::Result<()> {
        self.pid.map_or(Ok(()), |pid| process::signal_group(pid, libc::SIGABRT))
    }

    /// Returns true if memory has run out for its processes since the last call.
    pub(super) fn ran_out_of_memory(&mut self) -> bool {
        let kills = self.cgroup.as_ref().and_then(Cgroup::out_of_memory_kills).unwrap_or_default();
        kills > std::mem::replace(&mut self.known_kills, kills)
    }

    /// Memory of all its processes, if the kernel counts it.
    pub(super) fn memory(&self) -> Option<u64> {
        self.cgroup.as_ref().and_then(Cgroup::memory)
    }

    /// Reads what is in the pipe of `stream`, at most one `buffer`, appends it to the log file, and hands every line
    /// on.
    pub(super) fn read(
        &mut self,
        stream: LogStream,
        now: Duration,
        buffer: &mut [u8],
        each: &mut impl FnMut(OutputLine<'_>),
    ) {
        let Ok(length @ 1..) = rustix::io::read(&self.streams[stream as usize].reader, &mut *buffer) else {
            return;
        };
        self.take(stream, now, &buffer[..length], false, each);
    }

    /// Takes what was written without a line end before the process exited.
    pub(super) fn finish(&mut self, stream: LogStream, now: Duration, each: &mut impl FnMut(OutputLine<'_>)) {
        self.take(stream, now, &[], true, each);
    }

    /// Takes a message to the system's log as if it had been written to `stream` in lines of its own.
    pub(super) fn log(
        &mut self,
        stream: LogStream,
        now: Duration,
        message: &[u8],
        each: &mut impl FnMut(OutputLine<'_>),
    ) {
        // A line that the pipe holds only a part of is completed by the pipe.
        let partial = std::mem::take(&mut self.streams[stream as usize].lines);
        self.take(stream, now, message, true, each);
        self.streams[stream as usize].lines = partial;
    }

    /// The last lines of its standard error in one, without their times: enough for where and why a Rust program
    /// panicked. `None` if there are none, or they cannot be read.
    pub(super) fn last_error_lines(&self) -> Option<String> {
        let lines = self.tail(LogStream::Err, LAST_LINES).ok()?;
        // Every line begins with two times and a space.
        let texts = lines.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default().trim());
        let mut texts: Vec<&str> = texts.filter(|line| !line.is_empty()).collect();
        // A service that keeps exiting writes the same lines each time.
        texts.dedup();
        let text = texts.join(" / ").replace(char::is_control, " ");
        (!text.is_empty()).then_some(text)
    }

    /// The newest `count` lines of `stream` since the start of the machine.
    pub(super) fn tail(&self, stream: LogStream, count: usize) -> io::Result<Vec<String>> {
        self.streams[stream as usize].file.tail(count)
    }

    /// Returns true if its output is kept on `/data`.
    pub(super) fn is_kept(&self) -> bool {
        self.streams.iter().any(|stream| stream.kept.is_some())
    }

    /// Takes the lines of `stream` that wait for the disk; `None` if it is not kept.
    pub(super) fn take_kept(&mut self, stream: LogStream) -> Option<Chunk> {
        self.streams[stream as usize].kept.as_mut().map(KeptOutput::take)
    }

    /// Takes all lines that wait for the disk.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = Chunk> {
        let kept = self.streams.iter_mut().filter_map(|stream| stream.kept.as_mut());
        kept.filter(|kept| kept.is_behind()).map(KeptOutput::take)
    }

    fn take(
        &mut self,
        stream: LogStream,
        now: Duration,
        bytes: &[u8],
        last: bool,
        each: &mut impl FnMut(OutputLine<'_>),
    ) {
        let stamp = stamp();
        let Unit { spec, streams, throttle, .. } = self;
        let Stream { lines, file, kept, .. } = &mut streams[stream as usize];
        let mut text = String::with_capacity(bytes.len() + 64);
        let mut line = |line: &[u8]| {
            let start = text.len();
            text.push_str(&stamp);
            text.push_str(&String::from_utf8_lossy(line));
            each(OutputLine {
                service: &spec.name,
                stream,
                text: &text[start..],
                stamp_length: stamp.len(),
                verdict: throttle.line(now),
            });
            text.push('\n');
        };
        lines.push(bytes, &mut line);
        if last {
            lines.finish(&mut line);
        }
        if !text.is_empty() {
            file.append(text.as_bytes());
            if let Some(kept) = kept {
                kept.append(text.as_bytes());
            }
        }
    }
}

impl Stream {
    fn open(path: PathBuf, limit: u64, uid: u32) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        if rustix::process::geteuid().is_root() {
            // So that the service can open /dev/stdout, which is this pipe by name.
            std::os::unix::fs::fchown(&writer, Some(uid), Some(uid))?;
        }
        let file = LogFile::create(path.clone(), limit, uid).map_err(|error| in_context(error, &path))?;
        Ok(Stream { reader, writer, lines: Lines::default(), file, kept: None })
    }

    /// A copy of the end to write, blocking again should the last process have changed that.
    fn writer(&self) -> io::Result<OwnedFd> {
        rustix::fs::fcntl_setfl(&self.writer, OFlags::empty())?;
        Ok(self.writer.try_clone()?.into())
    }
}

fn in_context(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {}", path.display(), system_text(&error)))
}

/// Wall time and seconds since the kernel's start, the prefix of every line.
fn stamp() -> String {
    let up = kernel_clock::since_boot();
    format!("{} {}.{:03} ", kernel_clock::rfc3339(kernel_clock::wall()), up.as_secs(), up.subsec_millis())
}

/// The largest size of one log file, so that all services' files (two, each kept twice) take an eighth of the
/// memory at most.
pub(super) fn log_limit(services: usize) -> u64 {
    (cgroup::total_memory() / 8 / (4 * services.max(1) as u64)).clamp(64 << 10, 1 << 20)
}

#[cfg(test)]
mod tests;
