//! The ports that a service may bind, TCP and UDP alike: the key `ports`.
//!
//! | ports | who may bind them |
//! |---|---|
//! | in the `ports` of a service | that service alone |
//! | [`RESERVED`] | a service that has them in `ports` |
//! | [`ADMIND_PORT`], in an appliance with krazy-admind | krazy-admind |
//! | others below [`FIRST_HIGH_PORT`] | every service without `ports` |
//! | others | every service |
//!
//! A port of 0 lets the kernel choose one; it never chooses any of these.

use std::collections::BTreeSet;

use super::ServiceSettings;

/// Ports on which a service could pretend to be a server that the machine itself asks: DHCP, its client, and NTP.
pub const RESERVED: [u16; 3] = [67, 68, 123];

/// The service that manages the device.
pub const ADMIND: &str = "krazy-admind";

/// The port of [`ADMIND`].
pub const ADMIND_PORT: u16 = 8443;

/// The ports before this one belong to well-known services. Source: RFC 6335, section 6.
pub const FIRST_HIGH_PORT: u16 = 1024;

/// The ports of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRules {
    /// It may bind these, whatever the other rules say.
    pub granted: BTreeSet<u16>,
    /// It must not bind these.
    pub refused: BTreeSet<u16>,
    /// True if it must not bind further ports below [`FIRST_HIGH_PORT`].
    pub refuses_low: bool,
}

impl PortRules {
    /// Returns the rules of the service `name`, which is one of `services`.
    pub fn new<'a>(name: &str, services: impl IntoIterator<Item = (&'a str, &'a ServiceSettings)>) -> Self {
        let mut rules = PortRules { refused: RESERVED.into(), ..PortRules::default() };
        for (other, settings) in services {
            let own = (other == ADMIND).then_some(ADMIND_PORT);
            let ports = settings.ports.iter().flatten().copied().chain(own);
            if other == name {
                rules.granted.extend(ports);
                rules.refuses_low = settings.ports.is_some();
            } else {
                rules.refused.extend(ports);
            }
        }
        rules.refused.retain(|port| !rules.granted.contains(port));
        rules
    }

    /// Returns true if the service may bind `port`.
    pub fn allow(&self, port: u16) -> bool {
        let is_refused = self.refused.contains(&port) || (self.refuses_low && port < FIRST_HIGH_PORT);
        port == 0 || self.granted.contains(&port) || !is_refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ports: Option<&[u16]>) -> ServiceSettings {
        ServiceSettings { ports: ports.map(<[u16]>::to_vec), ..ServiceSettings::default() }
    }

    fn rules(name: &str, services: &[(&str, Option<&[u16]>)]) -> PortRules {
        let services: Vec<_> = services.iter().map(|(name, ports)| (*name, settings(*ports))).collect();
        PortRules::new(name, services.iter().map(|(name, settings)| (*name, settings)))
    }

    #[test]
    fn every_port_but_the_reserved_ones_is_free_without_the_key() {
        let rules = rules("web", &[("web", None)]);
        assert!([0, 1, 53, 80, 443, 1023, 1024, 8080, 8443, 65535].iter().all(|port| rules.allow(*port)));
        assert!(RESERVED.iter().all(|port| !rules.allow(*port)));
    }

    #[test]
    fn key_grants_its_ports_and_high_ones() {
        let dns = rules("dns", &[("dns", Some(&[53, 67])), ("web", None)]);
        assert!([0, 53, 67, 1024, 8080].iter().all(|port| dns.allow(*port)));
        assert!([1, 68, 80, 123, 443, 1023].iter().all(|port| !dns.allow(*port)));
        let none = rules("none", &[("none", Some(&[]))]);
        assert!(!none.allow(80) && none.allow(8080));
    }

    #[test]
    fn port_of_a_service_is_closed_to_all_others() {
        let services: [(&str, Option<&[u16]>); 3] =
            [("web", Some(&[80, 8080])), ("other", None), ("low", Some(&[81]))];
        for (name, may) in [("web", true), ("other", false), ("low", false)] {
            let rules = rules(name, &services);
            assert_eq!((rules.allow(80), rules.allow(8080)), (may, may), "{name}");
        }
    }

    #[test]
    fn port_of_admind_is_its_own_if_there_is_one() {
        let services: [(&str, Option<&[u16]>); 2] = [(ADMIND, None), ("web", None)];
        assert!(rules(ADMIND, &services).allow(ADMIND_PORT));
        assert!(!rules("web", &services).allow(ADMIND_PORT));
        let services: [(&str, Option<&[u16]>); 2] = [(ADMIND, Some(&[])), ("web", Some(&[80]))];
        assert!(rules(ADMIND, &services).allow(ADMIND_PORT));
        assert!(!rules("web", &services).allow(ADMIND_PORT));
    }
}
