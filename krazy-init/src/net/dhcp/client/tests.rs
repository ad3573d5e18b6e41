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
fn rejected_request_starts_a_new_transaction() {
    let mut client = Client::new(MAC, "", 1, at(0));
    client.tick(at(0));
    let offer = reply(&client, ReplyKind::Offer);
    receive(&mut client, at(0), &offer);
    let nak = reply(&client, ReplyKind::Nak);
    receive(&mut client, at(1), &nak);
    assert_ne!(client.xid, 1);
    assert!(matches!(client.tick(at(1))[..], [Output::Send(_, Target::Broadcast)]));
}

#[test]
fn carrier_after_a_replug_broadcasts_the_renewal() {
    let mut client = bound();
    client.carrier_gained(at(100));
    assert!(matches!(client.tick(at(100))[..], [Output::Send(_, Target::Broadcast)]));
    let nak = reply(&client, ReplyKind::Nak);
    assert!(matches!(receive(&mut client, at(100), &nak)[..], [Output::Release(_)]));
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
