use proptest::prelude::*;

use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

#[test]
fn request_has_the_layout_of_the_rfc() {
    let request = Request {
        kind: RequestKind::Request,
        xid: 0x1234_5678,
        seconds: 2,
        mac: MAC,
        current: None,
        requested: Some(Ipv4Addr::new(10, 0, 2, 15)),
        server: Some(Ipv4Addr::new(10, 0, 2, 2)),
        hostname: "weather",
    };
    let bytes = request.encode();
    assert!(bytes.len() >= MIN_PACKET);
    assert_eq!(bytes[..12], [1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 2, 0x80, 0]);
    assert_eq!(bytes[240..243], [53, 1, 3]);
    let text: Vec<u8> = [&[12u8, 7][..], b"weather"].concat();
    assert!(bytes.windows(text.len()).any(|window| window == text));
    let requested = [50, 4, 10, 0, 2, 15];
    assert!(bytes.windows(6).any(|window| window == requested));
}

#[test]
fn offer_is_decoded_without_its_malformed_option() {
    let options: [(u8, &[u8]); 6] = [
        (1, &[255, 255, 255, 0]),
        (3, &[10, 0, 2, 2, 10, 0, 2, 9]),
        (6, &[10, 0, 2, 3]),
        (54, &[10, 0, 2, 2]),
        (51, &[0, 1, 81, 128]),
        (58, &[1]),
    ];
    let reply = parse(&reply_bytes(2, 7, MAC, Ipv4Addr::new(10, 0, 2, 15), &options)).unwrap();
    assert_eq!((reply.kind, reply.xid, reply.mac), (ReplyKind::Offer, 7, MAC));
    assert_eq!((reply.prefix, reply.lease, reply.renew), (Some(24), Some(86400), None));
    let gateway = Ipv4Addr::new(10, 0, 2, 2);
    assert_eq!(reply.routes, [Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway }]);
    assert_eq!(reply.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
}

#[test]
fn domains_and_mtu_are_decoded() {
    let text: (u8, &[u8]) = (15, b"example.com");
    let decode = |options: &[(u8, &[u8])]| {
        let reply = parse(&reply_bytes(5, 7, MAC, Ipv4Addr::LOCALHOST, options)).unwrap();
        (reply.domains, reply.mtu)
    };
    assert_eq!(decode(&[text, (26, &[5, 120])]), (vec!["example.com".to_owned()], Some(1400)));
    assert_eq!(decode(&[(119, b"\x03lan\x00"), text]).0, ["lan"]);
    // Shorter than what every host must accept, and of another length.
    assert_eq!(decode(&[(26, &[2, 0])]).1, None);
    assert_eq!(decode(&[(26, &[5])]).1, None);
}

#[test]
fn classless_routes_replace_the_router() {
    let options: [(u8, &[u8]); 2] =
        [(3, &[10, 0, 0, 1]), (121, &[0, 10, 0, 0, 2, 20, 172, 16, 16, 10, 0, 0, 3])];
    let reply = parse(&reply_bytes(5, 7, MAC, Ipv4Addr::LOCALHOST, &options)).unwrap();
    assert_eq!(reply.routes.len(), 2);
    assert_eq!(reply.routes[0].gateway, Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!((reply.routes[1].network, reply.routes[1].prefix), (Ipv4Addr::new(172, 16, 16, 0), 20));
    assert_eq!(classless_routes(&[33, 1, 2, 3, 4, 5, 1, 2, 3, 4]), None);
}

#[test]
fn only_contiguous_masks_have_a_prefix_length() {
    assert_eq!(prefix_of(&[255, 0, 255, 0]), None);
    assert_eq!(prefix_of(&[0, 0, 0, 0]), Some(0));
    assert_eq!(prefix_of(&[255, 255, 255, 255]), Some(32));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        options in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = parse(&bytes);
        let mut packet = reply_bytes(2, 7, MAC, Ipv4Addr::LOCALHOST, &[]);
        packet.pop();
        packet.extend(options);
        let _ = parse(&packet);
    }
}
