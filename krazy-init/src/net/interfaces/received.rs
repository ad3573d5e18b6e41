//! Messages from others on the link: DHCP messages, and name servers in router advertisements. A service of this machine may
//! pretend to be such a host.

use std::net::IpAddr;
use std::time::Duration;

use super::super::netlink::NameServers;
use super::super::own_addresses::own_addresses;
use super::super::resolv_conf::MAX_NAME_SERVERS;
use super::super::sockets::{BUFFER_LEN, Received};
use super::{Change, Interface, Kind, Network};

/// DHCP messages read from one interface before init's loop serves its other descriptors.
const MAX_BATCH: usize = 32;

impl Network {
    /// Takes the name servers of a router, unless that is this machine: a service may have sent the advertisement.
    pub(super) fn take_name_servers(&mut self, offer: NameServers, now: Duration, changes: &mut Vec<Change>) {
        match own_addresses() {
            Ok(own) if own.contains(&offer.router.into()) => return,
            Ok(_) => {}
            Err(error) => {
                changes.push(Change::Problem(format!("cannot list this machine's addresses: {error}")));
                return;
            }
        }
        if let Some(interface) = self.interfaces.get_mut(&offer.index) {
            let servers: Vec<IpAddr> =
                offer.servers.into_iter().take(MAX_NAME_SERVERS).map(IpAddr::V6).collect();
            // The latest advertisement replaces earlier lifetimes; a lifetime of 0 withdraws a server (RFC 8106, section
            // 5.1).
            interface.advertised.retain(|(server, _)| !servers.contains(server));
            if !offer.lifetime.is_zero() {
                let lasting = servers.into_iter().map(|server| (server, now + offer.lifetime));
                interface.advertised.splice(0..0, lasting);
                interface.advertised.truncate(MAX_NAME_SERVERS);
            }
            self.refresh_resolv_conf(now, changes);
        }
    }

    /// Handles the DHCP messages of an interface.
    pub(crate) fn receive_dhcp(&mut self, index: u32, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut buffer = [0u8; BUFFER_LEN];
        // A host that never stops sending must not keep the loop from its other work.
        for _ in 0..MAX_BATCH {
            let Some(Interface { kind: Kind::Dhcp { client, sockets, .. }, .. }) =
                self.interfaces.get_mut(&index)
            else {
                break;
            };
            let (source, message) = match sockets.receive(&mut buffer) {
                None => break,
                Some(Received::Other) => continue,
                Some(Received::Message(source, message)) => (source, message),
            };
            if !client.awaits(message) {
                continue;
            }
            // Asked for only now, because it takes a dialogue with the kernel.
            match own_addresses() {
                Ok(own) => {
                    let outputs = client.receive(now, source, message, &own);
                    self.apply(index, now, outputs, &mut changes);
                }
                Err(error) => {
                    changes.push(Change::Problem(format!("cannot list this machine's addresses: {error}")));
                }
            }
        }
        changes
    }
}
