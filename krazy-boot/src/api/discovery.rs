//! How a device announces itself in its local network, and what may be said there.
//!
//! The service is DNS-SD (RFC 6763) over multicast DNS (RFC 6762): instance and host name are the device's host name,
//! the port is that of the API. Everybody in the network can read it, and anybody can say it: it helps to find a
//! device, and the certificate proves that it is one.

/// The service's type.
pub const SERVICE_TYPE: &str = "_krazy._tcp.local.";

/// The domain of multicast DNS, as a suffix of host names.
pub const DOMAIN: &str = ".local";

/// The key of the appliance's name in the TXT record.
pub const APPLIANCE: &str = "appliance";

/// The key of the appliance's version in the TXT record.
pub const VERSION: &str = "version";

/// Whether `text` is fit to be shown or believed as a name or version: strangers can announce anything.
pub fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_steered_by_strangers() {
        for plain in ["weather", "1.2.0-rc.1+x", "a_b"] {
            assert!(is_plain(plain), "{plain}");
        }
        for wrong in ["", "a b", "\x1b[2J", "grün", "a\n", &"x".repeat(65)] {
            assert!(!is_plain(wrong), "{wrong:?}");
        }
    }
}
