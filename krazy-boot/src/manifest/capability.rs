//! The names of Linux capabilities, the rights of root that a service can be given one by one.
//! Source: Linux `include/uapi/linux/capability.h`.

/// Names without `CAP_`, in lower case with dashes; the position is the number.
pub const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac-override",
    "dac-read-search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux-immutable",
    "net-bind-service",
    "net-broadcast",
    "net-admin",
    "net-raw",
    "ipc-lock",
    "ipc-owner",
    "sys-module",
    "sys-rawio",
    "sys-chroot",
    "sys-ptrace",
    "sys-pacct",
    "sys-admin",
    "sys-boot",
    "sys-nice",
    "sys-resource",
    "sys-time",
    "sys-tty-config",
    "mknod",
    "lease",
    "audit-write",
    "audit-control",
    "setfcap",
    "mac-override",
    "mac-admin",
    "syslog",
    "wake-alarm",
    "block-suspend",
    "audit-read",
    "perfmon",
    "bpf",
    "checkpoint-restore",
];

/// Returns the number of a capability: `net-admin`, `NET_ADMIN` and `CAP_NET_ADMIN` are the same.
pub fn number(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let name = name.strip_prefix("cap-").unwrap_or(&name);
    CAPABILITIES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_the_kernel() {
        assert_eq!(number("chown"), Some(0));
        assert_eq!(number("CAP_NET_ADMIN"), Some(12));
        assert_eq!(number("sys_time"), Some(25));
        assert_eq!(number("checkpoint-restore"), Some(40));
        assert_eq!(number("everything"), None);
    }
}
