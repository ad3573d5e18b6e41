//! Tests of the DHCP client: the life of a lease, a silent network, and replies that are not for this client.

use proptest::prelude::*;

use super::super::packet::{ReplyKind, reply_bytes};
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: [u8; 4] = [10, 0, 2, 2];

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn reply(client: &Client, kind: ReplyKind) -> Vec<u8> {
    let options: [(u8, &[u8]); 3] = [(1, &[255, 255, 255, 0]), (54, &SERVER), (51, &1000u32.to_be_bytes())];
    reply_bytes(kind as u8, client.xid, MAC, ADDRESS, &options)
}

/// Lets the server's message arrive.
fn receive(client: &mut Client, now: Duration, bytes: &[u8]) -> Vec<Output> {
    client.receive(now, SERVER.into(), bytes, &[])
}

fn bound() -> Client {
    let mut client = Client::new(MAC, "weather", 1, at(0));
    assert!(matches!(client.tick(at(0))[..], [Output::Send(_, Target::Broadcast)]));
    let offer = reply(&client, ReplyKind::Offer);
    assert!(matches!(receive(&mut client, at(1), &offer)[..], [Output::Send(_, Target::Broadcast)]));
    let ack = reply(&client, ReplyKind::Ack);
    assert!(matches!(receive(&mut client, at(2), &ack)[..], [Output::Configure(_)]));
    client
}

#[test]
fn lease_is_granted_renewed_and_ended() {
    let mut client = bound();
    assert_eq!(client.lease().map(|lease| (lease.address, lease.prefix)), Some((ADDRESS, 24)));
    assert_eq!(client.deadline(), at(502));
    let server = Target::Server(SERVER.into());
    assert!(matches!(&client.tick(at(502))[..], [Output::Send(_, target)] if *target == server));
    let ack = reply(&client, ReplyKind::Ack);
    assert!(matches!(receive(&mut client, at(503), &ack)[..], [Output::Configure(_)]));
    // The server is gone: the renewal goes to it, then to all hosts; then the lease ends and discovery starts.
    let mut targets = Vec::new();
    let mut now = at(503);
    while client.lease().is_some() {
        now = client.deadline();
        for output in client.tick(now) {
            match output {
                Output::Send(_, target) => targets.push(target),
                Output::Release(lease) => assert_eq!(lease.address, ADDRESS),
                Output::Configure(_) => panic!(),
            }
        }
    }
    assert_eq!(now, at(1503));
    assert!(targets.len() < 20 && targets.contains(&server) && targets.contains(&Target::Broadcast));
}

#[test]
fn discovery_is_retried_with_growing_intervals() {
    let mut client = Client::new(MAC, "", 1, at(0));
    let mut tries = 0;
    while client.deadline() < at(3600) {
        assert_eq!(client.tick(client.deadline()).len(), 1);
        tries += 1;
    }
    assert!((50..80).contains(&tries), "{tries}");
}

#[test]
fn rogue_replies_change_nothing() {
    let mut client = bound();
    let lease = client.lease().cloned();
    let mut other = reply(&client, ReplyKind::Ack);
    other[16..20].copy_from_slice(&[6, 6, 6, 6]);
    let nak = reply(&client, ReplyKind::Nak);
    for packet in [other, nak] {
        assert_eq!(receive(&mut client, at(10), &packet), []);
    }
    assert_eq!(client.lease().cloned(), lease);
    let mut fresh = Client::new(MAC, "", 1, at(0));
    fresh.tick(at(0));
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let mut offer = reply(&fresh, ReplyKind::Offer);
        offer[16..20].copy_from_slice(&address);
        assert_eq!(receive(&mut fresh, at(1), &offer), [], "{address:?}");
    }
}

#[test]
fn server_that_is_this_machine_is_ignored() {
    let own = [IpAddr::from([10, 9, 0, 50])];
    let mut client = Client::new(MAC, "", 1, at(0));
    client.tick(at(0));
    let offer = |server: [u8; 4]| {
        let options: [(u8, &[u8]); 2] = [(54, &server), (51, &1000u32.to_be_bytes())];
        reply_bytes(ReplyKind::Offer as u8, 1, MAC, ADDRESS, &options)
    };
    for (source, identifier) in [
        ([10, 9, 0, 50], SERVER),
        (SERVER, [10, 9, 0, 50]),
        ([127, 0, 0, 1], SERVER),
        (SERVER, [127, 0, 0, 1]),
        ([0, 0, 0, 0], SERVER),
        (SERVER, [255, 255, 255, 255]),
    ] {
        assert!(client.awaits(&offer(identifier)));
        let outputs = client.receive(at(1), source.into(), &offer(identifier), &own);
        assert_eq!(outputs, [], "{source:?} {identifier:?}");
    }
    // An honest relay: its address is not the server's.
    let outputs = client.receive(at(1), Ipv4Addr::new(10, 0, 2, 1), &offer(SERVER), &own);
    assert!(matches!(outputs[..], [Output::Send(..)]));
}

#[test]
fn rejected_request_starts_a_new_transaction_after_a_growing_pause() {
    let mut client = Client::new(MAC, "", 1, at(0));
    let mut now = at(0);
    let mut pauses = Vec::new();
    // A server that offers and rejects for ever.
    for _ in 0..10 {
        let xid = client.xid;
        assert!(matches!(client.tick(now)[..], [Output::Send(_, Target::Broadcast)]));
        let offer = reply(&client, ReplyKind::Offer);
        receive(&mut client, now, &offer);
        let nak = reply(&client, ReplyKind::Nak);
        assert_eq!(receive(&mut client, now, &nak), []);
        assert_ne!(client.xid, xid);
        pauses.push((client.deadline() - now).as_secs());
        now = client.deadline();
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
    // A lease begins the count anew.
    client.tick(now);
    let offer = reply(&client, ReplyKind::Offer);
    receive(&mut client, now, &offer);
    let ack = reply(&client, ReplyKind::Ack);
    assert!(matches!(receive(&mut client, now, &ack)[..], [Output::Configure(_)]));
    assert_eq!(client.rejections, 0);
}

#[test]
fn lease_without_a_time_lasts_an_hour() {
    let mut client = Client::new(MAC, "", 1, at(0));
    client.tick(at(0));
    for kind in [ReplyKind::Offer, ReplyKind::Ack] {
        let message = reply_bytes(kind as u8, client.xid, MAC, ADDRESS, &[(54, &SERVER)]);
        assert_eq!(receive(&mut client, at(0), &message).len(), 1);
    }
    assert_eq!(client.lease().map(|lease| lease.duration), Some(at(3600)));
}

/// Returns the addresses that the lines of `outputs` are about.
fn addresses(outputs: &[Output]) -> Vec<(&str, Ipv4Addr)> {
    let of = |output: &Output| match output {
        Output::Send(..) => None,
        Output::Configure(lease) => Some(("configure", lease.address)),
        Output::Release(lease) => Some(("release", lease.address)),
    };
    outputs.iter().filter_map(of).collect()
}

#[test]
fn lease_is_asked_for_again_after_a_replug() {
    let mut client = bound();
    client.carrier_gained(at(100));
    let outputs = client.tick(at(100));
    let [Output::Send(message, Target::Broadcast)] = &outputs[..] else { panic!("{outputs:?}") };
    // As after a restart of the machine (RFC 2131, section 4.3.2): no address in the header, no server.
    assert_eq!(message[12..16], [0; 4]);
    let has = |option: &[u8]| message.windows(option.len()).any(|window| window == option);
    assert!(has(&[50, 4, 10, 0, 2, 15]) && !has(&[54, 4, 10, 0, 2, 2]));
    // The same network.
    let ack = reply(&client, ReplyKind::Ack);
    assert_eq!(addresses(&receive(&mut client.clone(), at(100), &ack)), [("configure", ADDRESS)]);
    // Another network, whose server rejects.
    let nak = reply(&client, ReplyKind::Nak);
    assert_eq!(addresses(&receive(&mut client, at(100), &nak)), [("release", ADDRESS)]);
    assert!(matches!(client.tick(at(100))[..], [Output::Send(_, Target::Broadcast)]));
}

/// Also where one message is lost, and where the server does not know the address and says nothing.
#[test]
fn silent_network_after_a_replug_is_searched_within_seconds() {
    let mut client = bound();
    client.carrier_gained(at(100));
    let mut now = at(100);
    let mut sent = 0;
    let is_searching = |client: &Client| matches!(client.state, State::Selecting { .. });
    while !is_searching(&client) {
        now = client.deadline();
        sent += client.tick(now).len();
    }
    assert!(now <= at(116) && sent == 5, "{now:?} {sent}");
    // Meanwhile the address stays.
    assert_eq!(client.lease().map(|lease| lease.address), Some(ADDRESS));
    let other = Ipv4Addr::new(192, 168, 1, 9);
    let options: [(u8, &[u8]); 2] = [(54, &[192, 168, 1, 1]), (51, &1000u32.to_be_bytes())];
    let message = |client: &mut Client, kind: ReplyKind| {
        let bytes = reply_bytes(kind as u8, client.xid, MAC, other, &options);
        client.receive(now, [192, 168, 1, 1].into(), &bytes, &[])
    };
    message(&mut client, ReplyKind::Offer);
    assert_eq!(
        addresses(&message(&mut client, ReplyKind::Ack)),
        [("release", ADDRESS), ("configure", other)]
    );

    // Nobody is there: the address stays until the lease ends.
    let mut client = bound();
    client.carrier_gained(at(100));
    let mut released = Vec::new();
    let mut now = at(100);
    while client.lease().is_some() {
        now = client.deadline();
        released.extend(addresses(&client.tick(now)).into_iter().map(|(_, address)| address));
    }
    assert_eq!((now, released), (at(1002), vec![ADDRESS]));
}

proptest! {
    #[test]
    fn deadline_stays_ahead_after_any_packets(
        packets in proptest::collection::vec((0u8..8, 0u32..5000, any::<u8>(), 0u64..400), 0..60),
    ) {
        let mut client = Client::new(MAC, "", 1, at(0));
        let mut now = at(0);
        for (kind, lease, last, seconds) in packets {
            now += at(seconds);
            client.tick(now);
            prop_assert!(client.deadline() > now);
            let address = Ipv4Addr::new(10, 0, 0, last);
            let options: [(u8, &[u8]); 2] = [(54, &SERVER), (51, &lease.to_be_bytes())];
            let bytes = reply_bytes(kind, client.xid, MAC, address, &options);
            receive(&mut client, now, &bytes);
            client.tick(now);
            prop_assert!(client.deadline() > now);
        }
    }
}
