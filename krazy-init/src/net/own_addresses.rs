//! The addresses of this machine. Source: getifaddrs(3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the addresses of all interfaces.
pub(super) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the function only writes the pointer.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut entry: *const libc::ifaddrs = list;
    // SAFETY: the list is intact until it is freed, and its last entry has no next one. An address, if there is one, has
    // the type that its family tells, and the alignment of an allocation.
    unsafe {
        while let Some(interface) = entry.as_ref() {
            if let Some(address) = interface.ifa_addr.as_ref() {
                match i32::from(address.sa_family) {
                    libc::AF_INET => {
                        let address = interface.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                        let octets = address.sin_addr.s_addr.to_ne_bytes();
                        addresses.push(Ipv4Addr::from(octets).into());
                    }
                    libc::AF_INET6 => {
                        let address = interface.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                        addresses.push(Ipv6Addr::from(address.sin6_addr.s6_addr).into());
                    }
                    _ => {}
                }
            }
            entry = interface.ifa_next;
        }
        libc::freeifaddrs(list);
    }
    Ok(addresses)
}

/// Returns true if no other machine can have `address`: it is a loopback address, or no address of a host.
pub(super) fn is_no_other_machine(address: IpAddr) -> bool {
    let is_broadcast =
        matches!(address, IpAddr::V4(address) if address.is_broadcast() || address.octets()[0] == 0);
    address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_address_is_among_ours() {
        let addresses = own_addresses().unwrap();
        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()), "{addresses:?}");
    }

    #[test]
    fn loopback_and_group_addresses_are_no_other_machine() {
        for own in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.1.1",
            "::1",
            "::",
            "ff02::1",
        ] {
            assert!(is_no_other_machine(own.parse().unwrap()), "{own}");
        }
        for other in ["10.0.0.1", "192.0.2.1", "fe80::1", "2001:db8::1"] {
            assert!(!is_no_other_machine(other.parse().unwrap()), "{other}");
        }
    }
}
