//! Every key of the metadata tables: what is accepted, and what `cargo krazy --help` says about it.

use std::fmt::Write;

/// One key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As written in Cargo.toml.
    pub name: &'static str,
    /// What its value looks like.
    pub value: &'static str,
    /// What it does, and its default.
    pub doc: &'static str,
}

const fn key(name: &'static str, value: &'static str, doc: &'static str) -> Key {
    Key { name, value, doc }
}

/// Keys of `[package.metadata.krazy]`, `[workspace.metadata.krazy]` and, but for `board`, their `board.NAME`.
pub static APPLIANCE: &[Key] = &[
    key("name", "STRING", "the appliance's name [default: the package's]"),
    key("hostname", "STRING", "host name of the device [default: the name]"),
    key(
        "init",
        "BINARY or TABLE",
        "what becomes /bin/init; a table is like one of `install` [default: krazy-init]",
    ),
    key("admind", "BOOL or TABLE", "install krazy-admind, the API that updates need [default: true]"),
    key("install", "TABLE", "further crates whose binaries go to /bin: NAME = VERSION or a table"),
    key("bins", "[STRING]", "only these binaries of the own package [default: all]"),
    key("features", "[STRING]", "features of the own package"),
    key("all-features", "BOOL", "all features of the own package [default: false]"),
    key("no-default-features", "BOOL", "not the own package's `default` feature [default: false]"),
    key("profile", "STRING", "cargo profile of the own package [default: release]"),
    key("service", "TABLE", "NAME: how the /bin entry NAME is run"),
    key(
        "files",
        "TABLE",
        "\"/path/on/the/device\" = \"path\" of a file or folder, relative to the Cargo.toml",
    ),
    key("size", "SIZE", "the disk image; /data is what the other partitions leave [default: 1 GiB]"),
    key("boot-size", "SIZE", "the /boot partition [default: 256 MiB]"),
    key("root-size", "SIZE", "each of the two root partitions [default: 256 MiB]"),
    key("compression-level", "1..22", "zstd level of the root [default: 15]"),
    key("kernel", "\"debian\" or TABLE", "where the kernel comes from [default: debian]"),
    key("cmdline", "STRING or [STRING]", "kernel parameters after the board's"),
    key("modules", "[STRING]", "kernel modules to carry and to load at boot, besides those of the board"),
    key("network", "TABLE", "fixed addresses, name and time servers of every device [default: DHCP]"),
    key("boot-writable", "BOOL", "mount /boot writable from the start [default: false]"),
    key("serial-console", "BOOL", "the kernel's console is on the serial line, too [default: true]"),
    key("config-txt", "[STRING]", "further lines for a Raspberry Pi's config.txt, such as `gpu_mem=16`"),
    key(
        "dtoverlays",
        "[STRING]",
        "overlays for a Raspberry Pi: NAME of the kernel's or the firmware's, or the path of a .dtbo; \
         `,parameter=value` may follow",
    ),
    key("dtbs", "[STRING]", "further device trees for a Raspberry Pi: the kernel's, or paths of .dtb files"),
    key("board", "TABLE", "NAME: any of these keys, for the board NAME only"),
];

/// Keys of a table in `install`, and of `init` as a table.
pub static INSTALL: &[Key] = &[
    key(
        "version",
        "REQUIREMENT",
        "which version of a registry crate, as in [dependencies] [default: the newest]",
    ),
    key("registry", "STRING", "a registry's name in cargo's configuration [default: crates.io]"),
    key("path", "PATH", "a package's folder, relative to the Cargo.toml"),
    key("git", "URL[%CRATE]", "a repository; without %CRATE its name is the crate's"),
    key("branch", "STRING", "the tip of this branch of `git`"),
    key("tag", "STRING", "this tag of `git`"),
    key("rev", "STRING", "this commit of `git`"),
    key("package", "CRATE", "the crate, if the entry has another name"),
    key("bins", "[STRING]", "only these binaries [default: all]"),
    key("features", "[STRING]", "features to activate"),
    key("all-features", "BOOL", "activate all features [default: false]"),
    key("default-features", "BOOL", "false: not the `default` feature [default: true]"),
    key("no-default-features", "BOOL", "the same the other way round [default: false]"),
    key("profile", "STRING", "cargo profile [default: release]"),
    key("locked", "BOOL", "use the Cargo.lock that comes with the crate [default: true]"),
];

/// Keys of `service.NAME`.
pub static SERVICE: &[Key] = &[
    key("args", "[STRING]", "arguments"),
    key("env", "TABLE", "NAME = STRING: environment variables"),
    key("workdir", "PATH", "working directory [default: the service's HOME]"),
    key("after", "[STRING]", "services, or `network`, `clock`, `data`, that must be there before it starts"),
    key("restart", "STRING", "`always`, `on-failure` or `never` [default: always]"),
    key("user", "STRING", "the account; `root` is possible [default: an own one named like the service]"),
    key("stop-signal", "SIGNAL", "asks it to end [default: TERM]"),
    key("stop-timeout", "SECONDS", "from the stop signal to SIGKILL [default: 10]"),
    key("required", "BOOL", "an update is confirmed only if it is stable [default: true]"),
    key(
        "ready",
        "STRING",
        "counts as started: `started`, `notify` (sd_notify) or `tcp:PORT` [default: started]",
    ),
    key("sandbox", "BOOL", "may write to its HOME, /tmp and devices only [default: true]"),
    key("capabilities", "[STRING]", "rights of root it keeps, such as `net-admin`"),
    key("groups", "[STRING]", "accounts whose logs it may read; `krazy`: may talk to init, as root does"),
    key("devices", "[STRING]", "device nodes it may read and write, such as \"/dev/ttyUSB*\""),
    key("persistent-log", "BOOL", "keep its output on /data too [default: false]"),
    key("memory-limit", "SIZE", "the most memory [default: all]"),
    key(
        "task-limit",
        "NUMBER",
        "the most processes and threads [default: half of what the machine has, 4096]",
    ),
    key("file-limit", "NUMBER", "the most open files [default: 1024, which it may raise]"),
    key("cpu-weight", "1..10000", "its share of a busy CPU [default: 100]"),
];

/// Keys of `admind` as a table.
pub static ADMIND: &[Key] = &[
    key("tls12", "BOOL", "take clients that do not speak TLS 1.3 [default: false]"),
    key("mdns", "BOOL", "tell the local network where the device is [default: true]"),
];

/// Keys of `network`.
pub static NETWORK: &[Key] = &[
    key(
        "interfaces",
        "TABLE",
        "NAME = { address = \"10.0.0.5/24\", gateway = \"10.0.0.1\" }; others have DHCP",
    ),
    key("dns", "[ADDRESS]", "name servers, before those of DHCP"),
    key("ntp", "[HOST]", "time servers, instead of all others"),
];

/// Keys of an interface.
pub static INTERFACE: &[Key] = &[
    key("address", "ADDRESS/PREFIX", "IPv4 address with prefix length"),
    key("gateway", "ADDRESS", "the default route [default: none]"),
];

/// Keys of `kernel` as a table.
pub static KERNEL: &[Key] = &[
    key("debian", "PACKAGE", "a kernel's meta package in the Debian archive [default: the board's]"),
    key("suite", "STRING", "code name of the Debian release [default: trixie]"),
    key("mirror", "URL", "the Debian mirror [default: the host's own, else deb.debian.org]"),
    key("url", "URL", "a kernel bundle: a .deb or a .tar.zst; needs `sha256`"),
    key("sha256", "HEX", "SHA-256 of the file behind `url`"),
    key("path", "PATH", "a kernel bundle on this machine: a folder, a .deb or a .tar.zst"),
];

/// The reference `cargo krazy --help` prints: every table with its keys.
pub fn reference() -> String {
    let mut text = String::new();
    for (title, keys) in [
        ("[package.metadata.krazy]", APPLIANCE),
        ("[package.metadata.krazy.install.NAME]", INSTALL),
        ("[package.metadata.krazy.service.NAME]", SERVICE),
        ("[package.metadata.krazy.admind]", ADMIND),
        ("[package.metadata.krazy.network]", NETWORK),
        ("[package.metadata.krazy.network.interfaces.NAME]", INTERFACE),
        ("[package.metadata.krazy.kernel]", KERNEL),
    ] {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "  {title}");
        for Key { name, value, doc } in keys {
            let _infallible = writeln!(text, "    {name} = {value}\n        {doc}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_and_all_are_in_the_reference() {
        let reference = reference();
        for keys in [APPLIANCE, INSTALL, SERVICE, ADMIND, NETWORK, INTERFACE, KERNEL] {
            for (index, key) in keys.iter().enumerate() {
                assert!(keys[..index].iter().all(|other| other.name != key.name), "{}", key.name);
                assert!(reference.contains(&format!("    {} = {}", key.name, key.value)), "{}", key.name);
            }
        }
    }
}
