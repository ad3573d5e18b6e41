//! UDP in IPv4, as a packet socket receives and sends it. Source: RFC 791 (IPv4), RFC 768 (UDP), RFC 1071 (checksum).
//!
//! Not supported: fragments. Options of the IPv4 header are skipped.

use std::net::Ipv4Addr;

/// The length of an IPv4 header without options, and of a UDP header.
const MIN_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;

/// The longest pair of headers.
pub(crate) const MAX_HEADERS_LEN: usize = 60 + UDP_HEADER_LEN;

/// The number of UDP in the field `protocol`. Source: IANA, "Assigned Internet Protocol Numbers".
const UDP: u8 = 17;

/// The flag "more fragments" and the offset, of the field with both.
const FRAGMENT: u16 = 0x3fff;

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    /// The address of the sender.
    pub(crate) source: Ipv4Addr,
    /// The port of the sender.
    pub(crate) source_port: u16,
    /// The port of the receiver.
    pub(crate) target_port: u16,
    /// Its data.
    pub(crate) payload: &'a [u8],
}

/// Decodes a packet; `None` if it is no whole and intact datagram. `has_checksum` is false for a packet whose UDP
/// checksum the sender left to its network card, as virtual machines do on one host.
pub(crate) fn datagram(packet: &[u8], has_checksum: bool) -> Option<Datagram<'_>> {
    let header = packet.first_chunk::<MIN_HEADER_LEN>()?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let header_len = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || header[9] != UDP || number(6) & FRAGMENT != 0 {
        return None;
    }
    // What follows the packet's own length fills the frame up.
    let packet = packet.get(..usize::from(number(2)))?;
    let (header, udp) = packet.split_at_checked(header_len)?;
    if header_len < MIN_HEADER_LEN || sum([header]) != 0xffff {
        return None;
    }
    let fields = udp.first_chunk::<UDP_HEADER_LEN>()?;
    let field = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
    let udp = udp.get(..usize::from(field(4)))?;
    let payload = udp.get(UDP_HEADER_LEN..)?;
    // Zero is no checksum.
    if has_checksum && field(6) != 0 {
        let pseudo = [0, UDP, fields[4], fields[5]];
        if sum([&header[12..20], &pseudo, udp]) != 0xffff {
            return None;
        }
    }
    Some(Datagram {
        source: Ipv4Addr::from(*header.get(12..)?.first_chunk::<4>()?),
        source_port: field(0),
        target_port: field(2),
        payload,
    })
}

/// Returns the one's complement sum of 16-bit words; only the last part may have an odd length.
fn sum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    // A packet has 65,535 bytes at most, so the sum is below 2^31.
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Returns a packet. Its payload has at most 1,500 bytes.
pub(crate) fn packet(source: Ipv4Addr, target: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let udp_len = (UDP_HEADER_LEN + payload.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend((MIN_HEADER_LEN as u16 + udp_len).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    header.extend(source.octets());
    header.extend(target.octets());
    let check = !sum([&header]);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    let mut udp = [ports.0, ports.1, udp_len, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    let pseudo = [&[0, UDP][..], &udp_len.to_be_bytes()].concat();
    let check = !sum([&header[12..20], &pseudo, &udp]);
    udp[6..8].copy_from_slice(&check.to_be_bytes());
    [header, udp].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
    const TARGET: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 50);

    fn good() -> Vec<u8> {
        packet(SOURCE, TARGET, (67, 68), b"offer")
    }

    #[test]
    fn datagram_is_found_in_a_padded_packet() {
        let mut bytes = good();
        let wanted = Datagram { source: SOURCE, source_port: 67, target_port: 68, payload: b"offer" };
        assert_eq!(datagram(&bytes, true), Some(wanted));
        bytes.resize(46, 0xaa);
        assert_eq!(datagram(&bytes, true), Some(wanted));
        // Without a checksum.
        bytes[26..28].fill(0);
        assert_eq!(datagram(&bytes, true), Some(wanted));
    }

    #[test]
    fn checksum_that_the_card_would_have_made_is_not_missed() {
        let mut bytes = good();
        bytes[26] ^= 0x55;
        assert_eq!(datagram(&bytes, true), None);
        assert!(datagram(&bytes, false).is_some());
        bytes[10] ^= 1;
        assert_eq!(datagram(&bytes, false), None);
    }

    #[test]
    fn truncated_changed_and_foreign_packets_are_none() {
        let bytes = good();
        for length in 0..bytes.len() {
            assert_eq!(datagram(&bytes[..length], true), None, "{length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            assert_eq!(datagram(&changed, true), None, "{at}");
        }
        let is_taken = |at: usize, value: u8| {
            let mut bytes = good();
            bytes[at] = value;
            bytes[10..12].fill(0);
            let check = !sum([&bytes[..20]]);
            bytes[10..12].copy_from_slice(&check.to_be_bytes());
            datagram(&bytes, true).is_some()
        };
        // Version 6, a header of 16 bytes, a first and a later fragment, TCP, more than there is.
        for (at, value) in [(0, 0x65), (0, 0x44), (6, 0x20), (7, 1), (9, 6), (3, 200)] {
            assert!(!is_taken(at, value), "{at}: {value}");
        }
        // "Do not fragment" is no fragment.
        assert!(is_taken(6, 0x40));
        // A UDP length below its header's, and beyond the packet.
        for length in [0u16, 7, 14] {
            let mut bytes = good();
            bytes[24..26].copy_from_slice(&length.to_be_bytes());
            assert_eq!(datagram(&bytes, false), None, "{length}");
        }
    }
}
