//! The table `network`: what does not come from DHCP.

use std::net::{IpAddr, Ipv4Addr};

use krazy_boot::manifest::network::{Cidr, NetworkSettings, StaticAddress};

use super::schema;
use super::table::Table;
use crate::failure::Failure;

/// The longest name of an interface. Source: Linux `IFNAMSIZ`, less its NUL.
const MAX_NAME: usize = 15;

/// Sets what `table` says; interfaces are added to those already there.
pub fn apply(table: &Table<'_>, settings: &mut NetworkSettings) -> Result<(), Failure> {
    table.check_keys(schema::NETWORK)?;
    if let Some(interfaces) = table.table("interfaces")? {
        for name in interfaces.names() {
            let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
            if name.is_empty() || name.len() > MAX_NAME || name.contains(wrong) {
                return Err(interfaces.invalid(name, "cannot be the name of an interface"));
            }
            let Some(interface) = interfaces.table(name)? else { continue };
            interface.check_keys(schema::INTERFACE)?;
            let Some(address) = interface.parsed("address", |text| text.parse::<Cidr>())? else {
                return Err(interface.itself_invalid("needs `address`"));
            };
            let ipv4 = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| "an IPv4 address");
            let gateway = interface.parsed("gateway", ipv4)?;
            if let Some(gateway) = gateway.filter(|gateway| !address.contains(*gateway)) {
                return Err(interface.invalid("gateway", format!("is {gateway}, outside of {address}")));
            }
            settings.interfaces.insert(name.to_owned(), StaticAddress { address, gateway });
        }
    }
    if let Some(servers) = table.strings("dns")? {
        let parse = |text: &String| {
            text.parse::<IpAddr>()
                .map_err(|_| table.invalid("dns", format!("has {text:?}, which is no address")))
        };
        settings.dns = servers.iter().map(parse).collect::<Result<_, _>>()?;
    }
    if let Some(servers) = table.strings("ntp")? {
        if let Some(wrong) = servers.iter().find(|name| name.is_empty() || name.contains(char::is_whitespace))
        {
            return Err(table.invalid("ntp", format!("has {wrong:?}, which is no host")));
        }
        settings.ntp = servers;
    }
    Ok(())
}
