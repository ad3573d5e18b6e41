//! The start of the loop's parts.

use std::io;
use std::path::Path;

use super::*;
use crate::control::SOCKET;
use crate::linux::data::DataMount;
use crate::linux::modules::Modules;
use crate::supervisor::inbox;
use crate::supervisor::late;
use crate::supervisor::plan;
use krazy_boot::manifest::accounts::CONTROL_GID;

impl Runtime {
    /// Prepares everything that the first service needs.
    ///
    /// The order counts: the clock before anything is written with a time, the trial's note before anything that may
    /// hang, and the control socket last, when its requests can be answered.
    pub(in super::super) fn new(machine: Machine, mut journal: Journal) -> io::Result<Self> {
        let signals = Signals::open()?;
        let poller = Poller::new()?;
        let (reporter, inbox) = inbox::channel()?;
        poller.add(signals.descriptor(), Source::Signals)?;
        poller.add(inbox.descriptor(), Source::Inbox)?;
        let disk = DiskQueue::start(reporter.clone())?;
        let mut plan = plan::plan(&machine.manifest);
        if let Some(slot) = machine.slot {
            plan.announce_slot(slot);
        }
        let now = kernel_clock::since_boot();
        for text in plan.problems {
            journal.degrade(text);
        }
        let mut effects = Effects::default();
        let mut watchdog = WatchdogTimer::new(machine.use_watchdog, now);
        let clock = WallClock::begin(&machine, now, &mut effects);
        let shutdown = Shutdown::begin(&machine.data);
        let trial = Trial::begin(&machine, &mut watchdog, &mut effects);
        let mut runtime = Runtime {
            services: Services::new(machine.title(), plan.rules, reporter.clone()),
            devices: Devices::new(plan.devices, plan.device_directories),
            machine,
            journal,
            poller,
            signals,
            inbox,
            reporter,
            trial,
            clock,
            links: Links::default(),
            watchdog,
            control: ControlServer::closed(),
            disk,
            shutdown,
        };
        runtime.carry_out(effects);
        let Runtime { services, devices, control, poller, machine, .. } = &mut runtime;
        let mut effects = Effects::default();
        services.prepare(plan.specs, &machine.data, now, poller, &mut effects);
        devices.hand_over_nodes(&mut effects);
        if let Err(error) = control.listen(Path::new(SOCKET), CONTROL_GID, poller) {
            effects.degrade(format!("{SOCKET}: {error}"));
        }
        services.open_sockets(poller, &mut effects);
        services.open_denials(poller, &mut effects);
        runtime.carry_out(effects);
        Ok(runtime)
    }

    /// Starts the services, and then what they need not wait for.
    pub(super) fn start(&mut self) {
        self.carry_out_one(Effect::Service(Event::Reached(Milestone::Data)));
        self.carry_out_one(Effect::Service(Event::Begin));
        let mut effects = Effects::default();
        // Only opened here; messages are read in the loop.
        self.links = Links::start(&self.machine, &self.poller, &mut effects);
        // Last: the threads would compete with the start of the services.
        self.start_threads(&mut effects);
        self.carry_out(effects);
    }

    /// Starts what may block in threads of its own.
    fn start_threads(&mut self, effects: &mut Effects) {
        self.devices.listen(&self.poller, effects);
        // Again: the driver may have come since the trial began.
        self.watchdog.arm(effects);
        let data = match &self.machine.data {
            DataMount::Disk(node) => Some(node.clone()),
            DataMount::Temporary(_) => None,
        };
        let boot_writable = self.machine.manifest.boot_writable;
        late::queue(self.machine.disk.clone(), boot_writable, data, effects);
        self.trial.renew_loader(effects);
        let modules = Modules::running(self.machine.parameters.clone());
        let named = self.machine.manifest.modules.clone();
        let started = self.devices.start_loader(modules, named, self.reporter.clone());
        if let Err(error) = started.and_then(|()| self.clock.start(self.reporter.clone())) {
            effects.degrade(format!("cannot start a thread: {error}"));
        }
    }
}
