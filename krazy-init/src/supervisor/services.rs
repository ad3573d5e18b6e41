//! The services' part of the loop: processes that start and end, what they write, and when they are ready.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::thread;
use std::time::Duration;

use krazy_boot::manifest::Ready;
use rustix::process::Pid;

use super::boot;
use super::control_server::ControlServer;
use super::plan::Spec;
use super::poller::Source;
use super::runtime::Runtime;
use super::state::{Action, Event};
use super::unit::{self, Unit};
use super::wake::Report;
use crate::console::Console;
use crate::control::{LogLine, LogStream};
use crate::linux::data::{self, DataMount, Home};
use crate::linux::{kernel_clock, process, ready};
use crate::output::Verdict;

/// How often a port that a service is to open is looked for.
const PORT_INTERVAL: Duration = Duration::from_millis(50);

/// The folder of kept output among the machine's own files.
const LOGS: &str = "log";

/// What one read of a pipe takes.
const READ: usize = 16 << 10;

impl Runtime {
    pub(super) fn prepare_units(&mut self, specs: Vec<Spec>, now: Duration) {
        let limit = unit::log_limit(specs.len());
        for (id, spec) in specs.into_iter().enumerate() {
            let name = spec.name.clone();
            match Unit::prepare(spec, limit, now) {
                Ok(mut unit) => {
                    if unit.spec.persistent_log
                        && let Err(error) = self.keep_output(&mut unit)
                    {
                        self.degrade(format!("service {name}: its output is not kept: {error}"));
                    }
                    for stream in [LogStream::Out, LogStream::Err] {
                        if let Err(error) =
                            self.poller.add(unit.descriptor(stream), Source::Output(id as u32, stream))
                        {
                            self.degrade(format!("service {name}: its output is not read: {error}"));
                        }
                    }
                    self.units.push(unit);
                }
                Err(error) => {
                    self.degrade(format!("service {name} cannot be prepared: {error}"));
                    break;
                }
            }
        }
    }

    /// Keeps a service's output on `/data`, if that is the disk's.
    fn keep_output(&self, unit: &mut Unit) -> io::Result<()> {
        if matches!(self.machine.data, DataMount::Temporary(_)) {
            return Err(io::Error::other("/data is temporary"));
        }
        let folder = boot::machine_file(LOGS);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => unit.keep_output(&folder),
        }
    }

    pub(super) fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn(id) => {
                // Its preparation failed and was told; the end of the machine must not wait for it.
                let Some(unit) = self.units.get_mut(id) else {
                    return Some(Event::StartFailed(id, "it could not be prepared".to_owned()));
                };
                if let Err(error) = unit.make_cgroup() {
                    let text = format!("what services fork away cannot be ended: {error}");
                    // Once is enough.
                    if !self.machine.degraded.contains(&text) {
                        self.degrade(text);
                    }
                }
                let unit = self.units.get_mut(id)?;
                match unit.start() {
                    Ok(Home::Ready) => {
                        self.pids.extend(unit.pid.map(|pid| (pid, id)));
                        return Some(Event::Started(id));
                    }
                    Ok(Home::Foreign) => return self.hand_over(id),
                    Err(error) => return Some(Event::StartFailed(id, error.to_string())),
                }
            }
            Action::Terminate(id) => {
                let outcome = self.units.get(id)?.terminate();
                self.say_failure(id, "cannot be signalled", outcome);
            }
            Action::Kill(id) => {
                let outcome = self.units.get(id)?.kill();
                self.say_failure(id, "cannot be killed", outcome);
            }
            Action::Sweep(id) => self.sweep(id),
            Action::Say(id, text) => {
                let name = &self.units.get(id)?.spec.name;
                self.console.say(&format!("service {name} {text}"));
            }
            Action::Up => self.say_up(),
            Action::End(end) => self.ending = Some(end),
        }
        None
    }

    /// Has a thread give the service its home, which may hold very much; it is started when that is done.
    fn hand_over(&mut self, id: usize) -> Option<Event> {
        let Spec { name, home, rights, .. } = &self.units.get(id)?.spec;
        let (folder, uid, reporter) = (home.clone(), rights.uid, self.reporter.clone());
        self.console
            .say(&format!("service {name} is given {}, which belonged to another account", home.display()));
        let work = move || {
            let outcome = data::hand_over(&folder, uid);
            let outcome =
                outcome.map_err(|error| format!("{} stays another account's: {error}", folder.display()));
            reporter.send(Report::HandedOver(id, outcome));
        };
        let thread = thread::Builder::new().name("hand-over".to_owned()).stack_size(256 << 10).spawn(work);
        thread.err().map(|error| Event::StartFailed(id, error.to_string()))
    }

    /// A service's home is its own now, or cannot be.
    pub(super) fn handed_over(&mut self, id: usize, outcome: Result<(), String>) {
        let event = match outcome {
            Ok(()) if !self.supervisor.is_ending() => self.carry_out(Action::Spawn(id)),
            Ok(()) => Some(Event::StartFailed(id, "the machine ends".to_owned())),
            Err(why) => Some(Event::StartFailed(id, why)),
        };
        if let Some(event) = event {
            self.feed(event);
        }
    }

    pub(super) fn say_failure(&mut self, id: usize, what: &str, outcome: io::Result<()>) {
        if let (Err(error), Some(unit)) = (outcome, self.units.get(id)) {
            self.console.say(&format!("service {} {what}: {error}", unit.spec.name));
        }
    }

    /// A process says that it is ready: the service it belongs to is, if that is how it tells.
    pub(super) fn notified(&mut self, pid: Pid) {
        // A helper that said so and ended is not in any cgroup any more; a main process is known.
        let id = self.pids.get(&pid).copied().or_else(|| {
            let name = ready::service_of(pid)?;
            self.units.iter().position(|unit| unit.spec.name == name)
        });
        if let Some(id) = id.filter(|id| self.units[*id].spec.ready == Ready::Notify) {
            self.feed(Event::Ready(id));
        }
    }

    /// Looks for the ports that services are waited for to open; says when to look again.
    pub(super) fn look_at_ports(&mut self, now: Duration) -> Option<Duration> {
        let opened = |id: &usize| match self.units[*id].spec.ready {
            Ready::Tcp(port) => ready::is_listening(port),
            Ready::Started | Ready::Notify => false,
        };
        let waited: Vec<usize> = self.supervisor.unready().collect();
        let waited: Vec<usize> = waited
            .into_iter()
            .filter(|id| matches!(self.units.get(*id).map(|unit| unit.spec.ready), Some(Ready::Tcp(_))))
            .collect();
        let ready: Vec<usize> = waited.iter().copied().filter(opened).collect();
        for id in &ready {
            self.feed(Event::Ready(*id));
        }
        (ready.len() < waited.len()).then_some(now + PORT_INTERVAL)
    }

    pub(super) fn reap(&mut self) {
        while let Some((pid, reason)) = process::reap() {
            // Others are orphans that services left to init.
            if let Some(id) = self.pids.remove(&pid) {
                self.feed(Event::Exited(id, reason));
            }
        }
    }

    pub(super) fn sweep(&mut self, id: usize) {
        // What it wrote last comes before what its successor writes.
        for stream in [LogStream::Out, LogStream::Err] {
            self.read_output(id, stream);
            let now = kernel_clock::since_boot();
            let Runtime { units, console, control, .. } = self;
            if let Some(unit) = units.get_mut(id) {
                let name = unit.spec.name.clone();
                unit.finish(stream, |throttle, line, stamp| {
                    let verdict = throttle.line(now);
                    publish(console, control.as_mut(), verdict, id, &name, stream, line, stamp);
                });
            }
        }
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(pid) = unit.pid.take() else { return };
        match unit.sweep(pid) {
            // Whoever is asked to stop may leave the rest to init.
            Ok(true) if self.supervisor.is_ending() => {}
            Ok(true) => {
                let text = format!("service {} left processes behind; they were ended", unit.spec.name);
                self.console.say(&text);
            }
            Ok(false) => {}
            Err(error) => self.console.say(&format!("service {}: {error}", unit.spec.name)),
        }
    }

    pub(super) fn read_output(&mut self, id: usize, stream: LogStream) {
        let now = kernel_clock::since_boot();
        let Runtime { units, console, control, .. } = self;
        let Some(unit) = units.get_mut(id) else { return };
        let name = unit.spec.name.clone();
        let mut buffer = [0u8; READ];
        unit.read(stream, &mut buffer, |throttle, line, stamp| {
            let verdict = throttle.line(now);
            publish(console, control.as_mut(), verdict, id, &name, stream, line, stamp);
        });
    }
}

/// Shows a line where it is to be seen.
#[expect(clippy::too_many_arguments, reason = "the fields of one log line and its two audiences")]
fn publish(
    console: &mut Console,
    control: Option<&mut ControlServer>,
    verdict: Verdict,
    id: usize,
    name: &str,
    stream: LogStream,
    line: &str,
    stamp: usize,
) {
    if let Verdict::Show(held_back) = verdict {
        if held_back > 0 {
            console.line(name, &format!("({held_back} lines are only in /tmp/{name}.log and .err)"));
        }
        console.line(name, &line[stamp..]);
    }
    if let Some(control) = control.filter(|control| control.is_followed(id)) {
        control.publish(id, &LogLine { stream, text: line.to_owned() });
    }
}
