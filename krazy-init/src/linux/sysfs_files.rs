//! Files of sysfs that match a pattern such as `class/leds/*/brightness`. Source: Linux
//! `Documentation/admin-guide/sysfs-rules.rst`.

use std::fs;
use std::path::{Path, PathBuf};

use krazy_boot::manifest::sysfs::UEVENT;

use super::modules::matches;

/// Returns the files below `sysfs` that match `pattern`, by their places in the tree of devices. With a `device`, only the
/// files of that one, which is named by its subsystem and its name there.
///
/// A directory of a class or bus holds links to its devices. Below a device a wildcard matches no link, because links there
/// lead to other devices and back.
pub(crate) fn matching(sysfs: &Path, pattern: &str, device: Option<(&str, &str)>) -> Vec<PathBuf> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let device_at = if parts.first() == Some(&"bus") { 3 } else { 2 };
    let is_file = |index: usize| index + 1 == parts.len();
    if let Some((subsystem, name)) = device {
        let of_device = parts.get(device_at).is_some_and(|part| is_file(device_at) || matches(part, name));
        if parts.get(1) != Some(&subsystem) || !of_device {
            return Vec::new();
        }
    }
    let mut found = vec![sysfs.to_owned()];
    for (index, part) in parts.iter().enumerate() {
        let next = |directory: &PathBuf| match device {
            Some((_, name)) if index == device_at && !is_file(index) => vec![directory.join(name)],
            _ if part.contains(['*', '?', '[']) => listed(directory, part, index == device_at),
            _ => vec![directory.join(part)],
        };
        found = found.iter().flat_map(next).collect();
    }
    let Ok(top) = sysfs.canonicalize() else { return Vec::new() };
    let is_attribute = |path: &PathBuf| {
        let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        is_file && path.starts_with(&top) && !path.ends_with(UEVENT)
    };
    found.iter().filter_map(|path| path.canonicalize().ok()).filter(is_attribute).collect()
}

fn listed(directory: &Path, pattern: &str, with_links: bool) -> Vec<PathBuf> {
    // A directory that cannot be listed is gone, as devices are unplugged.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| matches(pattern, &entry.file_name().to_string_lossy()))
        .filter(|entry| with_links || entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with two LEDs, a PWM chip with an exported channel, and a disk.
    fn sysfs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (device, class, files) in [
            ("devices/board/leds/red", "leds", &["brightness", "trigger", "uevent"][..]),
            ("devices/board/leds/green", "leds", &["brightness"]),
            ("devices/board/pwm/pwmchip0", "pwm", &["export", "pwm0/period"]),
            ("devices/disk/block/sda", "block", &["ro"]),
        ] {
            for file in files {
                let path = dir.path().join(device).join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            let class = dir.path().join("class").join(class);
            fs::create_dir_all(&class).unwrap();
            let target = dir.path().join(device);
            symlink(&target, class.join(target.file_name().unwrap())).unwrap();
            symlink(dir.path().join("devices/disk/block/sda"), target.join("link")).unwrap();
        }
        fs::write(dir.path().join("class/pwm/version"), "").unwrap();
        dir
    }

    fn found(pattern: &str, device: Option<(&str, &str)>) -> Vec<String> {
        let dir = sysfs();
        let top = dir.path().canonicalize().unwrap();
        let paths = matching(dir.path(), pattern, device);
        let mut paths: Vec<_> = paths
            .iter()
            .map(|path| path.strip_prefix(&top).unwrap().to_string_lossy().into_owned())
            .collect();
        paths.sort();
        paths
    }

    #[test]
    fn files_of_all_devices_match() {
        let [green, red] = ["green", "red"].map(|led| format!("devices/board/leds/{led}/brightness"));
        assert_eq!(found("class/leds/*/brightness", None), [green, red]);
        assert_eq!(found("class/leds/red/t*", None), ["devices/board/leds/red/trigger"]);
        assert_eq!(found("class/pwm/pwmchip?/pwm*/period", None), ["devices/board/pwm/pwmchip0/pwm0/period"]);
        assert_eq!(found("class/pwm/version", None), ["class/pwm/version"]);
    }

    #[test]
    fn wildcards_below_a_device_lead_to_no_other_one() {
        assert_eq!(found("class/leds/*/*/ro", None), [""; 0]);
        assert_eq!(found("class/leds/*/*", None).len(), 3, "links are no files");
        assert_eq!(found("class/leds/*/absent", None), [""; 0]);
        assert_eq!(found("class/absent/*/x", None), [""; 0]);
    }

    #[test]
    fn files_of_a_device_that_appears_are_found_alone() {
        let of = |pattern, subsystem, name| found(pattern, Some((subsystem, name)));
        let red = "devices/board/leds/red/brightness";
        assert_eq!(of("class/leds/*/brightness", "leds", "red"), [red]);
        assert_eq!(of("class/leds/g*/brightness", "leds", "red"), [""; 0]);
        assert_eq!(of("class/leds/*/brightness", "pwm", "red"), [""; 0]);
        assert_eq!(of("class/pwm/pwmchip0/pwm0/period", "pwm", "pwmchip0").len(), 1);
        assert_eq!(of("class/pwm/version", "pwm", "pwmchip0"), ["class/pwm/version"]);
    }
}
