//! Known and unknown clients, by address.
//!
//! Limits per client protect the others from it. An IPv6 client can choose any address of its /64, so unknown clients
//! are counted per network. Neighbours in that network would share its limits, so an address from which a valid
//! credential has come is counted on its own, and may use connections that unknown clients cannot.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Addresses remembered.
const MAX_KNOWN_CLIENTS: usize = 64;

/// The addresses from which valid credentials came, the latest last. They are kept in memory only.
#[derive(Debug, Default)]
pub(crate) struct KnownClients {
    addresses: Mutex<VecDeque<IpAddr>>,
}

/// The unit that limits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// An address from which a valid credential has come.
    Known(IpAddr),
    /// All other addresses of a network.
    Unknown(IpAddr),
}

impl KnownClients {
    /// Records that a valid credential came from `address`.
    pub(crate) fn remember(&self, address: IpAddr) {
        let address = address.to_canonical();
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.back() == Some(&address) {
            return;
        }
        addresses.retain(|known| *known != address);
        if addresses.len() == MAX_KNOWN_CLIENTS {
            addresses.pop_front();
        }
        addresses.push_back(address);
    }

    /// Returns the client that `address` belongs to.
    pub(crate) fn client(&self, address: IpAddr) -> Client {
        let address = address.to_canonical();
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.contains(&address) { Client::Known(address) } else { Client::Unknown(network(address)) }
    }
}

/// Returns the network whose addresses one client can choose from.
///
/// Link-local addresses stay apart: their /64 is the same on every link and holds every host on it.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if !v6.is_unicast_link_local() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn unknown_clients_are_counted_per_network() {
        let known = KnownClients::default();
        let same = |one: &str, two: &str| known.client(address(one)) == known.client(address(two));
        assert!(same("2001:db8::1", "2001:db8::ffff:2"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same("fe80::1", "fe80::2"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
    }

    #[test]
    fn known_clients_are_counted_per_address_and_the_latest_are_kept() {
        let known = KnownClients::default();
        known.remember(address("2001:db8::1"));
        assert_eq!(known.client(address("2001:db8::1")), Client::Known(address("2001:db8::1")));
        assert_eq!(known.client(address("2001:db8::2")), Client::Unknown(address("2001:db8::")));
        for n in 0..1000_u32 {
            known.remember(address("2001:db8::1"));
            known.remember(IpAddr::from(n.to_be_bytes()));
        }
        assert_eq!(known.addresses.lock().unwrap().len(), MAX_KNOWN_CLIENTS);
        assert_eq!(known.client(address("2001:db8::1")), Client::Known(address("2001:db8::1")));
        assert_eq!(known.client(address("0.0.0.1")), Client::Unknown(address("0.0.0.1")));
    }
}
