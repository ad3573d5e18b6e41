//! The announcement of the device on its local network, by mDNS. [`krazy_boot::api::discovery`] defines its content, and
//! says why that is no secret.
//!
//! A thread of mdns-sd answers queries. It checks every few seconds for new and removed addresses, renames the device on
//! a conflict (RFC 6762, section 9), and answers each query at most once a second (section 6). It sends no queries
//! itself, so it stores no records of other hosts.

use krazy_boot::api::discovery::{APPLIANCE, DOMAIN, SERVICE_TYPE, VERSION, is_plain};
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

use crate::transport::Announced;

/// A failure to announce the device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnouncementError {
    /// The host name is not a plain DNS label, so clients could not look it up.
    #[error("the host name `{0}` cannot be announced: it is not a plain DNS label")]
    Name(String),
    /// A failure of mdns-sd.
    #[error(transparent)]
    Mdns(#[from] mdns_sd::Error),
}

/// An active announcement. Dropping it withdraws it.
pub(crate) struct Announcement(ServiceDaemon);

impl Announcement {
    /// Announces the device, with its API on the port of every address.
    pub(super) fn start(announced: &Announced) -> Result<Self, AnnouncementError> {
        let Announced { host, port, appliance, version } = announced;
        let service = service(host, *port, appliance, version)?;
        let daemon = ServiceDaemon::new()?;
        // Programs on the device itself use localhost.
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        daemon.register(service)?;
        Ok(Announcement(daemon))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // The thread withdraws the records and exits. An error means that it has exited already.
        let _exited = self.0.shutdown();
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
    fn announcement_holds_name_port_appliance_and_version_only() {
        let service = service("kitchen", 8443, "weather", "1.2.0").unwrap();
        assert_eq!(service.get_fullname(), "kitchen._krazy._tcp.local.");
        assert_eq!((service.get_hostname(), service.get_port()), ("kitchen.local.", 8443));
        let mut texts: Vec<_> = service.get_properties().iter().map(|text| text.to_string()).collect();
        texts.sort();
        assert_eq!(texts, ["appliance=weather", "version=1.2.0"]);
    }

    #[test]
    fn host_names_that_are_not_dns_labels_are_rejected() {
        for name in ["", "(none)", "a.b", "a b"] {
            assert!(matches!(service(name, 1, "a", "1"), Err(AnnouncementError::Name(_))), "{name}");
        }
    }
}
