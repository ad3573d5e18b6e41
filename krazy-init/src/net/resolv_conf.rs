//! The list of name servers for programs. Source: resolv.conf(5).

use std::fs;
use std::io;
use std::net::IpAddr;

/// `/etc/resolv.conf` is a link to this file.
pub(super) const PATH: &str = "/run/resolv.conf";

/// Name servers that a resolver uses at most: `MAXNS` of resolv.conf(5).
pub(super) const MAX_NAME_SERVERS: usize = 3;

/// Writes the first [`MAX_NAME_SERVERS`] distinct servers, and the domains in which names are looked up. The file is replaced by a rename, because a program that
/// reads it at the same moment must not see half of it.
pub(super) fn write(servers: impl Iterator<Item = String>, domains: &[String]) -> io::Result<()> {
    let new = format!("{PATH}.new");
    fs::write(&new, encode(servers, domains))?;
    fs::rename(new, PATH)
}

fn encode(servers: impl Iterator<Item = String>, domains: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for server in servers {
        let line = format!("nameserver {server}\n");
        if lines.len() < MAX_NAME_SERVERS && !lines.contains(&line) {
            lines.push(line);
        }
    }
    if !domains.is_empty() {
        lines.push(format!("search {}\n", domains.join(" ")));
    }
    lines.concat()
}

/// Returns a name server in the form of resolv.conf(5): a link-local address needs its interface.
pub(super) fn name_server(address: IpAddr, interface: &str) -> String {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => format!("{v6}%{interface}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_three_distinct_servers_are_listed() {
        let servers = ["10.0.2.3", "fe80::1%eth0", "10.0.2.3", "10.0.2.4", "10.0.2.5"].map(str::to_owned);
        let text = "nameserver 10.0.2.3\nnameserver fe80::1%eth0\nnameserver 10.0.2.4\n";
        assert_eq!(encode(servers.clone().into_iter(), &[]), text);
        let domains = ["lan", "example.com"].map(str::to_owned);
        assert_eq!(encode(servers.into_iter(), &domains), format!("{text}search lan example.com\n"));
    }

    #[test]
    fn link_local_server_names_its_interface() {
        assert_eq!(name_server("fe80::1".parse().unwrap(), "eth0"), "fe80::1%eth0");
        assert_eq!(name_server("10.0.2.3".parse().unwrap(), "eth0"), "10.0.2.3");
    }
}
