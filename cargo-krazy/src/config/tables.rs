//! The tables of the metadata as types: the only list of keys.
//!
//! The doc comment of a field is the text for its key in `cargo krazy --help` and in the JSON Schema. A new key is a
//! field here, a type from [`values`](super::values) if its value must be checked, and its use in
//! [`resolve`](super::resolve). Keys left out have the value of [`Default`], so that tables can be laid over one
//! another before they are read.

use std::collections::BTreeMap;

use krazy_boot::manifest::Restart;
use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{
    Account, Address, ApplianceName, ArchiveName, Binaries, Binary, Capability, Debian, Dependency,
    DeviceNode, Either, Gateway, Host, Hostname, HttpUrl, MemoryLimit, Module, NameServer, Parameters,
    ProcessText, Ranged, Readiness, Requirement, Sha256, Signal, Size, WorkingDirectory,
};

/// The table `[package.metadata.krazy]`: an appliance. `[workspace.metadata.krazy]` gives defaults.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Krazy {
    /// name of the appliance (default: that of the package)
    pub name: Option<ApplianceName>,
    /// host name of the device (default: the name)
    pub hostname: Option<Hostname>,
    /// program that becomes /bin/init; a table is like one of `install` (default: krazy-init)
    pub init: Option<Either<Binary, Install>>,
    /// install krazy-admind, the API that updates need (default: true)
    pub admind: Option<Either<bool, Admind>>,
    /// further crates whose binaries go to /bin: NAME = VERSION or a table
    pub install: BTreeMap<String, Either<Requirement, Install>>,
    /// only these binaries of the own package (default: all)
    pub bins: Option<Binaries>,
    /// features of the own package
    pub features: Vec<String>,
    /// all features of the own package (default: false)
    pub all_features: bool,
    /// the own package without its `default` feature (default: false)
    pub no_default_features: bool,
    /// cargo profile of the own package (default: release)
    pub profile: Option<String>,
    /// settings of the services: NAME is an entry of /bin
    pub service: BTreeMap<String, Service>,
    /// "/path/on/the/device" = "path" of a file or directory, relative to the Cargo.toml
    pub files: BTreeMap<String, String>,
    /// the disk image; /data is what the other partitions leave (default: 1 GiB)
    pub size: Option<Size>,
    /// the /boot partition (default: 256 MiB)
    pub boot_size: Option<Size>,
    /// each of the two root partitions (default: 256 MiB)
    pub root_size: Option<Size>,
    /// zstd level of the root (default: 15)
    pub compression_level: Option<Ranged<1, 22>>,
    /// source of the kernel (default: debian)
    pub kernel: Option<Either<Debian, Kernel>>,
    /// kernel parameters after those of the board
    pub cmdline: Parameters,
    /// kernel modules to carry and to load at boot, besides those of the board
    pub modules: Vec<Module>,
    /// fixed addresses, name and time servers of every device (default: DHCP)
    pub network: Network,
    /// mount /boot writable from the start (default: false)
    pub boot_writable: bool,
    /// the console of the kernel is on the serial line, too (default: true)
    pub serial_console: Option<bool>,
    /// further lines for a Raspberry Pi's config.txt, such as `gpu_mem=16`
    pub config_txt: Vec<String>,
    /// overlays for a Raspberry Pi: NAME of one of the kernel or the firmware, or the path of a .dtbo;
    /// `,parameter=value` may follow
    pub dtoverlays: Vec<String>,
    /// further device trees for a Raspberry Pi: NAME of one of the kernel, or the path of a .dtb
    pub dtbs: Vec<String>,
    /// any of these keys, for the board NAME only
    pub board: BTreeMap<String, Krazy>,
}

/// A crate to install.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Install {
    /// version of a registry crate, as in `[dependencies]` (default: the newest)
    #[schemars(extend("x-label" = "REQUIREMENT"))]
    pub version: Option<Requirement>,
    /// name of a registry in cargo's configuration (default: crates.io)
    pub registry: Option<String>,
    /// directory of a package, relative to the Cargo.toml
    #[schemars(extend("x-label" = "PATH"))]
    pub path: Option<String>,
    /// a repository; without %CRATE its name is that of the crate
    #[schemars(extend("x-label" = "URL[%CRATE]"))]
    pub git: Option<String>,
    /// the tip of this branch of `git`
    pub branch: Option<String>,
    /// this tag of `git`
    pub tag: Option<String>,
    /// this commit of `git`
    pub rev: Option<String>,
    /// the crate, if the entry has another name
    #[schemars(extend("x-label" = "CRATE"))]
    pub package: Option<String>,
    /// only these binaries (default: all)
    pub bins: Option<Binaries>,
    /// features to activate
    pub features: Vec<String>,
    /// activate all features (default: false)
    pub all_features: bool,
    /// false: without the `default` feature (default: true)
    pub default_features: Option<bool>,
    /// the opposite of `default-features` (default: false)
    pub no_default_features: Option<bool>,
    /// cargo profile (default: release)
    pub profile: Option<String>,
    /// use the Cargo.lock that comes with the crate (default: true)
    pub locked: Option<bool>,
}

/// The settings of a service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Service {
    /// arguments
    pub args: Vec<ProcessText>,
    /// environment variables: NAME = STRING
    pub env: BTreeMap<String, ProcessText>,
    /// working directory (default: the HOME of the service)
    pub workdir: Option<WorkingDirectory>,
    /// services, or `network`, `clock`, `data`, that it starts after
    pub after: Vec<Dependency>,
    /// `always`, `on-failure` or `never` (default: always)
    #[schemars(with = "String", extend("enum" = ["always", "on-failure", "never"]))]
    pub restart: Option<Restart>,
    /// the account; `root` is possible (default: its own, named like the service)
    pub user: Option<Account>,
    /// the signal that asks it to end (default: TERM)
    pub stop_signal: Option<Signal>,
    /// time from the stop signal to SIGKILL; at most a day (default: 10)
    #[schemars(extend("x-label" = "SECONDS"))]
    pub stop_timeout: Option<Ranged<0, 86_400>>,
    /// an update is confirmed only if it is stable (default: true)
    pub required: Option<bool>,
    /// condition to count as started: `started`, `notify` (sd_notify) or `tcp:PORT` (default: started)
    pub ready: Option<Readiness>,
    /// may write to its HOME, /tmp and devices only (default: true)
    pub sandbox: Option<bool>,
    /// rights of root it keeps, such as `net-admin`
    pub capabilities: Vec<Capability>,
    /// accounts whose logs it may read; `krazy`: may talk to init, as root does
    pub groups: Vec<Account>,
    /// device nodes it may read and write, such as "/dev/ttyUSB*"
    pub devices: Vec<DeviceNode>,
    /// keep its output on /data too (default: false)
    pub persistent_log: bool,
    /// the most memory (default: all)
    pub memory_limit: Option<MemoryLimit>,
    // At most PID_MAX_LIMIT of the kernel.
    /// the most processes and threads (default: half of what the machine has, 4096)
    #[schemars(extend("x-label" = "NUMBER"))]
    pub task_limit: Option<Ranged<1, 4_194_304>>,
    // At most what krazy-init may give: half of the kernel's default fs.nr_open.
    /// the most open files (default: 1024, which it may raise)
    #[schemars(extend("x-label" = "NUMBER"))]
    pub file_limit: Option<Ranged<8, 524_288>>,
    /// its share of a busy CPU (default: 100)
    pub cpu_weight: Option<Ranged<1, 10_000>>,
}

/// The settings of krazy-admind.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Admind {
    /// accept clients without TLS 1.3 (default: false)
    pub tls12: bool,
    /// announce the device in the local network (default: true)
    pub mdns: Option<bool>,
}

/// The network settings of every device.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Network {
    /// NAME = { address = "10.0.0.5/24", gateway = "10.0.0.1" }; others have DHCP
    pub interfaces: BTreeMap<String, Interface>,
    /// name servers, before those of DHCP
    pub dns: Vec<NameServer>,
    /// time servers, instead of all others
    pub ntp: Vec<Host>,
}

/// A fixed address.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Interface {
    /// IPv4 address with prefix length
    pub address: Address,
    /// the default route (default: none)
    pub gateway: Option<Gateway>,
}

/// A source of the kernel.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Kernel {
    /// meta package of a kernel in the Debian archive (default: that of the board)
    #[schemars(extend("x-label" = "PACKAGE"))]
    pub debian: Option<ArchiveName>,
    /// code name of the Debian release (default: trixie)
    pub suite: Option<ArchiveName>,
    /// the Debian mirror (default: that of the host, else deb.debian.org)
    pub mirror: Option<HttpUrl>,
    /// a kernel bundle: a .deb or a .tar.zst; needs `sha256`
    pub url: Option<HttpUrl>,
    /// SHA-256 of the file behind `url`
    pub sha256: Option<Sha256>,
    /// a kernel bundle on this machine: a directory, a .deb or a .tar.zst
    #[schemars(extend("x-label" = "PATH"))]
    pub path: Option<String>,
}
