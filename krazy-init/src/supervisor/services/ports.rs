//! The ports of services: each is restricted when its cgroup is made, and a port that was refused is told in its log,
//! because the program itself only learns that it lacks a permission.

use std::fs::File;
use std::io;

use krazy_boot::manifest::ports::PortRules;

use super::super::effect::Effects;
use super::{Audience, Services};
use crate::control::LogStream;
use crate::linux::kernel_clock;
use crate::linux::port_filter::PortFilters;

/// The filters of all services; none on a kernel without them.
#[derive(Debug, Default)]
pub(super) struct Ports {
    filters: Option<PortFilters>,
    /// The port that was told last to each service since it started; zero for none.
    told: Vec<u16>,
}

impl Ports {
    /// Prepares the filters of this many services.
    pub(super) fn new(services: usize, effects: &mut Effects) -> Self {
        let filters = PortFilters::new(services).map_err(|error| report(&error, effects)).ok();
        Ports { filters, told: vec![0; services] }
    }

    /// Restricts the processes of the service `id`, which are in this cgroup.
    pub(super) fn restrict(&mut self, id: usize, cgroup: &File, rules: &PortRules, effects: &mut Effects) {
        let Some(filters) = &self.filters else { return };
        if let Err(error) = filters.restrict(id, cgroup, rules) {
            report(&error, effects);
            // It would be the same for every service.
            self.filters = None;
        }
    }

    /// Notes that the service `id` starts anew: what is refused to it is told again.
    pub(super) fn started(&mut self, id: usize) {
        if let Some(told) = self.told.get_mut(id) {
            *told = 0;
        }
    }

    /// Returns a port that was refused to the service `id` and not told yet.
    fn take_untold(&mut self, id: usize) -> Option<u16> {
        let port = self.filters.as_ref()?.take_refused(id)?;
        let told = self.told.get_mut(id)?;
        (std::mem::replace(told, port) != port).then_some(port)
    }
}

fn report(error: &io::Error, effects: &mut Effects) {
    effects.degrade(format!(
        "services can bind every port, also 67, 68, 123 and that of krazy-admind: {error}; help: the kernel needs \
         CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF"
    ));
}

impl Services {
    /// Makes the cgroup of a service that starts for the first time, and restricts its ports.
    pub(super) fn make_cgroup(&mut self, id: usize, effects: &mut Effects) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let rules = unit.spec().ports.clone();
        match unit.make_cgroup() {
            Ok(None) => {}
            Ok(Some(cgroup)) => self.ports.restrict(id, cgroup, &rules, effects),
            // The same for every service of a kernel without cgroups.
            Err(error) => {
                if !std::mem::replace(&mut self.has_reported_cgroups, true) {
                    effects.degrade(format!(
                        "processes that services leave behind cannot be killed, and services can bind every port: {error}"
                    ));
                }
            }
        }
        self.ports.started(id);
    }

    /// Tells services which ports were refused to them.
    pub(super) fn report_ports(&mut self, audience: &mut Audience<'_>) {
        for (id, unit) in self.units.iter_mut().enumerate() {
            if let Some(port) = self.ports.take_untold(id) {
                let text = refusal(&unit.spec().name, port);
                let now = kernel_clock::since_boot();
                unit.log(LogStream::Err, now, text.as_bytes(), &mut |line| audience.publish(id, &line));
            }
        }
    }
}

/// The line for the log of the service `name`.
fn refusal(name: &str, port: u16) -> String {
    format!(
        "krazy-init: port {port} was refused (EPERM): it is not among the ports of this service; help: list it in \
         `service.{name}.ports`, with all others below 1024 that the service binds"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_port_and_key() {
        let text = refusal("dns", 53);
        assert!(text.contains("port 53 ") && text.contains("`service.dns.ports`"), "{text}");
    }

    #[test]
    fn kernel_without_filters_is_told_with_its_options() {
        let mut effects = Effects::default();
        report(&io::ErrorKind::Unsupported.into(), &mut effects);
        let [super::super::super::effect::Effect::Degrade(text)] =
            &effects.into_iter().collect::<Vec<_>>()[..]
        else {
            panic!("not degraded")
        };
        assert!(text.contains("CONFIG_CGROUP_BPF"), "{text}");
    }
}
