//! Devices that announce themselves in the local network, and names in `.local`.
//!
//! Whatever is heard was said by strangers. It decides which address is asked, and no more: the certificate proves
//! which device it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use krazy_boot::api::discovery::{APPLIANCE, DOMAIN, SERVICE_TYPE, VERSION, is_plain};
use mdns_sd::{
    HostnameResolutionEvent, InterfaceId, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent,
};
use serde::Serialize;

use super::hosts::PORT;
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
    /// Its addresses; IPv4 first, those that are link-local to an interface last, as `fe80::1%eth0`.
    pub(crate) addresses: Vec<String>,
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

/// Returns true if `host` is a name that multicast DNS resolves (RFC 6762, section 3).
pub(super) fn is_local(host: &str) -> bool {
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(DOMAIN)
}

/// Returns the addresses, with port 0, of the device that answers to `name`; none if nobody does.
pub(super) fn resolve(name: &str) -> Result<Vec<SocketAddr>> {
    let daemon = Daemon::start()?;
    let limit = ANSWER.as_millis().try_into().ok();
    let name = format!("{}.", name.trim_end_matches('.'));
    let events = daemon.0.resolve_hostname(&name, limit).map_err(NetworkError)?;
    let mut answer = Vec::new();
    receive(&events, ANSWER, |event| {
        if let HostnameResolutionEvent::AddressesFound(_, addresses) = event {
            answer = usable(addresses.iter())
                .into_iter()
                .map(|(ip, interface)| socket_addr(ip, interface))
                .collect();
        }
        !answer.is_empty()
    })?;
    Ok(answer)
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
    let addresses: Vec<_> = addresses.into_iter().map(|(ip, interface)| text(ip, interface)).collect();
    if !is_plain(host) || port == 0 || addresses.is_empty() {
        return None;
    }
    let property =
        |key: &str| service.get_property_val_str(key).filter(|text| is_plain(text)).map(str::to_owned);
    let host = if port == PORT { host.to_owned() } else { format!("{host}:{port}") };
    Some(Found { host, addresses, port, appliance: property(APPLIANCE), version: property(VERSION) })
}

/// Addresses that a device can be reached at, with the interface of those that mean nothing without; IPv4 first, link-local
/// IPv6 last.
fn usable<'a>(addresses: impl Iterator<Item = &'a ScopedIp>) -> Vec<(IpAddr, Option<&'a InterfaceId>)> {
    let mut usable: Vec<_> = addresses
        .map(|address| {
            let interface = match address {
                ScopedIp::V6(six) if six.addr().is_unicast_link_local() => Some(six.scope_id()),
                _ => None,
            };
            (address.to_ip_addr(), interface)
        })
        .filter(|(ip, _)| !ip.is_unspecified() && !ip.is_multicast())
        // The interface is not known of what one hears from oneself.
        .filter(|(_, interface)| {
            interface.is_none_or(|interface| interface.index != 0 && is_plain(&interface.name))
        })
        .collect();
    usable.sort_by_key(|(ip, interface)| (interface.is_some(), *ip));
    usable
}

fn socket_addr(ip: IpAddr, interface: Option<&InterfaceId>) -> SocketAddr {
    match (ip, interface) {
        (IpAddr::V6(ip), Some(interface)) => SocketAddrV6::new(ip, 0, 0, interface.index).into(),
        (ip, _) => SocketAddr::new(ip, 0),
    }
}

/// The text of an address, as it can be given as `HOST`.
fn text(ip: IpAddr, interface: Option<&InterfaceId>) -> String {
    interface.map_or_else(|| ip.to_string(), |interface| format!("{ip}%{}", interface.name))
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
        // The interface is known of what came from the network only.
        assert_eq!(found.addresses, ["10.0.0.5", "fd00::5"]);
        assert_eq!(found.appliance.as_deref(), Some("weather"));
        let found = device(&service("kitchen.local.", 443, "10.0.0.5", &[])).unwrap();
        assert_eq!((found.host.as_str(), found.version), ("kitchen.local:443", None));
        assert!(found.host.parse::<crate::device::hosts::Address>().is_ok());
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
    fn link_local_address_needs_its_interface() {
        let eth0 = InterfaceId { name: "eth0".to_owned(), index: 7 };
        let ip: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(text(ip, Some(&eth0)), "fe80::1%eth0");
        assert_eq!(socket_addr(ip, Some(&eth0)).to_string(), "[fe80::1%7]:0");
        assert_eq!(text("10.0.0.5".parse().unwrap(), None), "10.0.0.5");
    }

    #[test]
    fn other_names_are_left_to_the_system() {
        for name in ["10.0.0.5", "kitchen", "local", "::1", "fe80::1%eth0"] {
            assert!(!is_local(name), "{name}");
        }
        for name in ["kitchen.local", "Kitchen.LOCAL."] {
            assert!(is_local(name), "{name}");
        }
    }
}
