//! Kernel settings, as a table, and the host name. Source: Linux `Documentation/admin-guide/sysctl/`.

use std::fs;
use std::io;

/// Files below `/proc/sys` and their values. A file that the kernel lacks is skipped.
const SYSCTLS: &[(&str, &str)] = &[
    // Services have no capabilities, and a web server should not need one for port 80.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // Otherwise `ping` in a service needs a capability.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // The kernel runs this program to load a module: see `module_helper`.
    ("kernel/modprobe", "/bin/init"),
    // Services cannot redirect init's files in /tmp by links.
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
];

/// Seconds until the kernel restarts after a panic, unless the command line sets it.
const PANIC_TIMEOUT: &str = "10";

/// Applies the table and returns a message for each failure.
pub(crate) fn apply() -> Vec<String> {
    let mut problems = Vec::new();
    let panic_unset = fs::read_to_string("/proc/sys/kernel/panic").is_ok_and(|text| text.trim() == "0");
    let panic = panic_unset.then_some(("kernel/panic", PANIC_TIMEOUT));
    for (name, value) in SYSCTLS.iter().copied().chain(panic) {
        match fs::OpenOptions::new().write(true).open(format!("/proc/sys/{name}")) {
            Ok(mut file) => {
                if let Err(error) = io::Write::write_all(&mut file, value.as_bytes()) {
                    problems.push(format!("cannot set {name}: {error}"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => problems.push(format!("cannot set {name}: {error}")),
        }
    }
    problems
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
    fn only_valid_hostnames_are_accepted() {
        assert!(is_hostname("weather") && is_hostname("a-1.example.org"));
        for wrong in ["", "-a", "a-", "a..b", "a b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!is_hostname(wrong), "{wrong}");
        }
    }
}
