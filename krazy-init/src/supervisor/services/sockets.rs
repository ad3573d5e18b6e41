//! The sockets to which any process may send: announcements of readiness, and the system's log.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use krazy_boot::manifest::Ready;
use rustix::net::UCred;
use rustix::process::Pid;

use super::super::effect::Effects;
use super::super::poller::{Poller, Source};
use super::super::state::Event;
use super::output::Audience;
use super::unit::Unit;
use super::{Services, position};
use crate::control::ExitReason;
use crate::linux::datagrams;
use crate::linux::readiness::{self, NotifySocket};
use crate::linux::system_log::{self, SystemLog};
use crate::linux::{kernel_clock, process};

/// The sockets, as far as they could be opened.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    notify: Option<NotifySocket>,
    log: Option<SystemLog>,
    has_reported_unknown_sender: bool,
}

impl Services {
    /// Opens the sockets, before any service runs.
    pub(in super::super) fn open_sockets(&mut self, poller: &Poller, effects: &mut Effects) {
        let watch = |descriptor: &OwnedFd, source| poller.add(descriptor, source);
        let notify: io::Result<_> = NotifySocket::open(Path::new(readiness::SOCKET))
            .and_then(|notify| watch(notify.descriptor(), Source::Notify).map(|()| notify));
        match notify {
            Ok(notify) => self.sockets.notify = Some(notify),
            Err(error) => effects.degrade(format!("services cannot announce that they are ready: {error}")),
        }
        let log: io::Result<_> = SystemLog::open(Path::new(system_log::SOCKET))
            .and_then(|log| watch(log.descriptor(), Source::SystemLog).map(|()| log));
        match log {
            Ok(log) => self.sockets.log = Some(log),
            Err(error) => {
                effects.degrade(format!("services cannot write to {}: {error}", system_log::PATH));
            }
        }
    }

    /// Reads which processes announce that they are ready.
    pub(in super::super) fn read_notifications(
        &mut self,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) {
        for (pid, sent) in self.sockets.notify.as_ref().map(NotifySocket::take).unwrap_or_default() {
            // Others may send too, but only messages from processes of a service count.
            let Some(id) = service_of(pid, &self.pids, &self.units) else { continue };
            let spec = self.units[id].spec();
            let (announces, watchdog) = (spec.ready == Ready::Notify, spec.checks.watchdog);
            // The news of its start may wait behind this.
            self.settle_launch(id, audience, effects);
            if sent.ready && announces {
                self.handle(Event::Ready(id), audience, effects);
            }
            if let Some(limit) = watchdog {
                if sent.trigger {
                    let reason = ExitReason::Watchdog(limit);
                    self.handle(Event::Broken(id, reason), audience, effects);
                } else if sent.alive {
                    self.handle(Event::Alive(id), audience, effects);
                }
            }
        }
    }

    /// Reads messages to the system's log into the output of the services that sent them.
    pub(in super::super) fn read_system_log(&mut self, audience: &mut Audience<'_>, effects: &mut Effects) {
        let Services { sockets: Sockets { log, has_reported_unknown_sender, .. }, units, pids, .. } = self;
        let Some(log) = log else { return };
        let now = kernel_clock::since_boot();
        log.read(|sender, stream, text| match sending_service(sender, pids, units) {
            Some(id) => units[id].log(stream, now, text, &mut |line| audience.publish(id, &line)),
            None if std::mem::replace(has_reported_unknown_sender, true) => {}
            None => {
                let name = process::name(sender.pid).unwrap_or_default();
                let pid = sender.pid.as_raw_nonzero();
                let socket = system_log::PATH;
                effects
                    .log(format!("{socket}: process {pid} {name} is in no service; nothing of it is kept"));
            }
        });
    }
}

/// Returns the service that a process belongs to. A main process is known; another one is in the service's cgroup
/// until it is reaped.
fn service_of(pid: Pid, pids: &HashMap<Pid, usize>, units: &[Unit]) -> Option<usize> {
    pids.get(&pid).copied().or_else(|| position(units, &datagrams::service_of(pid)?))
}

/// The same, also for a process that has exited already if its account belongs to one service only.
pub(super) fn sending_service(sender: UCred, pids: &HashMap<Pid, usize>, units: &[Unit]) -> Option<usize> {
    service_of(sender.pid, pids, units).or_else(|| {
        let uid = sender.uid.as_raw();
        let mut with_account = units.iter().enumerate().filter(|(_, unit)| unit.spec().rights.uid == uid);
        with_account.next().filter(|_| uid != 0 && with_account.next().is_none()).map(|(id, _)| id)
    })
}
