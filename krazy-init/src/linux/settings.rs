//! Kernel settings, as a table, and the host name. Source: Linux `Documentation/admin-guide/sysctl/`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use krazy_boot::manifest::sysctl;

/// The directory of the kernel's settings.
pub(crate) const PROC_SYS: &str = "/proc/sys";

/// The program that the kernel runs to load a module: see `module_helper`.
pub(crate) const MODULE_HELPER: &str = "/bin/init";

/// Files below `/proc/sys` and their values. A file that the kernel lacks is skipped.
const SYSCTLS: &[(&str, &str)] = &[
    // Services have no capabilities, and a web server should not need one for port 80.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // Otherwise `ping` in a service needs a capability.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // Until the first drivers are loaded: see `autoload`.
    ("kernel/modprobe", MODULE_HELPER),
    // Services cannot redirect init's files in /tmp by links.
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    // Programs of the kernel are for root: an account needs none, and their verifier has had holes. 2 and not 1: root can
    // allow them again.
    ("kernel/unprivileged_bpf_disabled", "2"),
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
    // A process can trace its children only, if its system calls are not filtered.
    ("kernel/yama/ptrace_scope", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("dev/tty/ldisc_autoload", "0"),
    ("dev/tty/legacy_tiocsti", "0"),
];

/// The number of user namespaces, in which an account has the rights of root over much code of the kernel.
const USER_NAMESPACES: (&str, &str) = ("user/max_user_namespaces", "0");

/// Seconds until the kernel restarts after a panic, unless the command line sets it.
const PANIC_TIMEOUT: &str = "10";

/// Applies the table, without the settings in `requested`, of which some cannot be changed twice. Returns a message for
/// each failure. User namespaces stay possible if a service `needs_namespaces`.
pub(crate) fn apply(requested: &BTreeMap<String, String>, needs_namespaces: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let is_requested = |name: &str| requested.keys().any(|key| sysctl::path(key).as_deref() == Some(name));
    let namespaces = (!needs_namespaces).then_some(USER_NAMESPACES);
    let panic_unset = fs::read_to_string("/proc/sys/kernel/panic").is_ok_and(|text| text.trim() == "0");
    let panic = panic_unset.then_some(("kernel/panic", PANIC_TIMEOUT));
    let table = SYSCTLS.iter().copied().chain(panic).chain(namespaces);
    for (name, value) in table.filter(|(name, _)| !is_requested(name)) {
        match fs::OpenOptions::new().write(true).open(format!("{PROC_SYS}/{name}")) {
            Ok(mut file) => {
                if let Err(error) = file.write_all(value.as_bytes()) {
                    problems.push(format!("cannot set {name}: {error}"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => problems.push(format!("cannot set {name}: {error}")),
        }
    }
    problems
}

/// Applies the settings that the appliance requests, below `top`, and returns a message for each failure.
pub(crate) fn apply_requested(requested: &BTreeMap<String, String>, top: &Path) -> Vec<String> {
    let set = |(name, value): (&String, &String)| {
        let path = sysctl::path(name).ok_or(io::ErrorKind::NotFound)?;
        fs::OpenOptions::new().write(true).open(top.join(path))?.write_all(value.as_bytes())
    };
    let problem = |setting: (&String, &String)| {
        let error = set(setting).err()?;
        let (name, value) = setting;
        Some(match error.kind() {
            io::ErrorKind::NotFound => {
                format!("the kernel has no setting `{name}`, or not before its driver is loaded")
            }
            _ => format!("cannot set {name} to `{value}`: {error}"),
        })
    };
    requested.iter().filter_map(problem).collect()
}

/// Sets the host name.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Returns true if `name` can be a host name. Source: RFC 1123, section 2.1, and Linux's 64 bytes.
pub(crate) fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 63 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requested_settings_are_written_and_unknown_ones_named() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("net/core")).unwrap();
        fs::write(top.path().join("net/core/rmem_max"), "").unwrap();
        fs::create_dir(top.path().join("net/core/directory")).unwrap();
        let requested = [
            ("net.core.rmem_max", "2500000"),
            ("net.core.rmem_maximum", "1"),
            ("../x.y", "1"),
            ("net.core.directory", "1"),
        ];
        let requested = requested.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let problems = apply_requested(&requested, top.path());
        assert_eq!(fs::read_to_string(top.path().join("net/core/rmem_max")).unwrap(), "2500000");
        assert!(problems[0].starts_with("the kernel has no setting `../x.y`"), "{problems:?}");
        assert!(problems[1].starts_with("cannot set net.core.directory to `1`: "), "{problems:?}");
        assert!(problems[2].starts_with("the kernel has no setting `net.core.rmem_maximum`"), "{problems:?}");
        assert!(!top.path().join("net/core/rmem_maximum").exists());
    }

    #[test]
    fn only_valid_hostnames_are_accepted() {
        assert!(is_hostname("weather") && is_hostname("a-1.example.org"));
        for wrong in ["", "-a", "a-", "a..b", "a b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!is_hostname(wrong), "{wrong}");
        }
    }
}
