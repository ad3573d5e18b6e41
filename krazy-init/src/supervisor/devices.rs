//! Devices as a part of the loop: announcements of the kernel, modules for new devices, owners of device nodes, and
//! power buttons.

use std::fs;
use std::io;
use std::path::Path;

use super::device_directories::DeviceDirectories;
use super::device_groups::DeviceGroups;
use super::driver_loader::DriverLoader;
use super::effect::{Effect, Effects};
use super::inbox::Reporter;
use super::poller::{Poller, Source};
use crate::linux::button::PowerButton;
use crate::linux::modules::Modules;
use crate::linux::power::End;
use crate::linux::serial_links::{self, SYSFS};
use crate::linux::uevent::{Uevent, Uevents};

/// The directory of device nodes.
const DEV: &str = "/dev";

/// Device nodes of input devices, power buttons among them.
const INPUT: &str = "/dev/input";

/// The devices of the machine, as far as init deals with them.
#[derive(Debug)]
pub(super) struct Devices {
    groups: DeviceGroups,
    directories: DeviceDirectories,
    uevents: Option<Uevents>,
    loader: Option<DriverLoader>,
    /// Power buttons by their names below `/dev`. The position is the index of [`Source::Button`], so a button that
    /// is gone leaves its position empty.
    buttons: Vec<(String, Option<PowerButton>)>,
}

impl Devices {
    /// Devices whose nodes are to belong to `groups`, and to be in `directories` too; nothing is opened yet.
    pub(super) fn new(groups: DeviceGroups, directories: DeviceDirectories) -> Self {
        Devices { groups, directories, uevents: None, loader: None, buttons: Vec::new() }
    }

    /// Creates links to serial lines, and gives services the device nodes and files of sysfs that are
    /// theirs, as far as they exist.
    pub(super) fn hand_over_nodes(&self, effects: &mut Effects) {
        if let Err(error) = serial_links::create_all(Path::new(SYSFS), Path::new(DEV)) {
            effects.degrade(links_failed(&error));
        }
        for problem in self.groups.apply() {
            effects.degrade(problem);
        }
        // After the groups, whose rights the copies have.
        for problem in self.directories.fill() {
            effects.degrade(problem);
        }
    }

    /// Listens to announcements, and handles the devices that exist already.
    pub(super) fn listen(&mut self, poller: &Poller, effects: &mut Effects) {
        let opened = Uevents::open().and_then(|uevents| {
            poller.add(uevents.descriptor(), Source::Uevents)?;
            Ok(uevents)
        });
        match opened {
            Ok(uevents) => self.uevents = Some(uevents),
            Err(error) => effects.degrade(format!("devices plugged in later are not noticed: {error}")),
        }
        self.hand_over_nodes(effects);
        for entry in fs::read_dir(INPUT).into_iter().flatten().flatten() {
            if let Ok(name) = entry.file_name().into_string()
                && name.starts_with("event")
            {
                self.open_button(&format!("input/{name}"), poller, effects);
            }
        }
    }

    /// Starts the thread that loads modules: those in `named`, those for the devices present, then those for devices
    /// that are plugged in.
    pub(super) fn start_loader(
        &mut self,
        modules: Modules,
        named: Vec<String>,
        reporter: Reporter,
    ) -> io::Result<()> {
        self.loader = Some(DriverLoader::start(modules, named, reporter)?);
        Ok(())
    }

    /// Takes the next announcement; `None` when there is none for now.
    pub(super) fn next_announcement(&self) -> Option<Uevent> {
        self.uevents.as_ref().and_then(Uevents::next)
    }

    /// Takes in an announcement. Returns true if it is the driver of a watchdog, which may be armed now.
    pub(super) fn announced(&mut self, event: Uevent, poller: &Poller, effects: &mut Effects) -> bool {
        if event.subsystem == "tty"
            && let Some(name) = event.devname.as_deref().filter(|name| serial_links::is_usb_line(name))
        {
            let (sysfs, dev) = (Path::new(SYSFS), Path::new(DEV));
            let outcome = match event.action.as_str() {
                "add" => serial_links::create(sysfs, dev, name),
                "remove" => serial_links::remove_all(sysfs, dev, name),
                _ => Ok(()),
            };
            if let Err(error) = outcome {
                effects.degrade(links_failed(&error));
            }
        }
        // A PWM channel that is exported, or a trigger of an LED, is a change of its device; a driver's files come with it.
        if ["add", "bind", "change"].contains(&event.action.as_str()) {
            let device = Some((event.subsystem.as_str(), event.device.as_str()));
            for problem in self.groups.apply_to_files(Path::new(SYSFS), device) {
                effects.degrade(problem);
            }
        }
        if event.action != "add" {
            if let Some(name) = event.devname.as_deref().filter(|_| event.action == "remove") {
                self.directories.removed(name);
            }
            return false;
        }
        if let (Some(loader), Some(modalias)) = (&self.loader, event.modalias) {
            loader.request(modalias);
        }
        // An announcement without a node is a bus or a parent device; those with nodes follow.
        let Some(name) = event.devname else { return false };
        let node = Path::new(DEV).join(&name);
        // A node that is gone already needs no owner.
        if let Err(error) = self.groups.apply_to(&node)
            && error.kind() != io::ErrorKind::NotFound
        {
            effects.degrade(format!("{} cannot be handed over: {error}", node.display()));
        }
        if let Err(error) = self.directories.added(&name)
            && error.kind() != io::ErrorKind::NotFound
        {
            effects.degrade(format!("{} is not in the /dev of services: {error}", node.display()));
        }
        if event.subsystem == "input" && name.starts_with("input/event") {
            self.open_button(&name, poller, effects);
        }
        event.subsystem == "watchdog"
    }

    /// Opens the input device `name` if it is a power button that is not open yet.
    fn open_button(&mut self, name: &str, poller: &Poller, effects: &mut Effects) {
        if self.buttons.iter().any(|(known, button)| known == name && button.is_some()) {
            return;
        }
        // Most input devices are no power buttons, and one that vanished meanwhile is none any more.
        if let Ok(Some(button)) = PowerButton::open(&Path::new(DEV).join(name)) {
            let source = Source::Button(self.buttons.len() as u32);
            match poller.add(button.descriptor(), source) {
                Ok(()) => self.buttons.push((name.to_owned(), Some(button))),
                Err(error) => effects.degrade(format!("the power button {name} does not work: {error}")),
            }
        }
    }

    /// Reads from the power button at this position.
    pub(super) fn read_button(&mut self, index: u32, effects: &mut Effects) {
        let Some((_, slot @ Some(_))) = self.buttons.get_mut(index as usize) else { return };
        match slot.as_mut().map(PowerButton::pressed) {
            Some(Ok(true)) => {
                let reason = "the power button was pressed".to_owned();
                effects.push(Effect::ShutDown(End::Poweroff, reason));
            }
            Some(Err(_)) => *slot = None,
            Some(Ok(false)) | None => {}
        }
    }
}

fn links_failed(error: &io::Error) -> String {
    format!("serial lines have no links in {DEV}/serial: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, subsystem: &str, devname: Option<&str>) -> Uevent {
        Uevent {
            action: action.to_owned(),
            device: devname.unwrap_or_default().to_owned(),
            subsystem: subsystem.to_owned(),
            devname: devname.map(str::to_owned),
            modalias: None,
        }
    }

    #[test]
    fn new_watchdog_can_be_armed() {
        let mut devices = Devices::new(DeviceGroups::default(), DeviceDirectories::default());
        let poller = Poller::new().unwrap();
        let mut announced = |event| devices.announced(event, &poller, &mut Effects::default());
        assert!(announced(event("add", "watchdog", Some("watchdog0"))));
        assert!(!announced(event("remove", "watchdog", Some("watchdog0"))));
        assert!(!announced(event("add", "watchdog", None)), "its node is announced by another event");
        assert!(!announced(event("add", "block", Some("sda"))));
    }

    #[test]
    fn device_that_is_gone_already_is_no_problem() {
        let groups = DeviceGroups::new(["/dev/gone-before-*".to_owned()]);
        let mut effects = Effects::default();
        let event = event("add", "tty", Some("gone-before-1"));
        assert!(!Devices::new(groups, DeviceDirectories::default()).announced(
            event,
            &Poller::new().unwrap(),
            &mut effects
        ));
        assert_eq!(effects.into_iter().count(), 0);
    }
}
