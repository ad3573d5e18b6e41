//! Tests of the time from the network: packets, choice of servers, agreement.

use proptest::prelude::*;

use super::*;

const NONCE: [u8; 8] = *b"01234567";

fn reply(seconds: u64) -> [u8; PACKET_LEN] {
    let mut packet = [0u8; PACKET_LEN];
    packet[0] = VERSION << 3 | MODE_SERVER;
    packet[STRATUM] = 2;
    packet[ORIGIN_TIMESTAMP..RECEIVE_TIMESTAMP].copy_from_slice(&NONCE);
    let wire = ((seconds + NTP_TO_UNIX) as u32).to_be_bytes();
    packet[32..36].copy_from_slice(&wire);
    packet[40..44].copy_from_slice(&wire);
    packet
}

#[test]
fn reply_gives_the_offset() {
    let now = Duration::from_secs(1_800_000_000);
    let later = now + Duration::from_millis(200);
    assert_eq!(offset(&reply(1_800_000_010), NONCE, now, later), Some(9_900_000_000));
    // After the wrap of 2036.
    let then = Duration::from_secs(2_200_000_000);
    assert_eq!(offset(&reply(2_200_000_000), NONCE, then, then), Some(0));
    assert_eq!(offset(&reply(1_800_000_010), *b"another!", now, later), None);
    let mut unsynchronised = reply(1_800_000_010);
    unsynchronised[0] |= 0xc0;
    assert_eq!(offset(&unsynchronised, NONCE, now, later), None);
    let mut kiss = reply(1_800_000_010);
    kiss[STRATUM] = 0;
    assert_eq!(offset(&kiss, NONCE, now, later), None);
}

#[test]
fn default_servers_are_asked_if_those_of_dhcp_are_gone() {
    let right = Consensus { offset: 5, agreeing: 2, answered: 2 };
    let gone = |names: &[String]| {
        Err(SntpError::Servers(
            names.iter().map(|name| (name.clone(), io::ErrorKind::TimedOut.into())).collect(),
        ))
    };
    let pool = |names: &[String]| if names.len() == DEFAULT_SERVERS.len() { Ok(right) } else { gone(names) };
    let of = |names: &[&str], are_settings| Servers {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        are_settings,
    };
    assert_eq!(round(&of(&["10.0.0.1"], false), pool).unwrap(), right);
    assert_eq!(round(&of(&[], false), pool).unwrap(), right);
    let error = round(&of(&["10.0.0.1"], true), pool).unwrap_err().to_string();
    assert_eq!(error, "10.0.0.1: timed out");
    let error = round(&of(&["10.0.0.1"], false), gone).unwrap_err().to_string();
    assert!(error.starts_with("10.0.0.1: timed out; 0.pool.ntp.org: timed out; "), "{error}");
    // Servers that contradict each other are there.
    let contradict = |_: &[String]| Err(SntpError::Disagreement);
    assert!(matches!(round(&of(&["10.0.0.1"], false), contradict), Err(SntpError::Disagreement)));
}

#[test]
fn largest_group_of_offsets_wins() {
    let second = 1_000_000_000;
    let consensus = |offset, agreeing, answered| Some(Consensus { offset, agreeing, answered });
    assert_eq!(agree(&[]), None);
    assert_eq!(agree(&[5]), consensus(5, 1, 1));
    assert_eq!(agree(&[5, 7, 300_000_000 * second]), consensus(7, 2, 3));
    assert_eq!(agree(&[0, 500 * second]), None);
}

#[test]
fn majority_is_several_servers_and_more_than_half() {
    let is_majority = |agreeing, answered| Consensus { offset: 0, agreeing, answered }.is_majority();
    assert!(is_majority(2, 2) && is_majority(2, 3) && is_majority(3, 4));
    assert!(!is_majority(1, 1) && !is_majority(2, 4) && !is_majority(1, 2));
}

#[test]
fn server_listed_twice_is_asked_once_and_own_addresses_never() {
    let server = |text: &str| SocketAddr::new(text.parse().unwrap(), PORT);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let own = [ip("10.0.0.5"), ip("fe80::5")];
    let chosen = |addresses: &[&str], asked: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|text| server(text)).collect();
        let asked: Vec<_> = asked.iter().map(|text| ip(text)).collect();
        choose(&addresses, &own, &asked).map_err(|error| error.to_string())
    };
    assert_eq!(chosen(&["10.0.0.1"], &[]), Ok(Some(server("10.0.0.1"))));
    assert_eq!(chosen(&["10.0.0.1"], &["10.0.0.1"]), Ok(None));
    assert_eq!(chosen(&["::ffff:10.0.0.1"], &["10.0.0.1"]), Ok(None));
    assert_eq!(chosen(&["10.0.0.1", "10.0.0.2"], &["10.0.0.1"]), Ok(Some(server("10.0.0.2"))));
    assert_eq!(chosen(&["127.0.0.1", "10.0.0.2"], &[]), Ok(Some(server("10.0.0.2"))));
    for itself in ["10.0.0.5", "::ffff:10.0.0.5", "fe80::5", "127.0.0.1", "::1", "0.0.0.0"] {
        assert_eq!(chosen(&[itself], &[]), Err("it is this machine itself".to_owned()), "{itself}");
    }
    assert_eq!(chosen(&[], &[]), Err("it has no address".to_owned()));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
        let now = Duration::from_secs(1_800_000_000);
        let _ = offset(&packet, NONCE, now, now);
    }
}
