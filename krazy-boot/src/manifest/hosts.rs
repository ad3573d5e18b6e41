//! `/etc/hosts`: the addresses of names that need no name server. Source: hosts(5).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// Returns the text of the file for a device called `hostname`, with further `hosts`.
pub fn text(hostname: &str, hosts: &BTreeMap<String, IpAddr>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    // The address that Debian's installer gives a name: it works without a network, and is not that of `localhost`.
    let short = hostname.split('.').next().filter(|short| *short != hostname);
    let own = short.map_or_else(|| hostname.to_owned(), |short| format!("{hostname} {short}"));
    if hostname != "localhost" && !hosts.contains_key(hostname) {
        let _infallible = writeln!(text, "127.0.1.1 {own}");
    }
    for (name, address) in hosts {
        let _infallible = writeln!(text, "{address} {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_name_and_further_ones_have_addresses() {
        let hosts = BTreeMap::from([("broker".to_owned(), "10.0.0.5".parse().unwrap())]);
        assert_eq!(
            text("roof.example.org", &hosts),
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 roof.example.org roof\n10.0.0.5 broker\n"
        );
        assert!(!text("broker", &hosts).contains("127.0.1.1"));
    }
}
