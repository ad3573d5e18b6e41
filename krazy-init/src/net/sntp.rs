//! The time from the network. Source: RFC 4330 (SNTP), RFC 5905 for the packet.
//!
//! No server is believed alone when it claims something surprising: the answers are grouped, and the largest group
//! that agrees counts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::linux::kernel_clock;

/// Asked when neither `/data` nor DHCP names any.
const SERVERS: [&str; 4] = ["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "3.pool.ntp.org"];

/// Servers asked in one round, and addresses tried of each.
const MAX_SERVERS: usize = 4;

/// How long a server may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Answers this close to each other agree.
const AGREEMENT: i128 = 1_000_000_000;

/// Between two successful rounds.
const INTERVAL: Duration = Duration::from_secs(1800);

/// From 1900-01-01 to 1970-01-01. Source: RFC 5905, figure 4.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// No clock is before this (2026-01-01) or from [`CEILING`] (2100-01-01) on.
pub const FLOOR: Duration = Duration::from_secs(1_767_225_600);

/// See [`FLOOR`].
pub const CEILING: Duration = Duration::from_secs(4_102_444_800);

/// What a round of questions gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What must be added to the wall clock, in nanoseconds.
    pub offset: i128,
    /// How many servers agree on it.
    pub agreeing: usize,
}

/// Asks in a thread of its own, because looking up names blocks. Each list sent to `servers` starts a round, and
/// `report` is given the outcome of each.
pub fn start(
    servers: Receiver<Vec<String>>,
    report: impl Fn(Result<Answer, String>) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let Ok(mut names) = servers.recv() else { return };
        let mut failures = 0u32;
        loop {
            let outcome = round(&names);
            let pause = match &outcome {
                Ok(_) => INTERVAL,
                Err(_) => Duration::from_secs(2 << failures.min(7)),
            };
            failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
            report(outcome);
            match servers.recv_timeout(pause) {
                Ok(new) => names = new,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    thread::Builder::new().name("clock".to_owned()).stack_size(128 << 10).spawn(run)?;
    Ok(())
}

/// The default servers.
pub fn default_servers() -> Vec<String> {
    SERVERS.iter().map(|name| (*name).to_owned()).collect()
}

fn round(names: &[String]) -> Result<Answer, String> {
    let mut offsets = Vec::new();
    let mut problems = Vec::new();
    for name in names.iter().take(MAX_SERVERS) {
        match resolve(name).and_then(ask) {
            Ok(offset) => offsets.push(offset),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    agree(&offsets).ok_or_else(|| match &problems[..] {
        [] => "the time servers contradict each other".to_owned(),
        _ => problems.join("; "),
    })
}

fn resolve(name: &str) -> io::Result<SocketAddr> {
    (name, 123).to_socket_addrs()?.next().ok_or_else(|| io::Error::other("it has no address"))
}

fn ask(server: SocketAddr) -> io::Result<i128> {
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    // Only answers from the server asked are received.
    socket.connect(server)?;
    let mut nonce = [0u8; 8];
    rustix::rand::getrandom(&mut nonce[..], rustix::rand::GetRandomFlags::INSECURE)?;
    let sent = kernel_clock::wall();
    let started = kernel_clock::since_boot();
    socket.send(&request(nonce))?;
    let mut buffer = [0u8; 512];
    loop {
        let length = socket.recv(&mut buffer)?;
        // The wall clock may be set meanwhile; the time in between is measured by the other one.
        let received = sent + (kernel_clock::since_boot() - started);
        if let Some(offset) = offset(&buffer[..length], nonce, sent, received) {
            return Ok(offset);
        }
        if kernel_clock::since_boot() - started > TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// A client's packet. The transmit time is a random number: it comes back, and tells nobody our clock.
fn request(nonce: [u8; 8]) -> [u8; 48] {
    let mut packet = [0u8; 48];
    packet[0] = 4 << 3 | 3;
    packet[40..].copy_from_slice(&nonce);
    packet
}

/// What a server's packet says about our clock in nanoseconds; `None` if it is no answer to this question, or the
/// server does not know the time itself.
fn offset(packet: &[u8], nonce: [u8; 8], sent: Duration, received: Duration) -> Option<i128> {
    let (leap, version, mode) = (packet.first()? >> 6, packet[0] >> 3 & 7, packet[0] & 7);
    let stratum = *packet.get(1)?;
    let knows = leap != 3 && (3..=4).contains(&version) && mode == 4 && (1..=15).contains(&stratum);
    if !knows || packet.get(24..32)? != nonce {
        return None;
    }
    let arrived = timestamp(packet.get(32..40)?)?;
    let answered = timestamp(packet.get(40..48)?)?;
    if answered < arrived {
        return None;
    }
    let ns = |time: Duration| time.as_nanos() as i128;
    Some(((ns(arrived) - ns(sent)) + (ns(answered) - ns(received))) / 2)
}

/// Since 1970. The 32 bits of seconds wrap in 2036; the era is the one that is not before [`FLOOR`].
fn timestamp(bytes: &[u8]) -> Option<Duration> {
    let seconds = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let fraction = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let floor = FLOOR.as_secs() + NTP_TO_UNIX;
    let era = floor & !0xffff_ffff;
    let mut full = era | u64::from(seconds);
    if full < floor {
        full += 1 << 32;
    }
    let nanos = (u64::from(fraction) * 1_000_000_000) >> 32;
    let time = Duration::new(full - NTP_TO_UNIX, nanos as u32);
    (time < CEILING).then_some(time)
}

/// The middle of the largest group of offsets that agree; none if two groups are equally large.
fn agree(offsets: &[i128]) -> Option<Answer> {
    let group = |center: &i128| -> Vec<i128> {
        offsets.iter().copied().filter(|other| (other - center).abs() <= AGREEMENT).collect()
    };
    let mut best = offsets.iter().map(group).max_by_key(Vec::len)?;
    let contradicted = offsets
        .iter()
        .map(group)
        .any(|other| other.len() == best.len() && other.iter().all(|offset| !best.contains(offset)));
    if contradicted {
        return None;
    }
    best.sort_unstable();
    Some(Answer { offset: best[best.len() / 2], agreeing: best.len() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: [u8; 8] = *b"01234567";

    fn answer(seconds: u64) -> [u8; 48] {
        let mut packet = [0u8; 48];
        packet[0] = 4 << 3 | 4;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&NONCE);
        let wire = ((seconds + NTP_TO_UNIX) as u32).to_be_bytes();
        packet[32..36].copy_from_slice(&wire);
        packet[40..44].copy_from_slice(&wire);
        packet
    }

    #[test]
    fn an_answer_tells_the_offset() {
        let now = Duration::from_secs(1_800_000_000);
        let later = now + Duration::from_millis(200);
        assert_eq!(offset(&answer(1_800_000_010), NONCE, now, later), Some(9_900_000_000));
        // After the wrap of 2036.
        let then = Duration::from_secs(2_200_000_000);
        assert_eq!(offset(&answer(2_200_000_000), NONCE, then, then), Some(0));
        assert_eq!(offset(&answer(1_800_000_010), *b"another!", now, later), None);
        let mut unsynchronised = answer(1_800_000_010);
        unsynchronised[0] |= 0xc0;
        assert_eq!(offset(&unsynchronised, NONCE, now, later), None);
        let mut kiss = answer(1_800_000_010);
        kiss[1] = 0;
        assert_eq!(offset(&kiss, NONCE, now, later), None);
    }

    #[test]
    fn the_majority_counts() {
        let second = 1_000_000_000;
        let answer = |offset, agreeing| Some(Answer { offset, agreeing });
        assert_eq!(agree(&[]), None);
        assert_eq!(agree(&[5]), answer(5, 1));
        assert_eq!(agree(&[5, 7, 300_000_000 * second]), answer(7, 2));
        assert_eq!(agree(&[0, 500 * second]), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            let now = Duration::from_secs(1_800_000_000);
            let _ = offset(&packet, NONCE, now, now);
        }
    }
}
