//! One function for each parser: the fuzz targets in `/fuzz` call it, and a unit test, for less time. It is compiled only
//! for tests and with `--cfg fuzzing`, which `cargo fuzz` sets, and is no part of the API.

#[cfg(test)]
#[macro_use]
#[path = "../../fuzz/smoke.rs"]
mod smoke;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::linux::{readiness, system_log, uevent};
use crate::net::dhcp::Client;
use crate::net::{ipv4, netlink, sntp};

/// A conversation with DHCP servers. Each message begins with 4 bytes: kind, length / 4, and the seconds since the last
/// one. Odd kinds are options only, behind a header that the client accepts; even ones are sent as they are.
pub fn dhcp(input: &[u8]) {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const XID: u32 = 0x1234_5678;
    let mut now = Duration::ZERO;
    let mut client = Client::new(MAC, "host", XID, now);
    let mut rest = input;
    while let Some((&[kind, len, seconds @ ..], after)) = rest.split_first_chunk::<4>() {
        now += Duration::from_secs(u16::from_le_bytes(seconds).into());
        if kind & 0x80 != 0 {
            client.carrier_gained(now);
        }
        let ticks = client.tick(now);
        assert!(ticks.len() <= 3, "{ticks:?}");
        let (body, after) = after.split_at(after.len().min(4 * usize::from(len)));
        rest = after;
        let message = if kind & 1 == 0 { body.to_vec() } else { reply(XID, MAC, body) };
        let _ = client.receive(now, Ipv4Addr::new(10, 0, 0, 1), &message, &[]);
        if let Some(lease) = client.lease() {
            assert!(lease.prefix <= 32 && lease.routes.iter().all(|route| route.prefix <= 32));
        }
        assert!(client.deadline() <= now + Duration::from_secs(u32::MAX.into()));
    }
}

/// A server's message with an address and `options`. Source: RFC 2131, figure 1.
fn reply(xid: u32, mac: [u8; 6], options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[16..20].copy_from_slice(&[10, 0, 0, 9]);
    bytes[28..34].copy_from_slice(&mac);
    bytes.extend([99, 130, 83, 99]);
    bytes.extend(options);
    bytes
}

/// An IPv4 packet. The first byte selects: as it is (bit 0 unset), or the rest as what a valid packet carries.
pub fn ipv4(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let has_checksum = choice & 2 == 0;
    if choice & 1 == 0 {
        if let Some(datagram) = ipv4::datagram(rest, has_checksum) {
            assert!(datagram.payload.len() + 28 <= rest.len());
        }
        return;
    }
    let payload = &rest[..rest.len().min(1500)];
    let (source, target) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
    let packet = ipv4::packet(source, target, (67, 68), payload);
    let wanted = ipv4::Datagram { source, source_port: 67, target_port: 68, payload };
    assert_eq!(ipv4::datagram(&packet, has_checksum), Some(wanted));
}

/// An SNTP packet. Its origin timestamp is taken for that of the request.
pub fn sntp(input: &[u8]) {
    let nonce = input.get(24..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    let sent = Duration::from_secs(1_800_000_000);
    let _ = sntp::offset(input, nonce, sent, sent + Duration::from_millis(20));
}

/// A datagram of the kernel's routing socket.
pub fn netlink(input: &[u8]) {
    let mut notifications = Vec::new();
    netlink::parse(input, &mut notifications);
    assert!(notifications.len() <= input.len() / 16);
}

/// A device event (first byte 0), a message of readiness (1), one to the system's log (3), or the kernel's table of TCP
/// sockets.
pub fn uevent(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    match choice {
        0 => drop(uevent::parse(rest)),
        1 => drop(readiness::Notification::parse(rest)),
        3 => assert!(system_log::parse(rest).1.len() <= rest.len()),
        _ => drop(std::str::from_utf8(rest).map(|table| readiness::has_listener(table, 80))),
    }
}

#[cfg(test)]
smoke_tests! {
    dhcp: 200_000,
    ipv4: 500_000,
    netlink: 500_000,
    sntp: 500_000,
    uevent: 500_000,
}
