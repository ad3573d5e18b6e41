//! Devices that come: modules for them, power buttons, the watchdog.

use std::path::Path;
use std::sync::mpsc;

use super::devices::DeviceLoader;
use super::late::{self, LateWork};
use super::poller::Source;
use super::runtime::Runtime;
use super::wake::Reporter;
use crate::linux::button::PowerButton;
use crate::linux::data::DataMount;
use crate::linux::modules::Modules;
use crate::linux::power::End;
use crate::linux::uevent::{Uevent, Uevents};
use crate::linux::watchdog::Watchdog;
use crate::net::sntp;

impl Runtime {
    pub(super) fn start_devices(&mut self, reporter: Reporter) {
        let opened = Uevents::open().and_then(|uevents| {
            self.poller.add(uevents.descriptor(), Source::Uevents)?;
            Ok(uevents)
        });
        match opened {
            Ok(uevents) => self.uevents = Some(uevents),
            Err(error) => self.degrade(format!("devices plugged in later are not noticed: {error}")),
        }
        // Again: what came before announcements were heard.
        self.hand_over_devices();
        self.open_buttons();
        self.arm_watchdog();
        let data = match &self.machine.data {
            DataMount::Disk(node) => Some(node.clone()),
            DataMount::Temporary(_) => None,
        };
        let boot_writable = self.machine.manifest.boot_writable;
        let work = LateWork { disk: self.machine.disk.clone(), boot_writable, data };
        if let Err(error) = late::start(work, reporter.clone()) {
            self.degrade(format!("/boot is not mounted: {error}"));
        }
        let (sender, receiver) = mpsc::channel();
        let modules = Modules::running(self.machine.parameters.clone());
        let named = self.machine.manifest.modules.clone();
        let started = DeviceLoader::start(modules, named, reporter.clone()).map(|it| self.devices = Some(it));
        let started = started.and_then(|()| sntp::start(receiver, reporter));
        match started {
            Ok(()) => self.time_servers = Some(sender),
            Err(error) => self.degrade(format!("cannot start a thread: {error}")),
        }
    }

    pub(super) fn device_changed(&mut self, event: Uevent) {
        if event.action != "add" {
            return;
        }
        if let (Some(devices), Some(modalias)) = (&self.devices, event.modalias) {
            devices.wants(modalias);
        }
        if let Some(name) = &event.devname {
            let node = Path::new("/dev").join(name);
            // A node that is gone already needs no owner.
            if let Err(error) = self.device_groups.apply_to(&node)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                self.degrade(format!("{} cannot be handed over: {error}", node.display()));
            }
        }
        match (event.subsystem.as_str(), event.devname) {
            ("input", Some(name)) if name.starts_with("input/event") => self.open_button(&name),
            ("watchdog", Some(_)) => self.arm_watchdog(),
            _ => {}
        }
    }

    /// Gives services the devices they are to have, as far as they are there.
    pub(super) fn hand_over_devices(&mut self) {
        for problem in self.device_groups.apply() {
            self.degrade(problem);
        }
    }

    pub(super) fn open_buttons(&mut self) {
        let names = std::fs::read_dir("/dev/input").map(|entries| {
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
        });
        for name in names.unwrap_or_default().iter().filter(|name| name.starts_with("event")) {
            self.open_button(&format!("input/{name}"));
        }
    }

    pub(super) fn open_button(&mut self, name: &str) {
        if self.buttons.iter().any(|(known, button)| known == name && button.is_some()) {
            return;
        }
        // Most input devices are no power buttons, and one that vanished meanwhile is none any more.
        if let Ok(Some(button)) = PowerButton::open(&Path::new("/dev").join(name)) {
            let source = Source::Button(self.buttons.len() as u32);
            match self.poller.add(button.descriptor(), source) {
                Ok(()) => self.buttons.push((name.to_owned(), Some(button))),
                Err(error) => self.degrade(format!("the power button {name} does not work: {error}")),
            }
        }
    }

    pub(super) fn button(&mut self, index: usize) {
        let Some((_, slot @ Some(_))) = self.buttons.get_mut(index) else { return };
        match slot.as_mut().map(PowerButton::pressed) {
            Some(Ok(true)) => self.shut_down(End::Poweroff, "the power button was pressed"),
            Some(Err(_)) => *slot = None,
            Some(Ok(false)) | None => {}
        }
    }

    pub(super) fn arm_watchdog(&mut self) {
        if self.watchdog.is_none() && self.machine.use_watchdog {
            match Watchdog::arm() {
                Ok(watchdog) => self.watchdog = watchdog,
                Err(error) => self.degrade(format!("the watchdog cannot be armed: {error}")),
            }
        }
    }
}
