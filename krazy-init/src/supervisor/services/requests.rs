//! Answers to requests about services.

use std::io;
use std::time::Duration;

use super::super::disk_queue::{Answer, DiskTask};
use super::super::effect::{Effect, Effects};
use super::super::refusal::{refuse_while_ending, refused};
use super::super::state::Event;
use super::Services;
use crate::control::{ErrorKind, LogLine, LogStream, MAX_LOG_LINES, Reply, RequestError, ServiceStatus};
use crate::linux::{process, signals};

impl Services {
    /// The index of the service `name`.
    pub(in super::super) fn named(&self, name: &str) -> Result<usize, RequestError> {
        self.position(name).ok_or_else(|| no_such(name))
    }

    /// The status of every service, sorted by name.
    pub(in super::super) fn statuses(&self, now: Duration) -> Vec<ServiceStatus> {
        let mut services: Vec<ServiceStatus> =
            (0..self.units.len()).filter_map(|id| self.status_of(id, now)).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }

    /// The status of the service `name`.
    pub(in super::super) fn status(&self, name: &str, now: Duration) -> Result<ServiceStatus, RequestError> {
        self.status_of(self.named(name)?, now).ok_or_else(|| no_such(name))
    }

    fn status_of(&self, id: usize, now: Duration) -> Option<ServiceStatus> {
        let unit = self.units.get(id)?;
        let view = self.state.view(id, now)?;
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some(ServiceStatus {
            name: unit.spec().name.clone(),
            state: view.state,
            pid: unit.pid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()),
            uid: unit.spec().rights.uid,
            // Of the main process only; `memory` counts what its cgroup has.
            rss: unit.pid().and_then(process::resident_memory),
            memory: unit.memory(),
            uptime: view.running_since.map(|since| now.saturating_sub(since).as_secs()),
            restarts: view.restarts,
            last_exit: view.last_exit,
            next_start_ms: view.next_start.map(|next| milliseconds(next.saturating_sub(now))),
            required: view.required,
            stable: view.stable,
            crash_loop: view.crash_loop,
            waiting_for: view.waiting_for.iter().map(|after| self.state.name(*after)).collect(),
        })
    }

    /// Starts, stops or restarts the service `name`. Refused while the machine shuts down.
    pub(in super::super) fn order(
        &self,
        name: &str,
        event: fn(usize) -> Event,
        effects: &mut Effects,
    ) -> Result<Reply, RequestError> {
        let id = self.named(name)?;
        refuse_while_ending(&self.state)?;
        effects.push(Effect::Service(event(id)));
        Ok(Reply::Done)
    }

    /// Sends a signal to the main process of the service `name`.
    pub(in super::super) fn signal(&self, name: &str, signal: &str) -> Result<Reply, RequestError> {
        let unit = &self.units[self.named(name)?];
        let number = signals::parse(signal)
            .ok_or_else(|| refused(ErrorKind::Malformed, format!("`{signal}` is not a signal")))?;
        let pid =
            unit.pid().ok_or_else(|| refused(ErrorKind::NotNow, format!("service {name} is not running")))?;
        process::signal(pid, number).map_err(|error| refused(ErrorKind::Failed, error.to_string()))?;
        Ok(Reply::Done)
    }

    /// Returns true if the output of the service with this index is kept on `/data`.
    pub(in super::super) fn keeps_output(&self, id: usize) -> bool {
        self.units[id].is_kept()
    }

    /// The newest lines that the service with this index wrote, those of earlier boots too if they are kept.
    pub(in super::super) fn logs(
        &mut self,
        id: usize,
        stream: LogStream,
        lines: u32,
    ) -> Result<Answer, RequestError> {
        let count = lines.min(MAX_LOG_LINES) as usize;
        let reply = move |lines: io::Result<Vec<String>>| {
            let lines = lines.map_err(|error| refused(ErrorKind::Failed, error.to_string()))?;
            Ok(Reply::Log(lines.into_iter().map(|text| LogLine { stream, text }).collect()))
        };
        let unit = &mut self.units[id];
        match unit.take_kept(stream) {
            // With the lines that wait, so that none is missed before those that a follower gets.
            Some(chunk) => Ok(Answer::Later(DiskTask::answering("reading kept output", move |_| {
                reply(chunk.write_and_read(count))
            }))),
            None => reply(unit.tail(stream, count)).map(Answer::Now),
        }
    }
}

fn no_such(name: &str) -> RequestError {
    refused(ErrorKind::NoSuchService, format!("there is no service `{name}`"))
}
