//! The kernel modules that lead to the root's disk: those of the devices that are there, because a module without its
//! device costs time at every start.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::console::Console;
use crate::linux::modules::{ModuleError, Modules, Parameters, module_name, present_aliases};

/// The files of the modules to load at every start, and of all modules: absolute paths, one a line, in an order in which
/// they load. First stages of earlier versions load all of the second list.
const START: &str = "/etc/krazy/start-modules";
const ALL: &str = "/etc/krazy/modules";

/// The time without a new device after which modules are loaded for devices that say nothing about themselves. USB disks
/// take about a second.
const SILENCE: Duration = Duration::from_secs(2);

/// Parts of the paths of bus drivers.
const BUSES: [&str; 2] = ["/drivers/usb/", "/drivers/pci/"];

/// The modules that may be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All modules.
    All,
    /// The drivers of a board's own disks, such as an SD card. A launcher loads no others if it can: the next kernel
    /// expects devices as the firmware left them, and kexec resets none.
    OwnDisks,
}

/// The modules of the initramfs. One that does not load is reported and skipped, because the disk may need another one.
#[derive(Debug)]
pub(crate) struct Drivers {
    modules: Modules,
    scope: Scope,
    /// Aliases of devices whose drivers have been requested.
    known: BTreeSet<String>,
    /// The last time that there was a new device.
    changed: Instant,
    loaded_all: bool,
}

impl Drivers {
    /// Loads what each start needs, and what the command line has parameters for.
    pub(crate) fn start(scope: Scope, parameters: Parameters, console: &mut Console) -> Self {
        let mut names = list(START, console);
        names.extend(list(ALL, console).into_iter().filter(|name| parameters.mention(name)));
        let modules = Modules::running(parameters);
        let drivers =
            Drivers { modules, scope, known: BTreeSet::new(), changed: Instant::now(), loaded_all: false };
        drivers.load(&names, console);
        drivers
    }

    /// Allows all modules.
    pub(crate) fn allow_all(&mut self) {
        self.scope = Scope::All;
        self.known.clear();
        self.changed = Instant::now();
        self.loaded_all = false;
    }

    /// Loads the drivers of devices that are new, until there are no more: a bus shows its devices only once it has its
    /// driver. If nothing new has come for a while, loads all modules.
    pub(crate) fn load_for_devices(&mut self, console: &mut Console) {
        loop {
            let known = &mut self.known;
            let new: Vec<String> =
                present_aliases().into_iter().filter(|alias| known.insert(alias.clone())).collect();
            if new.is_empty() {
                break;
            }
            self.changed = Instant::now();
            match self.modules.for_aliases(&new) {
                Ok(names) => self.load(&names, console),
                Err(error) => console.log(&format!("cannot read the module aliases: {error}")),
            }
        }
        if !self.loaded_all && self.changed.elapsed() >= SILENCE {
            self.loaded_all = true;
            let mut names = list(ALL, console);
            names.retain(|name| !self.modules.is_blacklisted(name));
            self.load(&names, console);
        }
    }

    fn load(&self, names: &[String], console: &mut Console) {
        let mut absent = false;
        for name in names {
            match self.includes(name) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    console.log(&format!("cannot find module {name}: {error}"));
                    continue;
                }
            }
            match self.modules.load(name) {
                Ok(_) => {}
                Err(ModuleError::Absent) => absent = true,
                // It depends on a module whose hardware is missing.
                Err(ModuleError::Symbols) if absent => {}
                Err(error) => console.log(&format!("cannot load module {name}: {error}")),
            }
        }
    }

    fn includes(&self, name: &str) -> io::Result<bool> {
        match self.scope {
            Scope::All => Ok(true),
            Scope::OwnDisks => Ok(self.modules.path_of(name)?.is_some_and(|path| !is_bus(&path))),
        }
    }
}

fn is_bus(path: &str) -> bool {
    BUSES.iter().any(|bus| path.contains(bus))
}

/// Reads the names in a list of files, which is empty if the kernel has everything built in.
fn list(path: &str, console: &mut Console) -> Vec<String> {
    match std::fs::read_to_string(Path::new(path)) {
        Ok(text) => text.lines().map(module_name).collect(),
        Err(error) => {
            console.log(&format!("cannot read {path}: {error}"));
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sd_card_needs_no_bus_driver() {
        assert!(!is_bus("kernel/drivers/mmc/host/bcm2835.ko"));
        assert!(is_bus("kernel/drivers/usb/dwc2/dwc2.ko"));
        assert!(is_bus("kernel/drivers/pci/controller/pcie-brcmstb.ko"));
    }
}
