//! Names of devices: `hosts.toml` in the state directory, and addresses as people write them.
//!
//! ```toml
//! [kitchen]
//! address = "10.0.0.5"
//! appliance = "weather"     # whose credentials it takes; that of the package here when left out
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Explain};

/// The file in the state directory. The point in its name keeps it apart from the appliances' directories.
pub(crate) const FILE: &str = "hosts.toml";

/// The port of admind by default.
pub(crate) const PORT: u16 = 8443;

/// A host and a port. Reads `10.0.0.5`, `kitchen.local:443`, `[fe80::1%eth0]:8443`, `::1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Address {
    /// A name or an IP address, without brackets.
    pub(crate) host: String,
    /// The TCP port.
    pub(crate) port: u16,
}

/// A name's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    /// Its address.
    pub(crate) address: Address,
    /// The appliance it was provisioned as.
    pub(crate) appliance: Option<String>,
}

/// A [`FILE`] that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostsError {
    /// It cannot be read.
    #[error("failed to read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// Its content is not what it must be.
    #[error("failed to read {}: {error}", path.display())]
    Syntax { path: PathBuf, error: toml::de::Error },
}

impl Explain for HostsError {
    fn exit(&self) -> Exit {
        Exit::Config
    }

    fn help(&self) -> Option<String> {
        let example = "[kitchen]\naddress = \"10.0.0.5\"\nappliance = \"weather\"";
        Some(format!("its tables look like this:\n{example}"))
    }
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address: write HOST or HOST:PORT, such as 10.0.0.5:8443")]
pub(crate) struct AddressError(String);

/// Reads [`FILE`] in `state_dir`; one that is missing has no names.
pub(crate) fn read(state_dir: &Path) -> Result<BTreeMap<String, Host>, HostsError> {
    let path = state_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| HostsError::Syntax { path, error }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(HostsError::Read { path, error }),
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let port = |port: &str| port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, PORT),
            Some((host, rest)) => (host, port(rest.strip_prefix(':').ok_or_else(wrong)?)?),
            // More than one colon is an IPv6 address without brackets.
            None if text.matches(':').count() > 1 => (text, PORT),
            None => match text.split_once(':') {
                Some((host, rest)) => (host, port(rest)?),
                None => (text, PORT),
            },
        };
        let six = host.contains(':') || text.starts_with('[');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        match host {
            "" => Err(wrong()),
            host if six && !is_ipv6(host) => Err(wrong()),
            host if !six && !host.chars().all(plain) => Err(wrong()),
            host => Ok(Address { host: host.to_owned(), port }),
        }
    }
}

/// Returns true for an IPv6 address, also with the interface that it is link-local to (RFC 4007, section 11).
fn is_ipv6(text: &str) -> bool {
    let (ip, zone) = text.split_once('%').map_or((text, None), |(ip, zone)| (ip, Some(zone)));
    let is_interface =
        |zone: &str| !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    ip.parse::<Ipv6Addr>()
        .is_ok_and(|ip| zone.is_none_or(|zone| ip.is_unicast_link_local() && is_interface(zone)))
}

/// As an URL has it: IPv6 in brackets, the port always.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, shown) in [
            ("10.0.0.5", "10.0.0.5:8443"),
            ("kitchen.local:443", "kitchen.local:443"),
            ("::1", "[::1]:8443"),
            ("[fe80::1]:99", "[fe80::1]:99"),
            ("fe80::1%eth0", "[fe80::1%eth0]:8443"),
            ("[fe80::1%wlan0.5]:99", "[fe80::1%wlan0.5]:99"),
            ("[::1]", "[::1]:8443"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            ":8443",
            "a:0",
            "a:b",
            "a:70000",
            "[::1",
            "fe80::1%",
            "fd00::1%eth0",
            "[fe80::1%a b]:1",
            "[x]:1",
            "https://a",
            "a/b",
            "a b",
            "a@b",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_read_from_the_file() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path()).unwrap(), BTreeMap::new());
        let write = |text: &str| fs::write(state.path().join(FILE), text).unwrap();
        write("[kitchen]\naddress = \"10.0.0.5\"\nappliance = \"weather\"\n[attic]\naddress = \"::1\"\n");
        let hosts = read(state.path()).unwrap();
        assert_eq!(hosts["kitchen"].address.to_string(), "10.0.0.5:8443");
        assert_eq!(hosts["kitchen"].appliance.as_deref(), Some("weather"));
        assert_eq!(hosts["attic"].appliance, None);
        for wrong in ["[a]\n", "[a]\naddress = \"x:0\"", "[a]\naddress = \"x\"\nadress = 1", "a = 1"] {
            write(wrong);
            let error = read(state.path()).unwrap_err();
            assert!(error.to_string().contains("hosts.toml"), "{error}");
            assert_eq!(error.exit(), Exit::Config);
        }
    }
}
