//! Static network settings: those of the appliance in the manifest, and those of one device in
//! `/data/krazy/network.json`, which take precedence. Interfaces without static settings use DHCP.
//!
//! ```json
//! { "interfaces": { "eth0": { "address": "10.0.0.5/24", "gateway": "10.0.0.1" } },
//!   "dns": ["10.0.0.1"], "ntp": ["10.0.0.1"] }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The file of one device, relative to `/data`.
pub const PATH: &str = "krazy/network.json";

/// Static network settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// Addresses by name of interface.
    pub interfaces: BTreeMap<String, StaticAddress>,
    /// Name servers, used before those of DHCP.
    pub dns: Vec<IpAddr>,
    /// Time servers, which replace all others.
    pub ntp: Vec<String>,
}

/// A static address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticAddress {
    /// The address with its prefix length, such as `10.0.0.5/24`.
    pub address: Cidr,
    /// The default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
}

/// An address and its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(pub Ipv4Addr, pub u8);

/// A text that is not an address with prefix length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address with prefix length, such as 10.0.0.5/24")]
pub struct ParseCidrError(String);

/// A failure to read [`PATH`].
#[derive(Debug, thiserror::Error)]
pub enum NetworkFileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not JSON of the expected shape.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The position and the defect.
        source: serde_json::Error,
    },
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(address, prefix)| Some(Cidr(address.parse().ok()?, prefix.parse().ok()?)))
            .filter(|cidr| (1..=32).contains(&cidr.1))
            .ok_or("an address with prefix length, such as 10.0.0.5/24")
    }
}

impl Cidr {
    /// Returns true if `other` is in the same network.
    pub fn contains(self, other: Ipv4Addr) -> bool {
        // A prefix of 0, which `from_str` rejects, would shift by the whole width.
        let mask = u32::MAX.checked_shl(32 - u32::from(self.1)).unwrap_or(0);
        (self.0.to_bits() ^ other.to_bits()) & mask == 0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl TryFrom<String> for Cidr {
    type Error = ParseCidrError;

    fn try_from(text: String) -> Result<Self, ParseCidrError> {
        text.parse().map_err(|_| ParseCidrError(text))
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

impl NetworkSettings {
    /// Reads the file at `path`; `None` if it does not exist.
    pub fn read(path: &Path) -> Result<Option<Self>, NetworkFileError> {
        let path = || path.to_owned();
        match std::fs::read(path()) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| NetworkFileError::Json { path: path(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NetworkFileError::Read { path: path(), source }),
        }
    }

    /// Returns the settings of `machine`, and these for everything that it does not set.
    #[must_use]
    pub fn overridden_by(mut self, machine: NetworkSettings) -> Self {
        self.interfaces.extend(machine.interfaces);
        if !machine.ntp.is_empty() {
            self.ntp = machine.ntp;
        }
        if !machine.dns.is_empty() {
            self.dns = machine.dns;
        }
        self
    }

    /// Returns true if nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == NetworkSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_device_take_precedence() {
        let parse = |text: &str| serde_json::from_str::<NetworkSettings>(text).unwrap();
        let appliance = parse(
            r#"{"interfaces": {"eth0": {"address": "10.0.0.5/24"}, "eth1": {"address": "10.1.0.5/16"}}, "ntp": ["a"]}"#,
        );
        let machine = parse(r#"{"interfaces": {"eth0": {"address": "10.0.0.6/24"}}, "dns": ["10.0.0.1"]}"#);
        let settings = appliance.clone().overridden_by(machine);
        let addresses: Vec<String> =
            settings.interfaces.values().map(|interface| interface.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.6/24", "10.1.0.5/16"]);
        assert_eq!((settings.ntp.len(), settings.dns.len()), (1, 1));
        assert_eq!(appliance.clone().overridden_by(NetworkSettings::default()), appliance);
        let text = serde_json::to_string(&appliance).unwrap();
        assert_eq!(serde_json::from_str::<NetworkSettings>(&text).unwrap(), appliance);
    }

    #[test]
    fn files_are_read_and_invalid_addresses_are_named() {
        let text =
            r#"{"interfaces": {"eth0": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"}}, "dns": ["::1"]}"#;
        let settings: NetworkSettings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.interfaces["eth0"].address, Cidr(Ipv4Addr::new(10, 0, 0, 5), 24));
        let wrong = r#"{"interfaces": {"eth0": {"address": "10.0.0.5"}}}"#;
        let error = serde_json::from_str::<NetworkSettings>(wrong).unwrap_err().to_string();
        assert!(error.contains("`10.0.0.5` is not an address with prefix length"), "{error}");
        assert_eq!(NetworkSettings::read(Path::new("/nowhere")).unwrap(), None);
    }
}
