//! The checks of the services' ports against each other.

use std::collections::BTreeMap;

use krazy_boot::manifest::ports::{ADMIND, ADMIND_PORT, PortRules};
use krazy_boot::manifest::{Ready, ServiceSettings};

use super::error::Result;
use super::origins::Origins;

/// Checks that no two services have the same port, and that each may bind the port by which it is to be ready.
pub(super) fn check(services: &BTreeMap<String, ServiceSettings>, origins: &Origins) -> Result<()> {
    let mut owners = BTreeMap::new();
    for (name, settings) in services {
        for port in settings.ports.iter().flatten() {
            let path = ["service", name, "ports"];
            if *port == ADMIND_PORT && name != ADMIND && services.contains_key(ADMIND) {
                let help = format!("choose another port, or leave `{ADMIND}` out with `admind = false`");
                return Err(origins.invalid(&path, format!("has {port}, the port of `{ADMIND}`")).help(help));
            }
            match owners.insert(*port, name) {
                Some(other) if other == name => {
                    return Err(origins.invalid(&path, format!("has {port} twice")));
                }
                Some(other) => {
                    let problem = format!("has {port}, which the service `{other}` has, too");
                    return Err(origins.invalid(&path, problem).help("leave it to one of the two"));
                }
                None => {}
            }
        }
    }
    for (name, settings) in services {
        let all = services.iter().map(|(name, settings)| (name.as_str(), settings));
        if let Ready::Tcp(port) = settings.ready
            && !PortRules::new(name, all).allow(port)
        {
            let problem = format!("is port {port}, which the service may not bind");
            let help =
                format!("add {port} to `service.{name}.ports`, with all others below 1024 that it binds");
            return Err(origins.invalid(&["service", name, "ready"], problem).help(help));
        }
    }
    Ok(())
}
