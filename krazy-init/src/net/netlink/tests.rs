use proptest::prelude::*;

use super::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

#[test]
fn listing_links_reports_the_loopback_interface() {
    let mut netlink = Netlink::open().unwrap();
    netlink.list_links().unwrap();
    let mut links = Vec::new();
    for _ in 0..100 {
        links.extend(netlink.notifications());
        if !links.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let is_loopback =
        |it: &Notification| matches!(it, Notification::Link(l) if l.name == "lo" && l.mac.is_none());
    assert!(links.iter().any(is_loopback), "{links:?}");
}

#[test]
fn rejected_request_is_an_error() {
    let mut netlink = Netlink::open().unwrap();
    let error = netlink.add_address(0x7fff_fff0, Ipv4Addr::new(192, 0, 2, 1), 24, None).unwrap_err();
    assert!([Some(libc::ENODEV), Some(libc::EPERM)].contains(&error.raw_os_error()), "{error}");
}

/// The bytes that an encoder without a library sent, on a little-endian machine.
#[test]
#[cfg(target_endian = "little")]
fn requests_have_the_kernels_layout() {
    let acknowledged = NLM_F_REQUEST | NLM_F_ACK;
    let replacing = acknowledged | NLM_F_CREATE | NLM_F_REPLACE;
    #[rustfmt::skip]
    assert_eq!(encode(libc::RTM_NEWLINK, acknowledged, 1, &link_up(3)), [
        32, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
    ]);
    let leased = address_with_lifetime(3, ADDRESS, 24, Some(Duration::from_secs(1800)));
    #[rustfmt::skip]
    assert_eq!(encode(libc::RTM_NEWADDR, replacing, 2, &leased), [
        68, 0, 0, 0, 20, 0, 5, 5, 2, 0, 0, 0, 0, 0, 0, 0,
        2, 24, 0, 0, 3, 0, 0, 0,
        8, 0, 2, 0, 10, 0, 2, 15, 8, 0, 1, 0, 10, 0, 2, 15, 8, 0, 4, 0, 10, 0, 2, 255,
        20, 0, 6, 0, 8, 7, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let lasting = address_with_lifetime(3, ADDRESS, 32, None);
    #[rustfmt::skip]
    assert_eq!(encode(libc::RTM_NEWADDR, replacing, 3, &lasting), [
        60, 0, 0, 0, 20, 0, 5, 5, 3, 0, 0, 0, 0, 0, 0, 0,
        2, 32, 0, 0, 3, 0, 0, 0,
        8, 0, 2, 0, 10, 0, 2, 15, 8, 0, 1, 0, 10, 0, 2, 15,
        20, 0, 6, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let default = |gateway| Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway };
    let address = Cidr(ADDRESS, 24);
    let gateway = route_message(3, default(Ipv4Addr::new(10, 0, 2, 2)), address);
    #[rustfmt::skip]
    assert_eq!(encode(libc::RTM_NEWROUTE, replacing, 5, &gateway), [
        60, 0, 0, 0, 24, 0, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0,
        2, 0, 0, 0, 254, 16, 0, 1, 0, 0, 0, 0,
        8, 0, 4, 0, 3, 0, 0, 0, 8, 0, 5, 0, 10, 0, 2, 2, 8, 0, 6, 0, 235, 3, 0, 0,
        8, 0, 7, 0, 10, 0, 2, 15,
    ]);
    let network = Ipv4Addr::new(172, 16, 16, 0);
    let on_link = route_message(3, Route { network, prefix: 20, gateway: Ipv4Addr::UNSPECIFIED }, address);
    #[rustfmt::skip]
    assert_eq!(encode(libc::RTM_NEWROUTE, replacing, 6, &on_link), [
        60, 0, 0, 0, 24, 0, 5, 5, 6, 0, 0, 0, 0, 0, 0, 0,
        2, 20, 0, 0, 254, 16, 253, 1, 0, 0, 0, 0,
        8, 0, 1, 0, 172, 16, 16, 0, 8, 0, 4, 0, 3, 0, 0, 0, 8, 0, 6, 0, 235, 3, 0, 0,
        8, 0, 7, 0, 10, 0, 2, 15,
    ]);
    // RTNH_F_ONLINK, 4, for a gateway that no route leads to: that of a single address, or of another network.
    for (address, gateway) in [(32, [10, 0, 2, 2]), (24, [10, 0, 3, 1])] {
        let message = route_message(3, default(gateway.into()), Cidr(ADDRESS, address));
        let bytes = encode(libc::RTM_NEWROUTE, replacing, 7, &message);
        assert_eq!(bytes[24..28], 4u32.to_ne_bytes(), "{gateway:?}");
    }
    #[rustfmt::skip]
    assert_eq!(encode(libc::RTM_NEWLINK, 0, 8, &LinkMtu { index: 3, mtu: 1400 }), [
        40, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 4, 0, 120, 5, 0, 0,
    ]);
}

#[test]
fn router_advertisement_lists_name_servers() {
    let mut body = vec![libc::AF_INET6 as u8, 0, 24, 0];
    body.extend(3u32.to_ne_bytes());
    body.extend([134, 0, 0, 0, 0, 0, 0, 0]);
    body.extend([25, 3, 0, 0, 0, 0, 7, 8]);
    body.extend(Ipv6Addr::LOCALHOST.octets());
    // Without the router's address nobody knows who sent it.
    assert_eq!(parse_name_servers(&body), None);
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    body.extend(20u16.to_ne_bytes());
    body.extend(NDUSEROPT_SRCADDR.to_ne_bytes());
    body.extend(router.octets());
    let offer = NameServers {
        index: 3,
        router,
        servers: vec![Ipv6Addr::LOCALHOST],
        lifetime: Duration::from_secs(1800),
    };
    assert_eq!(parse_name_servers(&body), Some(Notification::NameServers(offer)));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u16..70) {
        let mut notifications = Vec::new();
        parse(&bytes, &mut notifications);
        let mut message = ((16 + bytes.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(bytes);
        parse(&message, &mut notifications);
    }
}
