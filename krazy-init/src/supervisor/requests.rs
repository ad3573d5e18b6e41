//! What requests over the control socket mean.

use super::control_server::Input;
use super::runtime::Runtime;
use super::state::{Event, Milestone};
use crate::control::{
    BootInfo, Command, ErrorKind, LogLine, LogStream, MAX_LOG_LINES, Milestones, Reply, RequestError,
    Response, ServiceStatus,
};
use crate::linux::data::DataMount;
use crate::linux::power::End;
use crate::linux::{boot_mount, kernel_clock, process, signals};

type Answer = Result<Reply, RequestError>;

impl Runtime {
    /// Serves a connection that is readable or takes more.
    pub(super) fn serve(&mut self, client: u32) {
        let Some(control) = &mut self.control else { return };
        control.write(client);
        match control.read(client) {
            Input::Closed => control.close(client),
            Input::Requests(requests) => {
                for request in requests {
                    let response = match request {
                        Ok(request) => self.answer(client, request.command),
                        Err(response) => response,
                    };
                    if let Some(control) = &mut self.control {
                        control.answer(client, &response);
                    }
                }
            }
        }
        self.watch_client(client);
    }

    fn answer(&mut self, client: u32, command: Command) -> Response {
        let answer = self.execute(client, command);
        answer.map_or_else(|error| Response::error(error.kind, error.message), Response::ok)
    }

    fn execute(&mut self, client: u32, command: Command) -> Answer {
        match command {
            Command::Boot => Ok(Reply::Boot(Box::new(self.boot_info()))),
            Command::List => {
                let mut services: Vec<ServiceStatus> =
                    (0..self.units.len()).filter_map(|id| self.status(id)).collect();
                services.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(Reply::Services(services))
            }
            Command::Status { service } => {
                let id = self.named(&service)?;
                let status = self.status(id).ok_or_else(|| no_such(&service))?;
                Ok(Reply::Service(Box::new(status)))
            }
            Command::Start { service } => self.order(&service, Event::Start),
            Command::Stop { service } => self.order(&service, Event::Stop),
            Command::Restart { service } => self.order(&service, Event::Restart),
            Command::Signal { service, signal } => self.signal(&service, &signal),
            Command::Logs { service, stream, lines, follow } => {
                let id = self.named(&service)?;
                let log = self.logs(id, stream, lines)?;
                if follow && !self.control.as_mut().is_some_and(|control| control.follow(client, id)) {
                    return Err(error(ErrorKind::NotNow, "too many logs are followed already".to_owned()));
                }
                Ok(log)
            }
            Command::RemountBoot { writable } => self.remount_boot(writable),
            Command::Confirm => self.confirm(kernel_clock::since_boot()),
            Command::Arm { slot, build_id } => self.arm(slot, Some(&build_id)),
            Command::Switch { slot } => self.arm(slot, None),
            Command::Disarm => self.disarm(),
            Command::Rollback => self.roll_back(),
            Command::Reboot => self.end(End::Reboot),
            Command::Poweroff => self.end(End::Poweroff),
            Command::Halt => self.end(End::Halt),
        }
    }

    fn named(&self, service: &str) -> Result<usize, RequestError> {
        self.units.iter().position(|unit| unit.spec.name == service).ok_or_else(|| no_such(service))
    }

    fn order(&mut self, service: &str, event: fn(usize) -> Event) -> Answer {
        let id = self.named(service)?;
        self.not_ending()?;
        self.feed(event(id));
        Ok(Reply::Done)
    }

    fn signal(&self, service: &str, signal: &str) -> Answer {
        let unit = &self.units[self.named(service)?];
        let number = signals::parse(signal)
            .ok_or_else(|| error(ErrorKind::Malformed, format!("`{signal}` is not a signal")))?;
        let pid =
            unit.pid.ok_or_else(|| error(ErrorKind::NotNow, format!("service {service} does not run")))?;
        process::signal(pid, number).map_err(|why| error(ErrorKind::Failed, why.to_string()))?;
        Ok(Reply::Done)
    }

    fn logs(&self, id: usize, stream: LogStream, lines: u32) -> Answer {
        let count = lines.min(MAX_LOG_LINES) as usize;
        let lines =
            self.units[id].tail(stream, count).map_err(|why| error(ErrorKind::Failed, why.to_string()))?;
        Ok(Reply::Log(lines.into_iter().map(|text| LogLine { stream, text }).collect()))
    }

    fn end(&mut self, end: End) -> Answer {
        self.shut_down(end, "asked for over the control socket");
        Ok(Reply::Done)
    }

    fn remount_boot(&mut self, writable: bool) -> Answer {
        self.not_ending()?;
        let failed = |why: String| error(ErrorKind::Failed, why);
        if !writable {
            self.sync_boot_tables().map_err(failed)?;
        }
        boot_mount::remount(writable).map_err(|why| failed(format!("{}: {why}", boot_mount::BOOT)))?;
        self.trial.boot_was_writable |= writable;
        Ok(Reply::Done)
    }

    pub(super) fn not_ending(&self) -> Result<(), RequestError> {
        if self.supervisor.is_ending() {
            return Err(error(ErrorKind::NotNow, "the machine is on its way down".to_owned()));
        }
        Ok(())
    }

    fn status(&self, id: usize) -> Option<ServiceStatus> {
        let now = kernel_clock::since_boot();
        let unit = self.units.get(id)?;
        let view = self.supervisor.view(id, now)?;
        Some(ServiceStatus {
            name: unit.spec.name.clone(),
            state: view.state,
            pid: unit.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()),
            uid: unit.spec.rights.uid,
            rss: unit.pid.and_then(process::resident_memory),
            memory: unit.memory(),
            uptime: view.running_since.map(|since| now.saturating_sub(since).as_secs()),
            restarts: view.restarts,
            last_exit: view.last_exit,
            next_start_ms: view
                .next_start
                .map(|next| u64::try_from(next.saturating_sub(now).as_millis()).unwrap_or(u64::MAX)),
            required: view.required,
            stable: view.stable,
            crash_loop: view.crash_loop,
            waiting_for: view.waiting_for.iter().map(|after| self.supervisor.name(*after)).collect(),
        })
    }

    fn boot_info(&self) -> BootInfo {
        let now = kernel_clock::since_boot();
        let manifest = &self.machine.manifest;
        BootInfo {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            board: manifest.board.clone(),
            build_id: manifest.build_id.clone(),
            hostname: self.machine.hostname.clone(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            init: env!("CARGO_PKG_VERSION").to_owned(),
            slot: self.machine.slot,
            disk: self.machine.disk.as_ref().map(|disk| disk.node().display().to_string()),
            trial: self.trial_info(now),
            armed: self.armed_slot(),
            failed_trial: self.trial.failed.clone(),
            uptime: now.as_secs(),
            stable: self.supervisor.is_stable(now),
            degraded: self.machine.degraded.clone(),
            milestones: Milestones {
                network: self.supervisor.has_reached(Milestone::Network),
                clock: self.supervisor.has_reached(Milestone::Clock),
                data: matches!(self.machine.data, DataMount::Disk(_)),
            },
            boot_writable: boot_mount::is_writable(),
            previous_end: self.previous_end.clone(),
        }
    }
}

pub(super) fn error(kind: ErrorKind, message: String) -> RequestError {
    RequestError { kind, message }
}

fn no_such(service: &str) -> RequestError {
    error(ErrorKind::NoSuchService, format!("there is no service `{service}`"))
}
