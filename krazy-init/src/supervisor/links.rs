//! The network as a part of the loop: its sockets, and the effects of its changes on other parts.

use std::path::Path;
use std::time::Duration;

use krazy_boot::manifest::network::{self, NetworkSettings};

use super::boot::Machine;
use super::effect::{Effect, Effects};
use super::poller::{Poller, Source};
use crate::linux::data::DATA;
use crate::net::interfaces::{Change, Network};

/// All wired interfaces; none if the kernel has no network.
#[derive(Debug, Default)]
pub(super) struct Links(Option<Network>);

impl Links {
    /// Switches the interfaces on. Their first messages are only read in the loop.
    pub(super) fn start(machine: &Machine, poller: &Poller, effects: &mut Effects) -> Self {
        // One image serves many machines, so what is special about this one is on /data. A damaged file is not used in
        // parts: an address without its gateway is harder to find than no address.
        let local = match NetworkSettings::read(&Path::new(DATA).join(network::PATH)) {
            Ok(settings) => settings.unwrap_or_default(),
            Err(why) => {
                effects.degrade(format!("{why}; nothing of it is used"));
                NetworkSettings::default()
            }
        };
        let settings = machine.manifest.network.clone().overridden_by(local);
        let started = Network::start(settings, &machine.hostname).and_then(|network| {
            poller.add(network.link_descriptor(), Source::Links)?;
            Ok(network)
        });
        match started {
            Ok(network) => Links(Some(network)),
            Err(error) => {
                effects.degrade(format!("there is no network: {error}"));
                Links(None)
            }
        }
    }

    /// The time of the next [`Links::tick`].
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.as_ref().and_then(Network::deadline)
    }

    /// Renews leases and ends name servers that are due.
    pub(super) fn tick(&mut self, now: Duration, poller: &Poller, effects: &mut Effects) {
        self.advance(now, poller, effects, |network| network.tick(now));
    }

    /// Reads what the kernel announces about interfaces.
    pub(super) fn read_announcements(&mut self, now: Duration, poller: &Poller, effects: &mut Effects) {
        self.advance(now, poller, effects, |network| network.update_links(now));
    }

    /// Reads the DHCP messages of the interface with this index.
    pub(super) fn read_dhcp(&mut self, index: u32, now: Duration, poller: &Poller, effects: &mut Effects) {
        self.advance(now, poller, effects, |network| network.receive_dhcp(index, now));
    }

    fn advance(
        &mut self,
        now: Duration,
        poller: &Poller,
        effects: &mut Effects,
        step: impl FnOnce(&mut Network) -> Vec<Change>,
    ) {
        let Some(network) = &mut self.0 else { return };
        for change in step(network) {
            match change {
                Change::Problem(text) => effects.log(text),
                Change::Note(text) => effects.note(text),
                Change::Online => effects.push(Effect::NetworkUp(now)),
                Change::SocketOpened(index) => {
                    if let Some(socket) = network.dhcp_descriptor(index)
                        && let Err(error) = poller.add(socket, Source::Dhcp(index))
                    {
                        effects.degrade(format!("DHCP does not work: {error}"));
                    }
                }
                Change::TimeServers(servers) => effects.push(Effect::TimeServers(servers)),
            }
        }
    }
}
