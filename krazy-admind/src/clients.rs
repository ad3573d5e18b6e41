//! Who is behind an address, and who has been here before.
//!
//! Limits per client protect the others from it, and it has more than one address: an IPv6 client can choose any of
//! its /64. Its neighbours there would share its fate, so an address from which a right credential has come stands
//! for itself alone, and finds a place when strangers have taken the rest.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Addresses remembered.
const MAX_FAMILIAR: usize = 64;

/// The addresses from which right credentials came, the latest last. They are forgotten with the process.
#[derive(Debug, Default)]
pub(crate) struct Familiar {
    addresses: Mutex<VecDeque<IpAddr>>,
}

/// What is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// An address from which a right credential has come.
    Familiar(IpAddr),
    /// Everybody in a network from whom none has come.
    Strangers(IpAddr),
}

impl Familiar {
    /// A right credential came from `address`.
    pub(crate) fn remember(&self, address: IpAddr) {
        let address = address.to_canonical();
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.back() == Some(&address) {
            return;
        }
        addresses.retain(|known| *known != address);
        if addresses.len() == MAX_FAMILIAR {
            addresses.pop_front();
        }
        addresses.push_back(address);
    }

    /// Who is behind `address`.
    pub(crate) fn client(&self, address: IpAddr) -> Client {
        let address = address.to_canonical();
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.contains(&address) {
            Client::Familiar(address)
        } else {
            Client::Strangers(network(address))
        }
    }
}

/// What a stranger can choose its addresses from. Every link has the same link-local /64, where each address stands
/// for itself: who else is on the link can be found out, and be kept from it, by other means.
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
    fn strangers_are_their_network() {
        let familiar = Familiar::default();
        let same = |one: &str, two: &str| familiar.client(address(one)) == familiar.client(address(two));
        assert!(same("2001:db8::1", "2001:db8::ffff:2"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same("fe80::1", "fe80::2"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
    }

    #[test]
    fn whoever_had_a_right_credential_is_on_their_own() {
        let familiar = Familiar::default();
        familiar.remember(address("2001:db8::1"));
        assert_eq!(familiar.client(address("2001:db8::1")), Client::Familiar(address("2001:db8::1")));
        assert_eq!(familiar.client(address("2001:db8::2")), Client::Strangers(address("2001:db8::")));
        // Whoever comes again stays, whoever does not is forgotten first.
        for n in 0..1000_u32 {
            familiar.remember(address("2001:db8::1"));
            familiar.remember(IpAddr::from(n.to_be_bytes()));
        }
        assert_eq!(familiar.addresses.lock().unwrap().len(), MAX_FAMILIAR);
        assert_eq!(familiar.client(address("2001:db8::1")), Client::Familiar(address("2001:db8::1")));
        assert_eq!(familiar.client(address("0.0.0.1")), Client::Strangers(address("0.0.0.1")));
    }
}
