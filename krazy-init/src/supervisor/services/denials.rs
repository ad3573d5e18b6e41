//! System calls that the filters of services have denied: a line in the log of the service for each, once.

use std::io;

use rustix::net::UCred;
use rustix::process::{Gid, Pid, Uid};

use super::super::effect::Effects;
use super::super::poller::{Poller, Source};
use super::sockets::sending_service;
use super::{Audience, Services};
use crate::control::LogStream;
use crate::linux::kernel_clock;
use crate::linux::seccomp::denials::{self, Denial, DenialLog};

/// Records of one boot after which the kernel logs no more of them. A service that repeats a denied call would displace
/// all other messages from the kernel's log.
const MAX_RECORDS: u32 = 1000;

/// The reader of the kernel's log, and what was told already.
#[derive(Debug, Default)]
pub(super) struct Denials {
    log: Option<DenialLog>,
    /// Services and numbers of calls.
    told: Vec<(usize, u32)>,
    records: u32,
}

impl Services {
    /// Opens the kernel's log, before any service runs.
    pub(in super::super) fn open_denials(&mut self, poller: &Poller, effects: &mut Effects) {
        let opened: io::Result<_> =
            DenialLog::open().and_then(|log| poller.add(log.descriptor(), Source::KernelLog).map(|()| log));
        match opened {
            Ok(log) => self.denials.log = Some(log),
            Err(error) => {
                effects.degrade(format!("services are not told which system calls are denied: {error}"));
            }
        }
    }

    /// Reads which system calls were denied, and writes each into the log of its service.
    pub(in super::super) fn read_denials(&mut self, audience: &mut Audience<'_>, effects: &mut Effects) {
        let Services { denials: Denials { log, told, records }, units, pids, .. } = self;
        let Some(log) = log else { return };
        let now = kernel_clock::since_boot();
        log.read(|denial| {
            *records += 1;
            if *records == MAX_RECORDS {
                match denials::stop_logging() {
                    Ok(()) => effects.log(format!(
                        "{MAX_RECORDS} system calls of services were denied; further ones are not told until the next boot"
                    )),
                    Err(error) => effects.log(format!("the kernel goes on to log denied calls: {error}")),
                }
            }
            let Some(pid) = Pid::from_raw(denial.pid) else { return };
            let uid = Uid::from_raw(denial.uid);
            let sender = UCred { pid, uid, gid: Gid::from_raw(denial.uid) };
            let Some(id) = sending_service(sender, pids, units) else { return };
            if !told.contains(&(id, denial.number)) {
                told.push((id, denial.number));
                let text = text(&units[id].spec().name, denial);
                units[id].log(LogStream::Err, now, text.as_bytes(), &mut |line| audience.publish(id, &line));
            }
        });
    }
}

/// The line for the log of service `name`.
fn text(name: &str, denial: Denial) -> String {
    let (call, key) = (denial.name(), denial.key());
    let capability = denial.capability().map(|capability| {
        format!(", or `service.{name}.capabilities = [\"{capability}\"]` with the right that it needs")
    });
    let capability = capability.unwrap_or_default();
    format!(
        "krazy-init: the system call {call} was denied; help: `service.{name}.sandbox.{key} = false` lifts this{capability}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_names_call_key_and_capability() {
        let denial = |number: libc::c_long| Denial { pid: 7, uid: 10_000, number: number as u32 };
        assert_eq!(
            text("ntp", denial(libc::SYS_clock_settime)),
            "krazy-init: the system call clock_settime was denied; help: `service.ntp.sandbox.system-calls = false` lifts \
             this, or `service.ntp.capabilities = [\"sys-time\"]` with the right that it needs"
        );
        assert_eq!(
            text("web", denial(libc::SYS_setns)),
            "krazy-init: the system call setns was denied; help: `service.web.sandbox.namespaces = false` lifts this"
        );
    }
}
