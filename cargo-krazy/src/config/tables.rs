//! The tables of the metadata as types: the only list of keys.
//!
//! The doc comment of a field is the text for its key in `cargo krazy --help` and in the JSON Schema. A new key is a
//! field here, a type from [`values`](super::values) if its value must be checked, and its use in
//! [`resolve`](super::resolve). Keys left out have the value of [`Default`], so that tables can be laid over one
//! another before they are read.

use std::collections::BTreeMap;

use krazy_boot::manifest::{Restart, Start};
use schemars::JsonSchema;
use serde::Deserialize;

use super::sysctl::SysctlValue;
use super::values::{
    Account, Address, ApplianceName, ArchiveName, Binaries, Binary, Capability, Debian, Dependency,
    DeviceNode, Either, Gateway, Host, Hostname, HttpUrl, MemoryLimit, Module, NameServer, OwnBinaries,
    PackageVersion, Parameters, ProcessText, Ranged, Readiness, Requirement, Sha256, Signal, Size,
    SysfsPattern, Time, TimeZone, WorkingDirectory,
};

/// The table `[package.metadata.krazy]`: an appliance. `[workspace.metadata.krazy]` gives defaults.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Krazy {
    /// name of the appliance (default: that of the package)
    pub(crate) name: Option<ApplianceName>,
    /// host name of the device (default: the name)
    pub(crate) hostname: Option<Hostname>,
    /// program that becomes /bin/init; a table is like one of `install` (default: krazy-init)
    pub(crate) init: Option<Either<Binary, Install>>,
    /// install krazy-admind, the API that updates need (default: true)
    pub(crate) admind: Option<Either<bool, Admind>>,
    /// further crates whose binaries go to /bin: NAME = VERSION or a table
    pub(crate) install: BTreeMap<String, Either<Requirement, Install>>,
    /// only these binaries of the own package; [] for none of it (default: all)
    pub(crate) bins: Option<OwnBinaries>,
    /// features of the own package
    pub(crate) features: Vec<String>,
    /// all features of the own package (default: false)
    pub(crate) all_features: bool,
    /// the own package without its `default` feature (default: false)
    pub(crate) no_default_features: bool,
    /// cargo profile of the own package (default: release)
    pub(crate) profile: Option<String>,
    /// settings of the services: NAME is an entry of /bin
    pub(crate) service: BTreeMap<String, Service>,
    /// "/path/on/the/device" = "path" of a file or directory, relative to the Cargo.toml
    pub(crate) files: BTreeMap<String, String>,
    /// addresses of names: NAME = "10.0.0.5"
    pub(crate) hosts: BTreeMap<String, NameServer>,
    /// the local time, such as "Europe/Berlin" (default: UTC)
    pub(crate) timezone: Option<TimeZone>,
    /// Mozilla's certificate authorities in /etc/ssl, for TLS clients (default: true)
    pub(crate) ca_certificates: Option<bool>,
    /// the disk image; /data is what the other partitions leave (default: 1 GiB)
    pub(crate) size: Option<Size>,
    /// the /boot partition (default: 256 MiB)
    pub(crate) boot_size: Option<Size>,
    /// each of the two root partitions (default: 256 MiB)
    pub(crate) root_size: Option<Size>,
    /// zstd level of the root (default: 15)
    pub(crate) compression_level: Option<Ranged<1, 22>>,
    /// source of the kernel (default: debian)
    pub(crate) kernel: Option<Either<Debian, Kernel>>,
    /// kernel parameters after those of the board
    pub(crate) cmdline: Parameters,
    /// kernel modules to carry and to load at boot, besides those of the board
    pub(crate) modules: Vec<Module>,
    /// fixed addresses, name and time servers of every device (default: DHCP)
    pub(crate) network: Network,
    /// kernel settings: "net.core.rmem_max" = 2500000
    pub(crate) sysctl: BTreeMap<String, SysctlValue>,
    /// mount /boot writable from the start (default: false)
    pub(crate) boot_writable: bool,
    /// the disk of a PC starts from UEFI firmware, too, and not from a BIOS only (default: true, if the kernel has an EFI stub)
    pub(crate) uefi: Option<bool>,
    /// the console of the kernel is on the serial line, too (default: true)
    pub(crate) serial_console: Option<bool>,
    /// further lines for a Raspberry Pi's config.txt, such as `gpu_mem=16`
    pub(crate) config_txt: Vec<String>,
    /// overlays for a Raspberry Pi: NAME of one of the kernel or the firmware, or the path of a .dtbo;
    /// `,parameter=value` may follow
    pub(crate) dtoverlays: Vec<String>,
    /// further device trees for a Raspberry Pi: NAME of one of the kernel, or the path of a .dtb
    pub(crate) dtbs: Vec<String>,
    /// any of these keys, for the board NAME only
    pub(crate) board: BTreeMap<String, Krazy>,
}

/// A crate to install.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Install {
    /// version of a registry crate, as in `[dependencies]` (default: the newest)
    #[schemars(extend("x-label" = "REQUIREMENT"))]
    pub(crate) version: Option<Requirement>,
    /// name of a registry in cargo's configuration (default: crates.io)
    pub(crate) registry: Option<String>,
    /// directory of a package, relative to the Cargo.toml
    #[schemars(extend("x-label" = "PATH"))]
    pub(crate) path: Option<String>,
    /// a repository; without %CRATE its name is that of the crate
    #[schemars(extend("x-label" = "URL[%CRATE]"))]
    pub(crate) git: Option<String>,
    /// the tip of this branch of `git`
    pub(crate) branch: Option<String>,
    /// this tag of `git`
    pub(crate) tag: Option<String>,
    /// this commit of `git`
    pub(crate) rev: Option<String>,
    /// the crate, if the entry has another name
    #[schemars(extend("x-label" = "CRATE"))]
    pub(crate) package: Option<String>,
    /// only these binaries (default: all)
    pub(crate) bins: Option<Binaries>,
    /// features to activate
    pub(crate) features: Vec<String>,
    /// activate all features (default: false)
    pub(crate) all_features: bool,
    /// false: without the `default` feature (default: true)
    pub(crate) default_features: Option<bool>,
    /// the opposite of `default-features` (default: false)
    pub(crate) no_default_features: Option<bool>,
    /// cargo profile (default: release)
    pub(crate) profile: Option<String>,
    /// use the Cargo.lock that comes with the crate (default: true)
    pub(crate) locked: Option<bool>,
}

/// The settings of a service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Service {
    /// arguments
    pub(crate) args: Vec<ProcessText>,
    /// environment variables: NAME = STRING
    pub(crate) env: BTreeMap<String, ProcessText>,
    /// working directory (default: the HOME of the service)
    pub(crate) workdir: Option<WorkingDirectory>,
    /// services, or `network`, `clock`, `data`, that it starts after
    pub(crate) after: Vec<Dependency>,
    /// `automatic`, or `manual`: only in /bin, for other programs and `service start` (default: automatic)
    #[schemars(with = "String", extend("enum" = ["automatic", "manual"]))]
    pub(crate) start: Option<Start>,
    /// `always`, `on-failure` or `never` (default: always; with `start = "manual"`: never)
    #[schemars(with = "String", extend("enum" = ["always", "on-failure", "never"]))]
    pub(crate) restart: Option<Restart>,
    /// the account; `root` is possible (default: its own, named like the service)
    pub(crate) user: Option<Account>,
    /// the signal that asks it to end (default: TERM)
    pub(crate) stop_signal: Option<Signal>,
    /// time from the stop signal to SIGKILL; at most a day (default: 10)
    #[schemars(extend("x-label" = "SECONDS"))]
    pub(crate) stop_timeout: Option<Ranged<0, 86_400>>,
    /// an update is confirmed only if it is stable (default: true; with `start = "manual"`: false)
    pub(crate) required: Option<bool>,
    /// condition to count as started: `started`, `notify` (sd_notify), `tcp:PORT` or `http:PORT/PATH`: a 2xx or 3xx
    /// answer (default: started)
    pub(crate) ready: Option<Readiness>,
    /// restarted if it sends no `WATCHDOG=1` (sd_notify) for this time, such as "30s" (default: no watchdog)
    pub(crate) watchdog: Option<Time<1, 86_400>>,
    /// { command = ["/bin/NAME", "--health"] }: restarted if this fails repeatedly
    pub(crate) health: Option<Health>,
    /// time it must be ready and healthy to be stable; at least `watchdog` (default: 10s)
    pub(crate) stable_after: Option<Time<1, 3600>>,
    /// false: without restrictions of what it can see and do; a table lifts single ones (default: true)
    pub(crate) sandbox: Option<Either<bool, Sandbox>>,
    /// rights of root it keeps, such as `net-admin`
    pub(crate) capabilities: Vec<Capability>,
    /// accounts whose logs it may read; `krazy`: may talk to init, as root does
    pub(crate) groups: Vec<Account>,
    /// device nodes it may read and write, such as "/dev/ttyUSB*"
    pub(crate) devices: Vec<DeviceNode>,
    /// files below /sys it may write, such as "class/leds/*/brightness"
    pub(crate) sysfs: Vec<SysfsPattern>,
    /// ports that it alone may bind, and no others below 1024 (default: all but 67, 68, 123, and 8443 of krazy-admind)
    #[schemars(extend("x-label" = "[PORT]"))]
    pub(crate) ports: Option<Vec<Ranged<1, 65_535>>>,
    /// keep its output on /data too (default: false)
    pub(crate) persistent_log: bool,
    /// the most memory, or `none` for no limit (default: three quarters of the machine's)
    pub(crate) memory_limit: Option<MemoryLimit>,
    // At most PID_MAX_LIMIT of the kernel.
    /// the most processes and threads (default: half of what the machine has, 4096)
    #[schemars(extend("x-label" = "NUMBER"))]
    pub(crate) task_limit: Option<Ranged<1, 4_194_304>>,
    // At most what krazy-init may give: half of the kernel's default fs.nr_open.
    /// the most open files (default: 1024, which it may raise)
    #[schemars(extend("x-label" = "NUMBER"))]
    pub(crate) file_limit: Option<Ranged<8, 524_288>>,
    /// its share of a busy CPU (default: 100)
    pub(crate) cpu_weight: Option<Ranged<1, 10_000>>,
}

/// The health command of a service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Health {
    /// program and arguments; runs with the rights of the service
    pub(crate) command: Vec<ProcessText>,
    /// pause between two runs (default: 30s)
    pub(crate) every: Option<Time<1, 86_400>>,
    /// time that one run may take (default: 10s)
    pub(crate) timeout: Option<Time<1, 3600>>,
    /// failures in a row after which the service is restarted (default: 3)
    pub(crate) failures: Option<Ranged<1, 100>>,
}

/// The restrictions of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Sandbox {
    /// false: may write where permissions allow it, not only to its HOME, /run/NAME, /tmp and devices
    pub(crate) writes: Option<bool>,
    /// false: may try system calls that administer the machine (mount, bpf, io_uring, ptrace, …)
    pub(crate) system_calls: Option<bool>,
    /// false: may create namespaces, as browsers and containers do
    pub(crate) namespaces: Option<bool>,
    /// false: may create sockets of every family (Bluetooth, CAN, vsock, …)
    pub(crate) socket_families: Option<bool>,
    /// false: shares /tmp and /dev/shm with other services
    pub(crate) private_tmp: Option<bool>,
    /// false: sees all devices in /dev; permissions still decide
    pub(crate) private_devices: Option<bool>,
    /// false: sees the processes of other accounts in /proc, and the kernel's command line
    pub(crate) hidden_processes: Option<bool>,
    /// false: shares abstract sockets, System V shared memory and signals with others of its account
    pub(crate) private_ipc: Option<bool>,
}

/// The settings of krazy-admind.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Admind {
    /// accept clients without TLS 1.3 (default: false)
    pub(crate) tls12: bool,
    /// announce the device in the local network (default: true)
    pub(crate) mdns: Option<bool>,
    /// nothing but signed updates changes what the device starts (default: false)
    pub(crate) signed_only: bool,
    /// the lowest version that devices take as an update from this build on (default: any)
    pub(crate) floor: Option<PackageVersion>,
}

/// The network settings of every device.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Network {
    /// NAME = { address = "10.0.0.5/24", gateway = "10.0.0.1" }; others have DHCP
    pub(crate) interfaces: BTreeMap<String, Interface>,
    /// name servers, before those of DHCP
    pub(crate) dns: Vec<NameServer>,
    /// time servers, instead of all others
    pub(crate) ntp: Vec<Host>,
}

/// A fixed address.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Interface {
    /// IPv4 address with prefix length
    pub(crate) address: Address,
    /// the default route (default: none)
    pub(crate) gateway: Option<Gateway>,
}

/// A source of the kernel.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Kernel {
    /// meta package of a kernel in the Debian archive (default: that of the board)
    #[schemars(extend("x-label" = "PACKAGE"))]
    pub(crate) debian: Option<ArchiveName>,
    /// code name of the Debian release (default: trixie)
    pub(crate) suite: Option<ArchiveName>,
    /// the Debian mirror (default: that of the host, else deb.debian.org)
    pub(crate) mirror: Option<HttpUrl>,
    /// a kernel bundle: a .deb or a .tar.zst; needs `sha256`
    pub(crate) url: Option<HttpUrl>,
    /// SHA-256 of the file behind `url`
    pub(crate) sha256: Option<Sha256>,
    /// a kernel bundle on this machine: a directory, a .deb or a .tar.zst
    #[schemars(extend("x-label" = "PATH"))]
    pub(crate) path: Option<String>,
}
