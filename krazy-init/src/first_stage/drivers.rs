//! The kernel modules that lead to the root's disk.

use std::path::Path;

use crate::console::Console;
use crate::linux::modules::{self, ModuleError, Parameters};

/// The list of modules to load, one absolute path a line, in order.
const MODULE_LIST: &str = "/etc/krazy/modules";

/// Parts of the paths of bus drivers.
const BUSES: [&str; 2] = ["/drivers/usb/", "/drivers/pci/"];

/// A part of the modules that the image lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drivers {
    /// All modules.
    All,
    /// The drivers of a board's own disks, such as an SD card. A launcher loads no others if it can: the next kernel
    /// expects devices as the firmware left them, and kexec resets none.
    OwnDisks,
    /// The drivers of USB and PCI Express.
    Buses,
}

/// Loads the modules that the image lists. A module that does not load is reported and skipped, because the disk may
/// need another one.
pub(crate) fn load(which: Drivers, console: &mut Console, parameters: &Parameters) {
    let list = match std::fs::read_to_string(MODULE_LIST) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            console.log(&format!("cannot read {MODULE_LIST}: {error}"));
            return;
        }
    };
    let mut absent = false;
    for path in list.lines().map(str::trim).filter(|path| !path.is_empty() && which.includes(path)) {
        match modules::insert(Path::new(path), parameters) {
            Ok(()) => {}
            Err(ModuleError::Absent) => absent = true,
            // It depends on a module whose hardware is missing.
            Err(ModuleError::Symbols) if absent => {}
            Err(error) => console.log(&format!("cannot load module {path}: {error}")),
        }
    }
}

impl Drivers {
    fn includes(self, path: &str) -> bool {
        let is_bus = BUSES.iter().any(|bus| path.contains(bus));
        match self {
            Drivers::All => true,
            Drivers::OwnDisks => !is_bus,
            Drivers::Buses => is_bus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sd_card_needs_no_bus_driver() {
        let card = "/lib/modules/6.12/kernel/drivers/mmc/host/bcm2835.ko";
        let usb = "/lib/modules/6.12/kernel/drivers/usb/dwc2/dwc2.ko";
        let included = |which: Drivers| [card, usb].map(|path| which.includes(path));
        assert_eq!(included(Drivers::All), [true, true]);
        assert_eq!(included(Drivers::OwnDisks), [true, false]);
        assert_eq!(included(Drivers::Buses), [false, true]);
    }
}
