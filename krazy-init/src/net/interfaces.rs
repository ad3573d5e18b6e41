//! All wired interfaces: switched on, given addresses, followed through their changes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use krazy_boot::manifest::network::{NetworkSettings, StaticAddress};

use super::dhcp::{self, Client, Lease, Output};
use super::netlink::{Link, Netlink, Notice, name_server};
use super::sockets;

/// Where programs look for name servers; `/etc/resolv.conf` is a link to it.
const RESOLV_CONF: &str = "/run/resolv.conf";

/// Name servers a resolver uses at most. Source: resolv.conf(5), MAXNS.
const MAX_NAME_SERVERS: usize = 3;

/// How many messages to one interface are read before init's loop turns on.
const MOST_AT_ONCE: usize = 32;

/// The network of the machine.
#[derive(Debug)]
pub struct Network {
    netlink: Netlink,
    settings: NetworkSettings,
    hostname: String,
    interfaces: BTreeMap<u32, Interface>,
    is_up: bool,
}

/// One wired interface.
#[derive(Debug)]
struct Interface {
    name: String,
    has_carrier: bool,
    kind: Kind,
    /// From router advertisements, each with its end.
    advertised: Vec<(IpAddr, Duration)>,
}

#[derive(Debug)]
enum Kind {
    Dhcp { client: Box<Client>, socket: UdpSocket },
    Static,
}

/// What the rest of init has to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// For the console; the second is whether it is a problem.
    Say(String, bool),
    /// There is an address to reach others from.
    Up,
    /// A DHCP socket to wait on; see [`Network::descriptor`].
    Watch(u32),
    /// Other time servers.
    TimeServers(Vec<String>),
}

impl Network {
    /// Opens the netlink sockets and asks for the interfaces.
    pub fn start(settings: NetworkSettings, hostname: &str) -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        netlink.list_links()?;
        let interfaces = BTreeMap::new();
        let mut network =
            Network { netlink, settings, hostname: hostname.to_owned(), interfaces, is_up: false };
        network.write_resolv_conf(Duration::ZERO)?;
        Ok(network)
    }

    /// Changes of interfaces, to wait on.
    pub fn links(&self) -> &std::os::fd::OwnedFd {
        self.netlink.descriptor()
    }

    /// The DHCP socket of an interface, to wait on.
    pub fn descriptor(&self, index: u32) -> Option<&UdpSocket> {
        match &self.interfaces.get(&index)?.kind {
            Kind::Dhcp { socket, .. } => Some(socket),
            Kind::Static => None,
        }
    }

    /// When [`Network::tick`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        let of = |interface: &Interface| {
            let dhcp = match &interface.kind {
                Kind::Dhcp { client, .. } if interface.has_carrier => Some(client.deadline()),
                _ => None,
            };
            interface.advertised.iter().map(|(_, end)| *end).chain(dhcp).min()
        };
        self.interfaces.values().filter_map(of).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        let indices: Vec<u32> = self.interfaces.keys().copied().collect();
        for index in indices {
            let Some(interface) = self.interfaces.get_mut(&index) else { continue };
            let before = interface.advertised.len();
            interface.advertised.retain(|(_, end)| now < *end);
            let expired = interface.advertised.len() != before;
            if let Kind::Dhcp { client, .. } = &mut interface.kind
                && interface.has_carrier
            {
                let outputs = client.tick(now);
                self.carry_out(index, now, outputs, &mut changes);
            }
            if expired {
                self.refresh_resolv_conf(now, &mut changes);
            }
        }
        changes
    }

    /// Takes in what the kernel says about interfaces.
    pub fn notice(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        for notice in self.netlink.notices() {
            match notice {
                Notice::Link(link) => {
                    if let Err(error) = self.link(&link, now, &mut changes) {
                        changes.push(Change::Say(format!("{}: {error}", link.name), true));
                    }
                }
                Notice::LinkGone(index) => {
                    if let Some(gone) = self.interfaces.remove(&index) {
                        changes.push(Change::Say(format!("{} is gone", gone.name), false));
                        self.refresh_resolv_conf(now, &mut changes);
                    }
                }
                Notice::GlobalAddress(index) => {
                    if self.interfaces.contains_key(&index) {
                        self.up(&mut changes);
                    }
                }
                Notice::NameServers(index, servers, lifetime) => {
                    if let Some(interface) = self.interfaces.get_mut(&index) {
                        let servers: Vec<IpAddr> =
                            servers.into_iter().take(MAX_NAME_SERVERS).map(IpAddr::V6).collect();
                        interface.advertised.retain(|(server, _)| !servers.contains(server));
                        if !lifetime.is_zero() {
                            let lasting = servers.into_iter().map(|server| (server, now + lifetime));
                            interface.advertised.splice(0..0, lasting);
                            interface.advertised.truncate(MAX_NAME_SERVERS);
                        }
                        self.refresh_resolv_conf(now, &mut changes);
                    }
                }
            }
        }
        changes.extend(self.tick(now));
        changes
    }

    /// Takes in what came for DHCP on an interface.
    pub fn receive(&mut self, index: u32, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut buffer = [0u8; dhcp::MAX_PACKET];
        // Senders that never stop must not keep the loop from everything else.
        for _ in 0..MOST_AT_ONCE {
            let Some(Interface { kind: Kind::Dhcp { client, socket }, .. }) = self.interfaces.get_mut(&index)
            else {
                break;
            };
            let Some(bytes) = sockets::receive(socket, &mut buffer) else { break };
            let outputs = client.receive(now, bytes);
            self.carry_out(index, now, outputs, &mut changes);
        }
        changes
    }

    fn link(&mut self, link: &Link, now: Duration, changes: &mut Vec<Change>) -> io::Result<()> {
        if link.name == "lo" {
            return if link.is_up { Ok(()) } else { self.netlink.set_up(link.index) };
        }
        let Some(mac) = link.mac.filter(|_| is_wired(&link.name)) else { return Ok(()) };
        if let Some(interface) = self.interfaces.get_mut(&link.index) {
            let plugged = link.has_carrier && !interface.has_carrier;
            interface.has_carrier = link.has_carrier;
            if plugged && let Kind::Dhcp { client, .. } = &mut interface.kind {
                client.replugged(now);
            }
            return Ok(());
        }
        if !link.is_up {
            self.netlink.set_up(link.index)?;
        }
        let kind = match self.settings.interfaces.get(&link.name) {
            Some(_) => Kind::Static,
            None => {
                let mut xid = [0u8; 4];
                rustix::rand::getrandom(&mut xid[..], rustix::rand::GetRandomFlags::INSECURE)?;
                let client = Client::new(mac, &self.hostname, u32::from_ne_bytes(xid), now);
                changes.push(Change::Watch(link.index));
                Kind::Dhcp { client: Box::new(client), socket: sockets::open(&link.name)? }
            }
        };
        let is_static = matches!(kind, Kind::Static);
        let interface = Interface {
            name: link.name.clone(),
            has_carrier: link.has_carrier,
            kind,
            advertised: Vec::new(),
        };
        self.interfaces.insert(link.index, interface);
        if is_static && let Some(address) = self.settings.interfaces.get(&link.name).cloned() {
            self.set_static(link, &address)?;
            self.up(changes);
            changes.push(Change::TimeServers(self.time_servers()));
            self.refresh_resolv_conf(now, changes);
        }
        Ok(())
    }

    fn set_static(&mut self, link: &Link, wanted: &StaticAddress) -> io::Result<()> {
        let (address, prefix) = (wanted.address.0, wanted.address.1);
        self.netlink.add_address(link.index, address, prefix, None)?;
        if let Some(gateway) = wanted.gateway {
            self.netlink.add_route(link.index, std::net::Ipv4Addr::UNSPECIFIED, 0, gateway, address)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, index: u32, now: Duration, outputs: Vec<Output>, changes: &mut Vec<Change>) {
        for output in outputs {
            let Some(interface) = self.interfaces.get(&index) else { return };
            let name = interface.name.clone();
            let outcome = match (output, &interface.kind) {
                // A link that goes down between two tries refuses to send; the next try is planned already.
                (Output::Send(bytes, target), Kind::Dhcp { socket, .. }) => {
                    let _unsent = sockets::send(socket, &bytes, target);
                    Ok(())
                }
                (Output::Configure(lease), _) => self.configure(index, &name, now, &lease, changes),
                (Output::Release(lease), _) => {
                    changes
                        .push(Change::Say(format!("{name}: the lease of {} is over", lease.address), true));
                    // The kernel may have been faster.
                    let _gone = self.netlink.remove_address(index, lease.address, lease.prefix);
                    self.refresh_resolv_conf(now, changes);
                    Ok(())
                }
                (Output::Send(..), Kind::Static) => Ok(()),
            };
            if let Err(error) = outcome {
                changes.push(Change::Say(format!("{name}: {error}"), true));
            }
        }
    }

    fn configure(
        &mut self,
        index: u32,
        name: &str,
        now: Duration,
        lease: &Lease,
        changes: &mut Vec<Change>,
    ) -> io::Result<()> {
        self.netlink.add_address(index, lease.address, lease.prefix, Some(lease.duration))?;
        for route in &lease.routes {
            if let Err(error) =
                self.netlink.add_route(index, route.network, route.prefix, route.gateway, lease.address)
            {
                let text = format!("{name}: no route through {}: {error}", route.gateway);
                changes.push(Change::Say(text, true));
            }
        }
        let text = format!("{name} has {}/{} from {}", lease.address, lease.prefix, lease.server);
        changes.push(Change::Say(text, false));
        self.refresh_resolv_conf(now, changes);
        self.up(changes);
        changes.push(Change::TimeServers(self.time_servers()));
        Ok(())
    }

    fn up(&mut self, changes: &mut Vec<Change>) {
        if !self.is_up {
            self.is_up = true;
            changes.push(Change::Up);
        }
    }

    /// Time servers: those provisioned, else those of DHCP, else none (the caller has defaults).
    pub fn time_servers(&self) -> Vec<String> {
        if !self.settings.ntp.is_empty() {
            return self.settings.ntp.clone();
        }
        self.leases().flat_map(|lease| lease.ntp.iter().map(ToString::to_string)).collect()
    }

    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.interfaces.values().filter_map(|interface| match &interface.kind {
            Kind::Dhcp { client, .. } => client.lease(),
            Kind::Static => None,
        })
    }

    fn refresh_resolv_conf(&mut self, now: Duration, changes: &mut Vec<Change>) {
        if let Err(error) = self.write_resolv_conf(now) {
            changes.push(Change::Say(format!("{RESOLV_CONF}: {error}"), true));
        }
    }

    /// Replaced in one step: a program never reads half of it.
    fn write_resolv_conf(&mut self, now: Duration) -> io::Result<()> {
        let mut servers: Vec<String> = self.settings.dns.iter().map(ToString::to_string).collect();
        for interface in self.interfaces.values() {
            if let Kind::Dhcp { client, .. } = &interface.kind {
                servers
                    .extend(client.lease().into_iter().flat_map(|l| l.dns.iter().map(ToString::to_string)));
            }
            let lasting = interface.advertised.iter().filter(|(_, end)| now < *end);
            servers.extend(lasting.map(|(server, _)| name_server(*server, &interface.name)));
        }
        let mut text = String::new();
        let mut written = Vec::new();
        for server in servers {
            if written.len() < MAX_NAME_SERVERS && !written.contains(&server) {
                text.push_str(&format!("nameserver {server}\n"));
                written.push(server);
            }
        }
        let new = format!("{RESOLV_CONF}.new");
        fs::write(&new, text)?;
        fs::rename(new, RESOLV_CONF)
    }
}

/// Whether an interface is a piece of hardware with a cable: not a bridge, tunnel or container's end, not Wi-Fi.
fn is_wired(name: &str) -> bool {
    let folder = Path::new("/sys/class/net").join(name);
    folder.join("device").exists() && !folder.join("wireless").exists() && !folder.join("phy80211").exists()
}
