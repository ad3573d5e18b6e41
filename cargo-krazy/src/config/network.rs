//! The table `network`: settings that do not come from DHCP.

use krazy_boot::manifest::network::{NetworkSettings, StaticAddress};

use super::error::Result;
use super::origins::Origins;
use super::tables;

/// The longest name of an interface. Source: Linux `IFNAMSIZ`, less its NUL.
const MAX_NAME: usize = 15;

/// Returns the settings for the manifest of the root.
pub(crate) fn settings(network: &tables::Network, origins: &Origins) -> Result<NetworkSettings> {
    let mut settings = NetworkSettings {
        dns: network.dns.iter().map(|server| server.0).collect(),
        ntp: network.ntp.iter().map(|server| server.0.clone()).collect(),
        ..NetworkSettings::default()
    };
    for (name, interface) in &network.interfaces {
        let path = ["network", "interfaces", name];
        let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > MAX_NAME || name.contains(wrong) {
            return Err(origins.invalid(&path, "cannot be the name of an interface"));
        }
        let address = interface.address.0;
        let gateway = interface.gateway.as_ref().map(|gateway| gateway.0);
        // A single address has no network that its gateway could be in: clouds route so.
        let is_outside = |gateway: &_| address.1 < 32 && !address.contains(*gateway);
        if let Some(gateway) = gateway.filter(is_outside) {
            let path = ["network", "interfaces", name, "gateway"];
            return Err(origins.invalid(&path, format!("is {gateway}, outside of {address}")));
        }
        settings.interfaces.insert(name.clone(), StaticAddress { address, gateway });
    }
    Ok(settings)
}
