//! Devices that announce themselves in the local network, and names in `.local`.
//!
//! Whatever is heard was said by strangers. It decides which address is asked, and no more: the certificate proves
//! which device it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use krazy_boot::api::discovery::{APPLIANCE, DOMAIN, SERVICE_TYPE, VERSION, is_plain};
use mdns_sd::{HostnameResolutionEvent, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use serde::Serialize;

use super::hosts::{Address, PORT};
use crate::failure::{Exit, Explain, Result};
use crate::interrupt;

/// The timeout of a name's answer. RFC 6762 has questions repeated after one second.
const ANSWER: Duration = Duration::from_secs(3);

/// Between two looks at the clock and at Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// The most devices that are listed: a network with more is being fooled.
const MAX_FOUND: usize = 1024;

/// A device that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Found {
    /// The text to give as `HOST`.
    pub(crate) host: String,
    /// Its addresses; IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    /// The port of its API.
    pub(crate) port: u16,
    /// The appliance it says it is.
    pub(crate) appliance: Option<String>,
    /// The version it says it runs.
    pub(crate) version: Option<String>,
}

/// Multicast DNS that does not work on this machine.
#[derive(Debug, thiserror::Error)]
#[error("failed to ask the local network: {0}")]
struct NetworkError(mdns_sd::Error);

impl Explain for NetworkError {
    fn exit(&self) -> Exit {
        Exit::Device
    }
}

/// Returns the devices that answer within `limit`, by name.
pub(crate) fn browse(limit: Duration) -> Result<Vec<Found>> {
    let daemon = Daemon::start()?;
    let events = daemon.0.browse(SERVICE_TYPE).map_err(NetworkError)?;
    let mut found = BTreeMap::new();
    receive(&events, limit, |event| {
        if let ServiceEvent::ServiceResolved(service) = event
            && let Some(device) = device(&service)
            && found.len() < MAX_FOUND
        {
            found.insert(device.host.clone(), device);
        }
        false
    })?;
    Ok(found.into_values().collect())
}

/// `address` with an IP address in the place of a name in `.local`, if a device with that name answers. Else it stays
/// as it is, for the system to look up.
pub(crate) fn resolve(address: Address) -> Result<Address> {
    let name = address.host.trim_end_matches('.');
    if !name.to_ascii_lowercase().ends_with(DOMAIN) {
        return Ok(address);
    }
    let daemon = Daemon::start()?;
    let limit = ANSWER.as_millis().try_into().ok();
    let events = daemon.0.resolve_hostname(&format!("{name}."), limit).map_err(NetworkError)?;
    let mut answer = None;
    receive(&events, ANSWER, |event| {
        if let HostnameResolutionEvent::AddressesFound(_, addresses) = event {
            answer = usable(addresses.iter()).into_iter().next();
        }
        answer.is_some()
    })?;
    Ok(match answer {
        Some(ip) => Address { host: ip.to_string(), port: address.port },
        None => address,
    })
}

/// The thread that speaks multicast DNS. It ends when this is dropped.
struct Daemon(ServiceDaemon);

impl Daemon {
    fn start() -> Result<Self, NetworkError> {
        ServiceDaemon::new().map(Daemon).map_err(NetworkError)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended already cannot be told.
        let _ended = self.0.shutdown();
    }
}

/// Hands events to `take` until that says it has enough, or the time is over.
fn receive<T>(events: &Receiver<T>, limit: Duration, mut take: impl FnMut(T) -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        match events.recv_timeout(left.min(LOOK)) {
            Ok(event) => {
                if take(event) {
                    return Ok(());
                }
            }
            // The thread has given up.
            Err(_) if events.is_disconnected() => return Ok(()),
            Err(_) => {}
        }
    }
}

/// Returns the device that a service announces, without texts that are unfit to be shown; nothing if it cannot be reached.
fn device(service: &ResolvedService) -> Option<Found> {
    let host = service.get_hostname().trim_end_matches('.');
    let port = service.get_port();
    let addresses = usable(service.get_addresses().iter());
    if !is_plain(host) || port == 0 || addresses.is_empty() {
        return None;
    }
    let text = |key: &str| service.get_property_val_str(key).filter(|text| is_plain(text)).map(str::to_owned);
    let host = if port == PORT { host.to_owned() } else { format!("{host}:{port}") };
    Some(Found { host, addresses, port, appliance: text(APPLIANCE), version: text(VERSION) })
}

/// Those that mean the same host for every program: link-local IPv6 addresses need an interface beside them.
fn usable<'a>(addresses: impl Iterator<Item = &'a ScopedIp>) -> Vec<IpAddr> {
    let link_local = |ip: &Ipv6Addr| ip.is_unicast_link_local();
    let mut usable: Vec<_> = addresses
        .map(ScopedIp::to_ip_addr)
        .filter(|ip| {
            !matches!(ip, IpAddr::V6(ip) if link_local(ip)) && !ip.is_unspecified() && !ip.is_multicast()
        })
        .collect();
    usable.sort();
    usable
}

#[cfg(test)]
mod tests {
    use mdns_sd::ServiceInfo;

    use super::*;

    fn service(host: &str, port: u16, addresses: &str, texts: &[(&str, &str)]) -> ResolvedService {
        ServiceInfo::new(SERVICE_TYPE, "kitchen", host, addresses, port, texts).unwrap().as_resolved_service()
    }

    #[test]
    fn a_device_is_listed_as_it_can_be_used() {
        let texts = [(APPLIANCE, "weather"), (VERSION, "1.2.0")];
        let found = device(&service("kitchen.local.", 8443, "fe80::1,fd00::5,10.0.0.5", &texts)).unwrap();
        assert_eq!(found.host, "kitchen.local");
        assert_eq!(found.addresses, ["10.0.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
        assert_eq!(found.appliance.as_deref(), Some("weather"));
        let found = device(&service("kitchen.local.", 443, "10.0.0.5", &[])).unwrap();
        assert_eq!((found.host.as_str(), found.version), ("kitchen.local:443", None));
        assert!(found.host.parse::<Address>().is_ok());
    }

    #[test]
    fn what_strangers_say_is_shown_only_when_it_is_plain() {
        let texts = [(APPLIANCE, "\x1b[2J"), (VERSION, "1")];
        let found = device(&service("kitchen.local.", 8443, "10.0.0.5", &texts)).unwrap();
        assert_eq!((found.appliance, found.version.as_deref()), (None, Some("1")));
        for (host, port, addresses) in [
            ("kit chen.local.", 8443, "10.0.0.5"),
            ("kitchen.local.", 0, "10.0.0.5"),
            ("kitchen.local.", 1, "fe80::1"),
        ] {
            assert_eq!(device(&service(host, port, addresses, &[])), None, "{host}");
        }
    }

    #[test]
    fn other_names_are_left_to_the_system() {
        for text in ["10.0.0.5", "kitchen:99", "local", "::1"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(resolve(address.clone()).unwrap(), address);
        }
    }
}
