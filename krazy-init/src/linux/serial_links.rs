//! `/dev/serial`: names of USB serial lines that do not depend on the order in which they are plugged in. Source:
//! systemd's udev rules `60-serial.rules`, and its `usb_id` and `path_id`, of which the parts for USB lines are here.
//!
//! | name | of |
//! |---|---|
//! | `by-id/usb-MANUFACTURER_PRODUCT_SERIAL-ifINTERFACE-portPORT` | the device, wherever it is plugged in |
//! | `by-path/pci-0000:00:14.0-usb-0:1.2:1.0-port0` | the socket, whatever is plugged in |

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The directory in which the kernel tells about devices.
pub(crate) const SYSFS: &str = "/sys";

/// Directories of links, below `/dev`.
const DIRECTORIES: [&str; 2] = ["serial/by-id", "serial/by-path"];

/// The longest manufacturer and product in bytes.
const MAX_TEXT: usize = 63;

/// Returns true if `node`, a name below `/dev`, can have links.
pub(crate) fn is_usb_line(node: &str) -> bool {
    ["ttyUSB", "ttyACM"].iter().any(|kind| {
        node.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Returns the names of `node` below `/dev`; none if it is no USB serial line, or gone.
pub(crate) fn names(sysfs: &Path, node: &str) -> Vec<String> {
    if !is_usb_line(node) {
        return Vec::new();
    }
    let Ok((sysfs, device)) =
        sysfs.canonicalize().and_then(|top| Ok((top, sysfs.join("class/tty").join(node).canonicalize()?)))
    else {
        return Vec::new();
    };
    let (mut id, mut interface, mut port) = (None, None, None);
    let mut path = String::new();
    let mut has_known_parent = false;
    let mut previous = String::new();
    for directory in device.ancestors().take_while(|directory| *directory != sysfs) {
        let Some(subsystem) = link_name(&directory.join("subsystem")) else { continue };
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let place = match subsystem.as_str() {
            "usb" => name.split_once('-').map(|(_, socket)| format!("usb-0:{socket}")),
            "pci" | "platform" => Some(format!("{subsystem}-{name}")),
            _ => None,
        };
        has_known_parent |= place.is_some() && subsystem != "usb";
        match subsystem.as_str() {
            "usb-serial" => port = port.or_else(|| attribute(directory, "port_number")),
            "usb" if interface.is_none() => interface = attribute(directory, "bInterfaceNumber"),
            "usb" if id.is_none() => id = usb_id(directory),
            _ => {}
        }
        // Of the devices of one bus that hang on each other, such as hubs, the last one names the place.
        if let Some(place) = place.filter(|_| subsystem != previous) {
            path = if path.is_empty() { place } else { format!("{place}-{path}") };
        }
        previous = subsystem;
    }
    let port = port.map_or_else(String::new, |port| format!("-port{port}"));
    let by_id = id.zip(interface).map(|(id, interface)| format!("usb-{id}-if{interface}{port}"));
    let by_path = has_known_parent.then(|| format!("{path}{port}"));
    let named = DIRECTORIES.into_iter().zip([by_id, by_path]);
    named.filter_map(|(directory, name)| Some(format!("{directory}/{}", replaced(&name?)))).collect()
}

/// Creates the links of `node`. A name that another device has, which is there still, remains that device's.
pub(crate) fn create(sysfs: &Path, dev: &Path, node: &str) -> io::Result<()> {
    for name in names(sysfs, node) {
        let link = dev.join(&name);
        if link_name(&link).is_some_and(|owner| names(sysfs, &owner).contains(&name)) {
            continue;
        }
        if let Some(directory) = link.parent() {
            fs::create_dir_all(directory)?;
        }
        remove(&link)?;
        symlink(Path::new("../..").join(node), &link)?;
    }
    Ok(())
}

/// Creates the links of every line there is.
pub(crate) fn create_all(sysfs: &Path, dev: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(sysfs.join("class/tty")) else { return Ok(()) };
    let mut nodes: Vec<_> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    nodes.sort_unstable();
    nodes.iter().filter(|node| is_usb_line(node)).try_for_each(|node| create(sysfs, dev, node))
}

/// Removes the links of `node`, which is gone. Another device of the same name gets it.
pub(crate) fn remove_all(sysfs: &Path, dev: &Path, node: &str) -> io::Result<()> {
    let target = Path::new("../..").join(node);
    for directory in DIRECTORIES {
        for entry in fs::read_dir(dev.join(directory)).into_iter().flatten().flatten() {
            if fs::read_link(entry.path()).is_ok_and(|to| to == target) {
                remove(&entry.path())?;
            }
        }
    }
    create_all(sysfs, dev)
}

fn remove(link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns manufacturer, product and serial number of the USB device in `directory`; `None` if it is none.
fn usb_id(directory: &Path) -> Option<String> {
    let text = |name, number| {
        let text = attribute(directory, name).or_else(|| attribute(directory, number))?;
        let text = joined(&text);
        Some(replaced(&text[..text.floor_char_boundary(MAX_TEXT)]))
    };
    let id = format!("{}_{}", text("manufacturer", "idVendor")?, text("product", "idProduct")?);
    // Other characters are a sign of a number that is none.
    let is_valid = |text: &String| text.bytes().all(|byte| (0x20..0x80).contains(&byte) && byte != b',');
    let serial = attribute(directory, "serial").filter(is_valid);
    let serial = serial.map(|text| replaced(&joined(&text)));
    Some(serial.filter(|text| !text.is_empty()).map_or_else(|| id.clone(), |serial| format!("{id}_{serial}")))
}

/// Replaces white space between words by one `_`.
fn joined(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join("_")
}

/// Replaces characters that udev does not allow in the names of links.
fn replaced(text: &str) -> String {
    let mut rest = text.chars().peekable();
    let mut result = String::new();
    while let Some(c) = rest.next() {
        let is_escape = c == '\\' && rest.peek() == Some(&'x');
        let is_allowed = c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || is_escape;
        result.push(if is_allowed || !c.is_ascii() && c != char::REPLACEMENT_CHARACTER { c } else { '_' });
    }
    result
}

fn attribute(directory: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(directory.join(name)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

fn link_name(link: &Path) -> Option<String> {
    let target: PathBuf = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERFACE: &str = "devices/pci0000:00/0000:00:1c.0/0000:01:00.0/usb1/1-1/1-1.2/1-1.2:1.0";

    /// A sysfs and a `/dev`, with the tty of a two-port FTDI adapter on a hub behind a PCI bridge.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Machine(tempfile::tempdir().unwrap());
            for (directory, subsystem) in [
                ("devices/pci0000:00/0000:00:1c.0", "bus/pci"),
                ("devices/pci0000:00/0000:00:1c.0/0000:01:00.0", "bus/pci"),
                ("devices/pci0000:00/0000:00:1c.0/0000:01:00.0/usb1", "bus/usb"),
                ("devices/pci0000:00/0000:00:1c.0/0000:01:00.0/usb1/1-1", "bus/usb"),
            ] {
                machine.device(directory, subsystem, &[]);
            }
            machine.usb("1-1.2", "A50285BI");
            machine.line("1-1.2", "ttyUSB0", "0");
            machine
        }

        fn sysfs(&self) -> PathBuf {
            self.0.path().join("sys")
        }

        fn dev(&self) -> PathBuf {
            self.0.path().join("dev")
        }

        fn device(&self, directory: &str, subsystem: &str, attributes: &[(&str, &str)]) {
            let directory = self.sysfs().join(directory);
            fs::create_dir_all(&directory).unwrap();
            symlink(Path::new("/sys").join(subsystem), directory.join("subsystem")).unwrap();
            for (name, value) in attributes {
                fs::write(directory.join(name), format!("{value}\n")).unwrap();
            }
        }

        fn usb(&self, name: &str, serial: &str) {
            let texts = [
                ("idVendor", "0403"),
                ("idProduct", "6001"),
                ("manufacturer", " FTDI  Ltd/x"),
                ("product", "FT232R USB UART"),
                ("serial", serial),
            ];
            let directory = Path::new(INTERFACE).parent().unwrap().with_file_name(name);
            self.device(directory.to_str().unwrap(), "bus/usb", &texts);
            let interface = directory.join(format!("{name}:1.0"));
            self.device(interface.to_str().unwrap(), "bus/usb", &[("bInterfaceNumber", "00")]);
        }

        fn line(&self, usb: &str, node: &str, port: &str) {
            let device = Path::new(INTERFACE).parent().unwrap().with_file_name(usb);
            let line = device.join(format!("{usb}:1.0")).join(node);
            self.device(line.to_str().unwrap(), "bus/usb-serial", &[("port_number", port)]);
            let tty = line.join("tty").join(node);
            self.device(tty.to_str().unwrap(), "class/tty", &[]);
            fs::create_dir_all(self.sysfs().join("class/tty")).unwrap();
            symlink(self.sysfs().join(tty), self.sysfs().join("class/tty").join(node)).unwrap();
            fs::create_dir_all(self.dev()).unwrap();
            fs::write(self.dev().join(node), "").unwrap();
        }

        fn unplug(&self, node: &str) {
            fs::remove_file(self.sysfs().join("class/tty").join(node)).unwrap();
            fs::remove_file(self.dev().join(node)).unwrap();
            remove_all(&self.sysfs(), &self.dev(), node).unwrap();
        }

        /// The links, with what they lead to.
        fn links(&self, directory: &str) -> Vec<(String, PathBuf)> {
            let entries = fs::read_dir(self.dev().join("serial").join(directory)).unwrap().flatten();
            let mut links: Vec<_> = entries
                .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_link(entry.path()).unwrap()))
                .collect();
            links.sort();
            links
        }
    }

    #[test]
    fn line_of_an_adapter_is_named_as_udev_names_it() {
        let machine = Machine::new();
        assert_eq!(
            names(&machine.sysfs(), "ttyUSB0"),
            [
                "serial/by-id/usb-FTDI_Ltd_x_FT232R_USB_UART_A50285BI-if00-port0",
                "serial/by-path/pci-0000:01:00.0-usb-0:1.2:1.0-port0",
            ]
        );
        for other in ["ttyUSB1", "ttyS0", "ttyUSB", "ttyUSB0/../x"] {
            assert_eq!(names(&machine.sysfs(), other), [""; 0], "{other}");
        }
    }

    #[test]
    fn modem_on_a_board_has_no_port_and_numbers_in_place_of_texts() {
        let machine = Machine::new();
        let usb = "devices/platform/soc/3f980000.usb/usb2/2-1";
        for (directory, subsystem, attributes) in [
            ("devices/platform/soc", "bus/platform", &[][..]),
            ("devices/platform/soc/3f980000.usb", "bus/platform", &[]),
            (usb, "bus/usb", &[("idVendor", "2341"), ("idProduct", "0043"), ("serial", "not, one")]),
            (&format!("{usb}/2-1:1.1"), "bus/usb", &[("bInterfaceNumber", "01")]),
            (&format!("{usb}/2-1:1.1/tty/ttyACM0"), "class/tty", &[]),
        ] {
            machine.device(directory, subsystem, attributes);
        }
        let tty = machine.sysfs().join(usb).join("2-1:1.1/tty/ttyACM0");
        symlink(tty, machine.sysfs().join("class/tty/ttyACM0")).unwrap();
        assert_eq!(
            names(&machine.sysfs(), "ttyACM0"),
            ["serial/by-id/usb-2341_0043-if01", "serial/by-path/platform-3f980000.usb-usb-0:1:1.1"]
        );
    }

    #[test]
    fn links_follow_devices_that_come_and_go() {
        let machine = Machine::new();
        machine.usb("1-1.3", "B2");
        machine.line("1-1.3", "ttyUSB1", "0");
        create_all(&machine.sysfs(), &machine.dev()).unwrap();
        let id = |serial: &str| format!("usb-FTDI_Ltd_x_FT232R_USB_UART_{serial}-if00-port0");
        let to = |node: &str| Path::new("../..").join(node);
        assert_eq!(machine.links("by-id"), [(id("A50285BI"), to("ttyUSB0")), (id("B2"), to("ttyUSB1"))]);
        assert_eq!(machine.links("by-path").len(), 2);
        machine.unplug("ttyUSB1");
        assert_eq!(machine.links("by-id"), [(id("A50285BI"), to("ttyUSB0"))]);
        // Two devices of one name: the first one has it until it goes.
        machine.usb("1-1.4", "A50285BI");
        machine.line("1-1.4", "ttyUSB2", "0");
        create(&machine.sysfs(), &machine.dev(), "ttyUSB2").unwrap();
        assert_eq!(machine.links("by-id"), [(id("A50285BI"), to("ttyUSB0"))]);
        machine.unplug("ttyUSB0");
        assert_eq!(machine.links("by-id"), [(id("A50285BI"), to("ttyUSB2"))]);
        assert_eq!(machine.links("by-path").len(), 1);
    }

    #[test]
    fn characters_that_no_link_may_have_are_replaced() {
        assert_eq!(replaced("a/b c\\x2f\\y\"é\u{fffd}#+-.:=@_9"), "a_b_c\\x2f_y_é_#+-.:=@_9");
    }
}
