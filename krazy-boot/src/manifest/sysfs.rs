//! Patterns of files in sysfs that a service may write. Source: Linux `Documentation/ABI/stable/sysfs-*`.

/// Classes of devices whose files a service may have. Files of others, such as `block`, could damage the machine.
const CLASSES: [&str; 6] = ["backlight", "gpio", "hwmon", "leds", "pwm", "thermal"];

/// The file that makes the kernel announce its device to init, as often as it is written. It is no service's.
pub const UEVENT: &str = "uevent";

/// Returns a pattern such as `class/leds/*/brightness`, which may begin with `/sys/`, without that; `None` if it is outside
/// of the classes and buses of devices, or for [`UEVENT`].
pub fn pattern(text: &str) -> Option<&str> {
    let pattern = text.strip_prefix("/sys/").unwrap_or(text);
    let parts: Vec<&str> = pattern.split('/').collect();
    let is_part = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(char::is_control);
    let is_allowed = match parts[..] {
        ["class", class, _, ..] => CLASSES.contains(&class),
        ["bus", bus, "devices", _, _, ..] => !bus.contains(['*', '?', '[']),
        _ => false,
    };
    (is_allowed && parts.last() != Some(&UEVENT) && parts.iter().all(is_part)).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_among_the_devices() {
        for good in [
            "class/leds/*/brightness",
            "class/gpio/export",
            "class/pwm/pwmchip*/pwm*/period",
            "bus/iio/devices/*/in0",
        ] {
            assert_eq!(pattern(good), Some(good));
            assert_eq!(pattern(&format!("/sys/{good}")), Some(good));
        }
        for wrong in [
            "",
            "class/leds",
            "class/leds/",
            "class/*/x/brightness",
            "class/block/sda/ro",
            "class/leds/../block/sda/ro",
            "class/leds/x/./y",
            "/class/leds/x/y",
            "bus/pci/rescan",
            "class/leds/x/uevent",
            "bus/*/devices/x/y",
            "bus/pci/devices/x",
            "kernel/uevent_helper",
            "class/leds/x\n/y",
        ] {
            assert_eq!(pattern(wrong), None, "{wrong:?}");
        }
    }
}
