//! Kernel settings: their names, and those that are not the appliance's to change. Source: sysctl.d(5).

/// Returns the path of the setting `name` below `/proc/sys`; `None` if it cannot be one.
///
/// Of dots and slashes the first one in the name separates; the others stand for each other: `net.ipv4.conf.eth0/1.mtu`
/// and `net/ipv4/conf/eth0.1/mtu` are the same.
pub fn path(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']).map(|first| name.as_bytes()[first]) {
        Some(b'.') => name.replace('/', "\0").replace('.', "/").replace('\0', "."),
        _ => name.to_owned(),
    };
    let is_part = |part: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
        !matches!(part, "" | "." | "..") && part.bytes().all(is_allowed)
    };
    (path.contains('/') && path.split('/').all(is_part)).then_some(path)
}

/// Returns the reason why an appliance must not change the setting at `path`; `None` if it may.
pub fn reserved(path: &str) -> Option<&'static str> {
    Some(match path {
        "kernel/hostname" => "the key `hostname` sets it",
        "kernel/panic" => "`panic=SECONDS` in `cmdline` sets it",
        "kernel/modprobe" => "krazy-init loads modules for the kernel",
        "kernel/modules_disabled" => "krazy-init loads modules for devices that are plugged in",
        "kernel/ctrl-alt-del" | "kernel/cad_pid" => "krazy-init stops the services on Ctrl-Alt-Del",
        "fs/protected_symlinks"
        | "fs/protected_hardlinks"
        | "fs/protected_fifos"
        | "fs/protected_regular" => "it keeps services from redirecting files in /tmp",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_of_either_form() {
        for (name, expected) in [
            ("net.core.rmem_max", "net/core/rmem_max"),
            ("net/core/rmem_max", "net/core/rmem_max"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("kernel.ctrl-alt-del", "kernel/ctrl-alt-del"),
        ] {
            assert_eq!(path(name).as_deref(), Some(expected), "{name}");
        }
        for wrong in
            ["", "kernel", ".a.b", "/proc/sys/a", "a..b", "a.b.", "a/../b", "a./.b", "a.b c", "a.*", "a.\0"]
        {
            assert_eq!(path(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn settings_of_init_are_reserved() {
        assert!(path("kernel.modprobe").as_deref().and_then(reserved).is_some());
        assert_eq!(reserved("net/core/rmem_max"), None);
    }
}
