//! Network settings of one machine: `/data/krazy/network.json`. Without it, and for interfaces it does not name,
//! addresses come from DHCP.
//!
//! ```json
//! { "interfaces": { "eth0": { "address": "10.0.0.5/24", "gateway": "10.0.0.1" } },
//!   "dns": ["10.0.0.1"], "ntp": ["10.0.0.1"] }
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde::Deserialize;

/// What was provisioned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// Addresses by name of interface.
    pub interfaces: BTreeMap<String, StaticAddress>,
    /// Name servers; they come before those of DHCP.
    pub dns: Vec<IpAddr>,
    /// Time servers; they replace all others.
    pub ntp: Vec<String>,
}

/// A fixed address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticAddress {
    /// With prefix length, such as `10.0.0.5/24`.
    pub address: Cidr,
    /// The default route.
    pub gateway: Option<Ipv4Addr>,
}

/// An address and its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr(pub Ipv4Addr, pub u8);

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(address, prefix)| Some(Cidr(address.parse().ok()?, prefix.parse().ok()?)));
        parsed
            .filter(|cidr| (1..=32).contains(&cidr.1))
            .ok_or_else(|| format!("`{text}` is not an address with prefix length, such as 10.0.0.5/24"))
    }
}

impl NetworkSettings {
    /// Reads the file; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, String> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| format!("{}: {error}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_nonsense_is_named() {
        let text =
            r#"{"interfaces": {"eth0": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"}}, "dns": ["::1"]}"#;
        let settings: NetworkSettings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.interfaces["eth0"].address, Cidr(Ipv4Addr::new(10, 0, 0, 5), 24));
        let wrong = r#"{"interfaces": {"eth0": {"address": "10.0.0.5"}}}"#;
        let error = serde_json::from_str::<NetworkSettings>(wrong).unwrap_err().to_string();
        assert!(error.contains("`10.0.0.5` is not an address with prefix length"), "{error}");
        assert_eq!(NetworkSettings::read(Path::new("/nowhere")), Ok(None));
    }
}
