//! Tells the local network where the device is: [`krazy_boot::api::discovery`] says what, and why it is no secret.
//!
//! A thread of mdns-sd answers questions. It looks every few seconds for addresses that came or went, takes another
//! name when somebody has its own already (RFC 6762, section 9), and answers each question at most once a second
//! (section 6). It stores nothing that others say, because it asks nothing.

use std::path::Path;

use krazy_boot::api::discovery::{APPLIANCE, DOMAIN, SERVICE_TYPE, VERSION, is_plain};
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

use crate::device::system::read_manifest;
use crate::problem::Problem;

/// Why nothing is announced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnouncementError {
    /// What is to be announced is not known.
    #[error("{}", .0.detail())]
    Manifest(Problem),
    /// The host name could not be found again.
    #[error("`{0}` cannot be a name in the network")]
    Name(String),
    /// Sockets, or what the crate refuses.
    #[error(transparent)]
    Mdns(#[from] mdns_sd::Error),
}

/// An announcement under way, which ends when it is dropped.
pub(crate) struct Announcement(ServiceDaemon);

impl Announcement {
    /// Announces the appliance in `root`, whose API is on `port` of every address.
    pub(crate) fn begin(root: &Path, port: u16) -> Result<Self, AnnouncementError> {
        let manifest = read_manifest(root).map_err(AnnouncementError::Manifest)?;
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let service = service(&name, port, &manifest.name, &manifest.version)?;
        let daemon = ServiceDaemon::new()?;
        // Nobody on the device itself looks for it.
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        daemon.register(service)?;
        Ok(Announcement(daemon))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // The thread says farewell and ends. One that has ended already cannot be told.
        let _ended = self.0.shutdown();
    }
}

fn service(name: &str, port: u16, appliance: &str, version: &str) -> Result<ServiceInfo, AnnouncementError> {
    if !is_plain(name) || name.contains('.') {
        return Err(AnnouncementError::Name(name.to_owned()));
    }
    let texts = [(APPLIANCE, appliance), (VERSION, version)];
    let host = format!("{name}{DOMAIN}.");
    Ok(ServiceInfo::new(SERVICE_TYPE, name, &host, "", port, &texts[..])?.enable_addr_auto())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_name_port_appliance_and_version_and_nothing_else() {
        let service = service("kitchen", 8443, "weather", "1.2.0").unwrap();
        assert_eq!(service.get_fullname(), "kitchen._krazy._tcp.local.");
        assert_eq!((service.get_hostname(), service.get_port()), ("kitchen.local.", 8443));
        let mut texts: Vec<_> = service.get_properties().iter().map(|text| text.to_string()).collect();
        texts.sort();
        assert_eq!(texts, ["appliance=weather", "version=1.2.0"]);
    }

    #[test]
    fn names_that_nobody_could_ask_for_are_not_announced() {
        for name in ["", "(none)", "a.b", "a b"] {
            assert!(matches!(service(name, 1, "a", "1"), Err(AnnouncementError::Name(_))), "{name}");
        }
    }
}
