//! `/etc/krazy/manifest.json` in the root: what the appliance is and how its services run.
//!
//! Written by the host when it makes the root, read by init (which services, how), by admind (what is running)
//! and by `cargo krazy inspect`. It holds no secrets and nothing about one device: the same root serves a fleet.

pub mod capability;
pub mod network;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::disk::size::Bytes;
use crate::manifest::network::NetworkSettings;

/// Where the manifest is in the root, without the leading slash.
pub const PATH: &str = "etc/krazy/manifest.json";

/// The version of this format. A reader refuses a higher one.
pub const FORMAT: u32 = 1;

/// What a root is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the writer.
    pub format: u32,
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
    /// The kernel the root's modules belong to.
    pub kernel: Kernel,
    /// What is `/bin/init`.
    pub init: Program,
    /// Every other file in `/bin`, sorted by name.
    pub services: Vec<Service>,
    /// Whether `/boot` is mounted writable from the start.
    #[serde(default)]
    pub boot_writable: bool,
    /// Kernel modules to load at boot besides those that devices ask for.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Addresses, name and time servers that are the same on every device.
    #[serde(default, skip_serializing_if = "NetworkSettings::is_empty")]
    pub network: NetworkSettings,
}

/// A kernel's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The release as `uname -r` prints it; also the folder below `/lib/modules`.
    pub release: String,
    /// Where it came from, for people: a package and version, an URL, a path's file name.
    pub origin: String,
    /// SHA-256 of the kernel image in hex.
    pub sha256: String,
}

/// Where a binary came from.
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

/// A program in `/bin` and how it is run. The defaults are those of a program nobody configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The file name in `/bin`, also the name of the service.
    pub name: String,
    /// Where the binary came from.
    pub program: Program,
    /// Everything about running it.
    #[serde(default)]
    pub settings: ServiceSettings,
}

/// How a service is run: the keys of `[package.metadata.krazy.service.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServiceSettings {
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Environment variables added to the base environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; the service's HOME if none is set.
    pub workdir: Option<String>,
    /// What must be there before the service starts: services, or one of [`MILESTONES`].
    pub after: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// The account it runs under: `root`, or a name that owns `/data/NAME`. Unset: one named like the service.
    pub user: Option<String>,
    /// The signal that asks it to end, such as `TERM` or `INT`.
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: u32,
    /// Whether an update is confirmed only if this service is stable.
    pub required: bool,
    /// When it counts as started for those that come after it.
    pub ready: Ready,
    /// Whether what it may write is confined to its HOME, `/tmp` and devices. Means nothing for root.
    pub sandbox: bool,
    /// Capabilities it keeps although it is not root: `net-admin`, `sys-time`; see [`crate::manifest::capability`].
    pub capabilities: Vec<String>,
    /// Further groups: names of accounts, whose logs it may then read, or [`CONTROL_GROUP`].
    pub groups: Vec<String>,
    /// Device nodes it may read and write, such as `/dev/ttyUSB*`.
    pub devices: Vec<String>,
    /// Whether its output is kept on `/data` too, where it outlives a restart.
    pub persistent_log: bool,
    /// The most memory it may use; beyond it, it is ended and started again.
    pub memory_limit: Option<Bytes>,
    /// The most processes and threads.
    pub task_limit: Option<u32>,
    /// The most open files.
    pub file_limit: Option<u32>,
    /// Its share of a busy CPU, 1 to 10000; others have 100.
    pub cpu_weight: Option<u32>,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        ServiceSettings {
            args: Vec::new(),
            env: BTreeMap::new(),
            workdir: None,
            after: Vec::new(),
            restart: Restart::Always,
            user: None,
            stop_signal: "TERM".to_owned(),
            stop_timeout: 10,
            required: true,
            ready: Ready::Started,
            sandbox: true,
            capabilities: Vec::new(),
            groups: Vec::new(),
            devices: Vec::new(),
            persistent_log: false,
            memory_limit: None,
            task_limit: None,
            file_limit: None,
            cpu_weight: None,
        }
    }
}

/// The group whose members may talk to init.
pub const CONTROL_GROUP: &str = "krazy";

/// Milestones that may stand in `after` beside service names.
pub const MILESTONES: [&str; 3] = ["network", "clock", "data"];

/// When a service that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whatever its exit status.
    #[default]
    Always,
    /// Only after a failure: a status other than 0, or a signal.
    OnFailure,
    /// Never: it runs once.
    Never,
}

/// When a service counts as started. Written `started`, `notify` or `tcp:80`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ready {
    /// As soon as its program runs.
    #[default]
    Started,
    /// When it says `READY=1` as sd_notify(3) does.
    Notify,
    /// When something on the device listens on this TCP port.
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

/// Why bytes are not a manifest this program can use.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the expected shape.
    #[error("the manifest is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Written by a newer cargo-krazy.
    #[error("the manifest has format {0}, this program reads up to {FORMAT}")]
    TooNew(u32),
}

impl Manifest {
    /// Reads a manifest.
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

    /// The bytes to store: indented JSON with a final line end, the same for equal manifests.
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
            name: "hello".into(),
            version: "1.2.3".into(),
            board: "x86_64".into(),
            build_id: "11".repeat(32),
            hostname: "hello".into(),
            kernel: Kernel { release: "6.12".into(), origin: "debian".into(), sha256: "22".repeat(32) },
            init: program.clone(),
            services: vec![Service { name: "hello".into(), program, settings: ServiceSettings::default() }],
            boot_writable: false,
            modules: Vec::new(),
            network: NetworkSettings::default(),
        }
    }

    #[test]
    fn survives_a_round_trip() {
        let manifest = manifest();
        assert_eq!(Manifest::from_json(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn readiness_is_a_word_or_a_port() {
        for text in ["started", "notify", "tcp:80"] {
            assert_eq!(text.parse::<Ready>().map(|ready| ready.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["", "tcp:", "tcp:0", "tcp:65536", "udp:53", "Started"] {
            assert!(wrong.parse::<Ready>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_newer_format_is_named_even_if_its_shape_changed() {
        let error = Manifest::from_json(br#"{"format": 9, "everything": "else"}"#).unwrap_err();
        assert_eq!(error.to_string(), "the manifest has format 9, this program reads up to 1");
    }
}
