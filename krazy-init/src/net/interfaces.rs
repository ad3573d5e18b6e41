//! Sets wired interfaces up, configures their addresses and routes, and follows their changes.
//!
//! A new kind of link (VLAN, bridge, WireGuard) is another [`Kind`] here and another request in [`super::netlink`].

mod received;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use krazy_boot::manifest::network::{Cidr, NetworkSettings, StaticAddress};

use super::dhcp::{self, Client, Lease, Output, Route};
use super::netlink::{Link, Netlink, Notification};
use super::resolv_conf;
use super::sntp;
use super::sockets::DhcpSockets;

/// The network interfaces of the machine.
#[derive(Debug)]
pub(crate) struct Network {
    netlink: Netlink,
    settings: NetworkSettings,
    hostname: String,
    interfaces: BTreeMap<u32, Interface>,
    is_up: bool,
}

/// A wired interface.
#[derive(Debug)]
struct Interface {
    name: String,
    has_carrier: bool,
    kind: Kind,
    /// Name servers from router advertisements, each with the end of its lifetime.
    advertised: Vec<(IpAddr, Duration)>,
}

/// The source of an interface's address.
#[derive(Debug)]
enum Kind {
    Dhcp {
        client: Box<Client>,
        sockets: DhcpSockets,
        /// The lease that the kernel was told.
        configured: Option<Box<Lease>>,
    },
    Static,
}

/// A change that concerns the rest of init.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// An event for the log.
    Note(String),
    /// A failure for the log.
    Problem(String),
    /// The machine got its first address.
    Online,
    /// The interface with this index has a DHCP socket to poll; see [`Network::dhcp_descriptor`].
    SocketOpened(u32),
    /// The time servers changed.
    TimeServers(sntp::Servers),
}

impl Network {
    /// Opens the netlink sockets and requests the list of interfaces.
    pub(crate) fn start(settings: NetworkSettings, hostname: &str) -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        netlink.list_links()?;
        let interfaces = BTreeMap::new();
        let network = Network { netlink, settings, hostname: hostname.to_owned(), interfaces, is_up: false };
        network.write_resolv_conf(Duration::ZERO)?;
        Ok(network)
    }

    /// The descriptor to poll for changes of interfaces.
    pub(crate) fn link_descriptor(&self) -> &OwnedFd {
        self.netlink.descriptor()
    }

    /// The DHCP socket of an interface, to poll.
    pub(crate) fn dhcp_descriptor(&self, index: u32) -> Option<&OwnedFd> {
        match &self.interfaces.get(&index)?.kind {
            Kind::Dhcp { sockets, .. } => Some(sockets.descriptor()),
            Kind::Static => None,
        }
    }

    /// Returns the time at which [`Network::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let next = |interface: &Interface| {
            let dhcp = match &interface.kind {
                Kind::Dhcp { client, .. } if interface.has_carrier => Some(client.deadline()),
                _ => None,
            };
            interface.advertised.iter().map(|(_, end)| *end).chain(dhcp).min()
        };
        self.interfaces.values().filter_map(next).min()
    }

    /// Runs the timers that are due.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Change> {
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
                self.apply(index, now, outputs, &mut changes);
            }
            if expired {
                self.refresh_resolv_conf(now, &mut changes);
            }
        }
        changes
    }

    /// Handles the kernel's notifications about interfaces.
    pub(crate) fn update_links(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        for notification in self.netlink.notifications() {
            match notification {
                Notification::Link(link) => {
                    if let Err(error) = self.link(&link, now, &mut changes) {
                        changes.push(Change::Problem(format!("{}: {error}", link.name)));
                    }
                }
                Notification::LinkGone(index) => {
                    if let Some(gone) = self.interfaces.remove(&index) {
                        changes.push(Change::Note(format!("{} is gone", gone.name)));
                        self.refresh_resolv_conf(now, &mut changes);
                    }
                }
                Notification::GlobalAddress(index) => {
                    if self.interfaces.contains_key(&index) {
                        self.up(&mut changes);
                    }
                }
                Notification::NameServers(offer) => self.take_name_servers(offer, now, &mut changes),
            }
        }
        changes.extend(self.tick(now));
        changes
    }

    fn link(&mut self, link: &Link, now: Duration, changes: &mut Vec<Change>) -> io::Result<()> {
        if link.name == "lo" {
            return if link.is_up { Ok(()) } else { self.netlink.set_up(link.index) };
        }
        let Some(mac) = link.mac.filter(|_| is_wired(&link.name)) else { return Ok(()) };
        if let Some(interface) = self.interfaces.get_mut(&link.index) {
            let before = std::mem::replace(&mut interface.has_carrier, link.has_carrier);
            if link.has_carrier
                && !before
                && let Kind::Dhcp { client, .. } = &mut interface.kind
            {
                client.carrier_gained(now);
            }
            // The servers behind a cable that is out cannot be reached.
            if link.has_carrier != before {
                changes.push(Change::TimeServers(self.time_servers()));
                self.refresh_resolv_conf(now, changes);
            }
            return Ok(());
        }
        if !link.is_up {
            self.netlink.set_up(link.index)?;
        }
        if let Err(error) = ignore_routes_without_carrier(&link.name) {
            let text = format!("{}: its routes stay in use while its cable is out: {error}", link.name);
            changes.push(Change::Problem(text));
        }
        let kind = match self.settings.interfaces.get(&link.name) {
            Some(_) => Kind::Static,
            None => {
                let mut xid = [0u8; 4];
                rustix::rand::getrandom(&mut xid[..], rustix::rand::GetRandomFlags::INSECURE)?;
                let client = Client::new(mac, &self.hostname, u32::from_ne_bytes(xid), now);
                changes.push(Change::SocketOpened(link.index));
                let sockets = DhcpSockets::open(&link.name, link.index, mac)?;
                Kind::Dhcp { client: Box::new(client), sockets, configured: None }
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

    fn set_static(&mut self, link: &Link, settings: &StaticAddress) -> io::Result<()> {
        let Cidr(address, prefix) = settings.address;
        self.netlink.add_address(link.index, address, prefix, None)?;
        if let Some(gateway) = settings.gateway {
            let route = Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway };
            self.netlink.add_route(link.index, route, settings.address)?;
        }
        Ok(())
    }

    fn apply(&mut self, index: u32, now: Duration, outputs: Vec<Output>, changes: &mut Vec<Change>) {
        for output in outputs {
            let Some(interface) = self.interfaces.get(&index) else { return };
            let name = interface.name.clone();
            let outcome = match (output, &interface.kind) {
                // A link that has just gone down rejects the message; the client's timer sends it again.
                (Output::Send(bytes, target), Kind::Dhcp { sockets, .. }) => {
                    let _unsent = sockets.send(&bytes, target);
                    Ok(())
                }
                (Output::Configure(lease), _) => self.configure(index, &name, now, &lease, changes),
                (Output::Release(lease), _) => {
                    changes
                        .push(Change::Problem(format!("{name}: the lease of {} has ended", lease.address)));
                    // The kernel may have removed it already, at the end of its lifetime. The routes go with it.
                    let _gone = self.netlink.remove_address(index, lease.address, lease.prefix);
                    self.set_configured(index, None);
                    self.refresh_resolv_conf(now, changes);
                    Ok(())
                }
                (Output::Send(..), Kind::Static) => Ok(()),
            };
            if let Err(error) = outcome {
                changes.push(Change::Problem(format!("{name}: {error}")));
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
        let address = Cidr(lease.address, lease.prefix);
        let old = self.set_configured(index, Some(lease));
        if let Some(old) = old.as_deref().filter(|old| old.prefix != lease.prefix) {
            let _gone = self.netlink.remove_address(index, old.address, old.prefix);
        }
        self.netlink.add_address(index, lease.address, lease.prefix, Some(lease.duration))?;
        for route in old.iter().flat_map(|old| &old.routes).filter(|route| !lease.routes.contains(route)) {
            // It may have gone with the address.
            let _gone = self.netlink.remove_route(index, *route, address);
        }
        for route in &lease.routes {
            if let Err(error) = self.netlink.add_route(index, *route, address) {
                let text = format!("{name}: cannot add the route through {}: {error}", route.gateway);
                changes.push(Change::Problem(text));
            }
        }
        if let Some(mtu) = lease.mtu.filter(|_| lease.mtu != old.as_ref().and_then(|old| old.mtu))
            && let Err(error) = self.netlink.set_mtu(index, mtu)
        {
            changes.push(Change::Problem(format!("{name}: cannot set the MTU {mtu}: {error}")));
        }
        let text = format!("{name} has {}/{} from {}", lease.address, lease.prefix, lease.server);
        changes.push(Change::Note(text));
        self.refresh_resolv_conf(now, changes);
        self.up(changes);
        changes.push(Change::TimeServers(self.time_servers()));
        Ok(())
    }

    /// Records the lease that the kernel is told, and returns the one before.
    fn set_configured(&mut self, index: u32, lease: Option<&Lease>) -> Option<Box<Lease>> {
        match &mut self.interfaces.get_mut(&index)?.kind {
            Kind::Dhcp { configured, .. } => {
                std::mem::replace(configured, lease.map(|lease| Box::new(lease.clone())))
            }
            Kind::Static => None,
        }
    }

    fn up(&mut self, changes: &mut Vec<Change>) {
        if !self.is_up {
            self.is_up = true;
            changes.push(Change::Online);
        }
    }

    /// Returns the time servers: those of the settings, else those of DHCP.
    fn time_servers(&self) -> sntp::Servers {
        if !self.settings.ntp.is_empty() {
            return sntp::Servers { names: self.settings.ntp.clone(), are_settings: true };
        }
        let names = self.leases().flat_map(|lease| lease.ntp.iter().map(ToString::to_string)).collect();
        sntp::Servers { names, are_settings: false }
    }

    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.interfaces.values().filter_map(Interface::lease)
    }

    fn refresh_resolv_conf(&mut self, now: Duration, changes: &mut Vec<Change>) {
        if let Err(error) = self.write_resolv_conf(now) {
            changes.push(Change::Problem(format!("{}: {error}", resolv_conf::PATH)));
        }
    }

    fn write_resolv_conf(&self, now: Duration) -> io::Result<()> {
        let provisioned = self.settings.dns.iter().map(ToString::to_string);
        let learned = self.interfaces.values().flat_map(|interface| interface.name_servers(now));
        let domains = dhcp::bounded(self.leases().flat_map(|lease| lease.domains.iter().cloned()));
        resolv_conf::write(provisioned.chain(learned), &domains)
    }
}

impl Interface {
    /// Returns the lease in use, unless the cable is out.
    fn lease(&self) -> Option<&Lease> {
        match &self.kind {
            Kind::Dhcp { client, .. } if self.has_carrier => client.lease(),
            _ => None,
        }
    }

    /// Name servers of the lease, then those of router advertisements that still hold.
    fn name_servers(&self, now: Duration) -> impl Iterator<Item = String> {
        let leased = self.lease().into_iter().flat_map(|lease| lease.dns.iter().map(ToString::to_string));
        let advertised = self.advertised.iter().filter(move |(_, end)| self.has_carrier && now < *end);
        leased.chain(advertised.map(|(server, _)| resolv_conf::name_server(*server, &self.name)))
    }
}

/// Lets the kernel pass over the routes of an interface while its cable is out, so that those of another one are used. Source:
/// Linux `Documentation/networking/ip-sysctl.rst`.
fn ignore_routes_without_carrier(name: &str) -> io::Result<()> {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{name}/ignore_routes_with_linkdown");
        // A kernel without IPv6 has no such file.
        if Path::new(&path).exists() {
            fs::write(path, "1")?;
        }
    }
    Ok(())
}

/// Returns true if an interface is hardware with a cable: no bridge, tunnel or container's end, no Wi-Fi.
fn is_wired(name: &str) -> bool {
    let directory = Path::new("/sys/class/net").join(name);
    let is_wireless = directory.join("wireless").exists() || directory.join("phy80211").exists();
    directory.join("device").exists() && !is_wireless
}
