//! The devices that are present, by the aliases that modules match.

use std::fs;
use std::path::Path;

/// Returns the modaliases of all devices in sysfs.
pub(crate) fn present_aliases() -> Vec<String> {
    let mut aliases = Vec::new();
    let Ok(buses) = fs::read_dir("/sys/bus") else { return aliases };
    for bus in buses.flatten() {
        let Ok(devices) = fs::read_dir(bus.path().join("devices")) else { continue };
        aliases.extend(devices.flatten().filter_map(|device| alias_of(&device.path())));
    }
    // Input devices belong to no bus.
    if let Ok(inputs) = fs::read_dir("/sys/class/input") {
        aliases.extend(inputs.flatten().filter_map(|input| alias_of(&input.path())));
    }
    aliases
}

/// Returns the alias of the device in a directory of sysfs. Memory cards have theirs in the variables of their event only.
fn alias_of(device: &Path) -> Option<String> {
    let alias = match fs::read_to_string(device.join("modalias")) {
        Ok(alias) => alias,
        Err(_) => {
            let variables = fs::read_to_string(device.join("uevent")).ok()?;
            variables.lines().find_map(|line| line.strip_prefix("MODALIAS="))?.to_owned()
        }
    };
    let alias = alias.trim();
    (!alias.is_empty()).then(|| alias.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_is_in_a_file_or_in_the_variables_of_the_event() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path();
        assert_eq!(alias_of(device), None);
        fs::write(device.join("uevent"), "DRIVER=mmcblk\nMMC_TYPE=SD\nMODALIAS=mmc:block\n").unwrap();
        assert_eq!(alias_of(device).as_deref(), Some("mmc:block"));
        fs::write(device.join("modalias"), "usb:v0BDA\n").unwrap();
        assert_eq!(alias_of(device).as_deref(), Some("usb:v0BDA"));
        fs::write(device.join("modalias"), "\n").unwrap();
        assert_eq!(alias_of(device), None);
    }
}
