//! `/etc/krazy/manifest.json` in the root: the identity of the appliance, and its services with their settings.
//!
//! The host writes it when it makes the root; init reads it for its services, admind for what runs, and `cargo krazy
//! inspect` for its report. It holds no secrets and nothing about one device: the same root serves a fleet.
//!
//! The decoder needs no operating system, so that a boot loader can use it: only [`network::NetworkSettings::read`] opens
//! a file.

pub mod accounts;
pub mod capability;
pub mod checks;
pub mod hosts;
pub mod instructions;
pub mod network;
pub mod ports;
pub mod sandbox;
mod stored_service;
pub mod sysctl;
pub mod sysfs;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::disk::size::Bytes;
use crate::manifest::checks::Checks;
use crate::manifest::network::NetworkSettings;
use crate::manifest::sandbox::Sandbox;
use crate::manifest::stored_service::StoredService;

/// Path of the manifest in the root, without the leading slash.
pub const PATH: &str = "etc/krazy/manifest.json";

/// The version of this format. Readers reject a higher one.
pub const FORMAT: u32 = 1;

/// The newest format of the disk that builds of this version know. 1: the boot state is in the sectors behind LBA 0. 2: it may
/// be elsewhere ([`mbr::FORMAT`](crate::disk::mbr::FORMAT)). 3: partition 1 may be an EFI system partition.
pub const DISK_FORMAT: u32 = 3;

/// The description of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// [`DISK_FORMAT`] of the writer: an init that does not know a disk's format cannot start a trial on it.
    #[serde(default = "first_disk_format")]
    pub disk_format: u32,
    /// The appliance's name.
    pub name: String,
    /// The version of the user's package.
    pub version: String,
    /// The board the root was made for, such as `x86_64`.
    pub board: String,
    /// SHA-256 in hex over everything the root and the slot's boot files are made from.
    pub build_id: String,
    /// Host name unless `/data` sets another.
    pub hostname: String,
    /// Addresses of names, besides the device's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, IpAddr>,
    /// Target features, by rustc's names, that the programs need beyond those of the board's every processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
    /// The kernel the root's modules belong to.
    pub kernel: Kernel,
    /// The program `/bin/init`.
    pub init: Program,
    /// Every other file in `/bin`, sorted by name.
    pub services: Vec<Service>,
    /// Set when `/boot` is mounted writable from the start.
    #[serde(default)]
    pub boot_writable: bool,
    /// Kernel modules to load at boot besides those that devices ask for.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Addresses, name and time servers that are the same on every device.
    #[serde(default, skip_serializing_if = "NetworkSettings::is_empty")]
    pub network: NetworkSettings,
    /// Kernel settings by name, such as `net.core.rmem_max`; see [`sysctl::path`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
}

/// The format of builds whose manifest names none.
fn first_disk_format() -> u32 {
    1
}

/// A kernel's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The release as `uname -r` prints it, which is also the directory below `/lib/modules`.
    pub release: String,
    /// Its origin as text: a package and version, an URL, or the file name of a path.
    pub origin: String,
    /// SHA-256 of the kernel image in hex.
    pub sha256: String,
}

/// The origin of a binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The crate that was installed.
    #[serde(rename = "crate")]
    pub package: String,
    /// Its version.
    pub version: String,
    /// `registry`, `path`, or `git` with URL and revision.
    pub source: String,
    /// SHA-256 of the binary in hex.
    pub sha256: String,
}

/// A program in `/bin` and its settings. The defaults are those of a program without configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredService", into = "StoredService")]
pub struct Service {
    /// The file name in `/bin`, also the name of the service.
    pub name: String,
    /// The origin of the binary.
    pub program: Program,
    /// Its settings.
    pub settings: ServiceSettings,
    /// Its checks.
    pub checks: Checks,
}

/// Settings of a service: the keys of `[package.metadata.krazy.service.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ServiceSettings {
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Environment variables added to the base environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; the service's HOME if none is set.
    pub workdir: Option<String>,
    /// Services or [`MILESTONES`] that must be ready before the service starts.
    pub after: Vec<String>,
    /// Set when it starts with the machine; else it is started by hand.
    #[serde(skip)]
    pub start: Start,
    /// The condition under which it is restarted.
    pub restart: Restart,
    /// The account it runs under: `root`, or a name that owns `/data/NAME`. Unset: one named like the service.
    pub user: Option<String>,
    /// The signal that asks it to exit, such as `TERM` or `INT`.
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: u32,
    /// Set when an update is confirmed only if this service is stable.
    pub required: bool,
    /// The condition under which it is ready, so that services with it in `after` start.
    pub ready: Ready,
    /// Its restrictions. They have no effect for root.
    pub sandbox: Sandbox,
    /// Capabilities that it has without being root: `net-admin`, `sys-time`; see [`crate::manifest::capability`].
    pub capabilities: Vec<String>,
    /// Supplementary groups: names of accounts, whose logs it can then read, or [`CONTROL_GROUP`].
    pub groups: Vec<String>,
    /// Device nodes that it can read and write, such as `/dev/ttyUSB*`.
    pub devices: Vec<String>,
    /// Files below `/sys` that it can write, such as `class/leds/*/brightness`; see [`sysfs::pattern`].
    #[serde(skip)]
    pub sysfs: Vec<String>,
    /// Ports that it may bind, and no others below 1024; see [`ports::PortRules`].
    #[serde(skip)]
    pub ports: Option<Vec<u16>>,
    /// Set when its output is also kept on `/data`, where it survives a restart of the machine.
    pub persistent_log: bool,
    /// Memory limit. A service that exceeds it is killed and restarted.
    pub memory_limit: Option<Bytes>,
    /// Limit of the number of processes and threads.
    pub task_limit: Option<u32>,
    /// Limit of the number of open files.
    pub file_limit: Option<u32>,
    /// Its share of a busy CPU, 1 to 10000. The default is 100.
    pub cpu_weight: Option<u32>,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        ServiceSettings {
            args: Vec::new(),
            env: BTreeMap::new(),
            workdir: None,
            after: Vec::new(),
            start: Start::Automatic,
            restart: Restart::Always,
            user: None,
            stop_signal: "TERM".to_owned(),
            stop_timeout: 10,
            required: true,
            ready: Ready::Started,
            sandbox: Sandbox::FULL,
            capabilities: Vec::new(),
            groups: Vec::new(),
            devices: Vec::new(),
            sysfs: Vec::new(),
            ports: None,
            persistent_log: false,
            memory_limit: None,
            task_limit: None,
            file_limit: None,
            cpu_weight: None,
        }
    }
}

/// The group whose members may connect to init's control socket.
pub const CONTROL_GROUP: &str = "krazy";

/// Milestones that `after` accepts beside service names.
pub const MILESTONES: [&str; 3] = ["network", "clock", "data"];

/// The occasion on which a service starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// When the machine starts, after its dependencies.
    #[default]
    Automatic,
    /// When somebody asks for it. Its program is in `/bin` for others to run.
    Manual,
}

impl Start {
    fn is_default(&self) -> bool {
        *self == Start::default()
    }
}

/// The condition under which a service that has exited is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// After any exit status.
    #[default]
    Always,
    /// Only after a failure: a status other than 0, or a signal.
    OnFailure,
    /// Never: it runs once.
    Never,
}

/// The condition under which a service is ready. Written `started`, `notify` or `tcp:80`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ready {
    /// As soon as its program runs.
    #[default]
    Started,
    /// After it has sent `READY=1` as sd_notify(3) does.
    Notify,
    /// After a process on the device listens on this TCP port.
    Tcp(u16),
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Started => f.pad("started"),
            Ready::Notify => f.pad("notify"),
            Ready::Tcp(port) => write!(f, "tcp:{port}"),
        }
    }
}

impl FromStr for Ready {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "started" => Ok(Ready::Started),
            "notify" => Ok(Ready::Notify),
            _ => text
                .strip_prefix("tcp:")
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .map(Ready::Tcp)
                .ok_or("\"started\", \"notify\" or \"tcp:PORT\""),
        }
    }
}

impl TryFrom<String> for Ready {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Ready> for String {
    fn from(ready: Ready) -> String {
        ready.to_string()
    }
}

/// A failure to read a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is not JSON of the expected shape.
    #[error("the manifest is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The manifest was written by a newer cargo-krazy.
    #[error("the manifest has format {0}, this program reads up to {FORMAT}")]
    TooNew(u32),
}

impl Manifest {
    /// Parses a manifest.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let header: Header = serde_json::from_slice(bytes)?;
        if header.format > FORMAT {
            return Err(ManifestError::TooNew(header.format));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Returns the bytes to store: indented JSON with a final line end, the same for equal manifests.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_else(|error| {
            unreachable!("a manifest has only string keys and finite numbers: {error}")
        });
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let program = Program {
            package: "hello".into(),
            version: "1.2.3".into(),
            source: "path".into(),
            sha256: "00".repeat(32),
        };
        Manifest {
            format: FORMAT,
            disk_format: DISK_FORMAT,
            name: "hello".into(),
            version: "1.2.3".into(),
            board: "x86_64".into(),
            build_id: "11".repeat(32),
            hostname: "hello".into(),
            kernel: Kernel { release: "6.12".into(), origin: "debian".into(), sha256: "22".repeat(32) },
            init: program.clone(),
            services: vec![Service {
                name: "hello".into(),
                program,
                settings: ServiceSettings::default(),
                checks: Checks::default(),
            }],
            boot_writable: false,
            modules: Vec::new(),
            network: NetworkSettings::default(),
            hosts: BTreeMap::new(),
            instructions: Vec::new(),
            sysctl: BTreeMap::new(),
        }
    }

    #[test]
    fn manifest_survives_a_round_trip() {
        let manifest = manifest();
        assert_eq!(Manifest::from_json(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn readiness_parses_from_a_keyword_or_a_port() {
        for text in ["started", "notify", "tcp:80"] {
            assert_eq!(text.parse::<Ready>().map(|ready| ready.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["", "tcp:", "tcp:0", "tcp:65536", "udp:53", "Started"] {
            assert!(wrong.parse::<Ready>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn newer_format_is_refused_even_if_its_shape_changed() {
        let error = Manifest::from_json(br#"{"format": 9, "everything": "else"}"#).unwrap_err();
        assert_eq!(error.to_string(), "the manifest has format 9, this program reads up to 1");
    }
}
