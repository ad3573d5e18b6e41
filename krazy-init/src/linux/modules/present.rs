//! The devices that are present, by the aliases that modules match.

use std::fs;

/// Returns the modaliases of all devices in sysfs.
pub(crate) fn present_aliases() -> Vec<String> {
    let mut aliases = Vec::new();
    let Ok(buses) = fs::read_dir("/sys/bus") else { return aliases };
    for bus in buses.flatten() {
        let Ok(devices) = fs::read_dir(bus.path().join("devices")) else { continue };
        for device in devices.flatten() {
            if let Ok(alias) = fs::read_to_string(device.path().join("modalias")) {
                aliases.push(alias.trim().to_owned());
            }
        }
    }
    // Input devices belong to no bus.
    if let Ok(inputs) = fs::read_dir("/sys/class/input") {
        let read = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("modalias")).ok();
        aliases.extend(inputs.flatten().filter_map(read).map(|alias| alias.trim().to_owned()));
    }
    aliases.retain(|alias| !alias.is_empty());
    aliases
}
