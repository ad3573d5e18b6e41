//! The announcement of a device in its local network.
//!
//! The service is DNS-SD (RFC 6763) over multicast DNS (RFC 6762): instance and host name are the device's host name,
//! the port is that of the API. Every host of the network can read
//! it, and any host can forge it: it only helps to find a device; the certificate proves its identity.

/// The service's type.
pub const SERVICE_TYPE: &str = "_krazy._tcp.local.";

/// The domain of multicast DNS, as a suffix of host names.
pub const DOMAIN: &str = ".local";

/// The key of the appliance's name in the TXT record.
pub const APPLIANCE: &str = "appliance";

/// The key of the appliance's version in the TXT record.
pub const VERSION: &str = "version";

/// Returns true if `text` may be shown as a name or version. Any host can announce any bytes, control sequences of
/// terminals among them.
pub fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_in_announcements_are_rejected() {
        for plain in ["weather", "1.2.0-rc.1+x", "a_b"] {
            assert!(is_plain(plain), "{plain}");
        }
        for wrong in ["", "a b", "\x1b[2J", "grün", "a\n", &"x".repeat(65)] {
            assert!(!is_plain(wrong), "{wrong:?}");
        }
    }
}
