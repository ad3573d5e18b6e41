//! The time from the network. Source: RFC 4330 (SNTP), RFC 5905 for the packet.
//!
//! One server alone cannot move the clock against others: the replies are grouped, and only the largest group that
//! agrees counts. Servers differ by their addresses: one that is listed twice is asked once. This machine's own addresses
//! are no servers, because any service could answer there.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::own_addresses::{is_no_other_machine, own_addresses};
use crate::linux::kernel_clock;

/// Servers used when neither the settings nor DHCP name any, and when none that DHCP names replies.
const DEFAULT_SERVERS: [&str; 4] = ["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "3.pool.ntp.org"];

const PORT: u16 = 123;

/// Servers queried in one round.
const MAX_SERVERS: usize = 4;

const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Offsets that differ by at most this many nanoseconds agree.
const AGREEMENT_NS: i128 = 1_000_000_000;

/// The interval after a successful round.
const POLL_INTERVAL: Duration = Duration::from_secs(1800);

/// The first interval after a failed round; it doubles up to [`MAX_DOUBLINGS`] times.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
const MAX_DOUBLINGS: u32 = 7;

/// From 1900-01-01 to 1970-01-01. Source: RFC 5905, figure 4.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// The start of the year in which this version was released, 2026: no clock is before it, or at [`LATEST_TIME`] and later.
pub(crate) const EARLIEST_TIME: Duration = Duration::from_secs(1_767_225_600);

/// 2100-01-01.
pub(crate) const LATEST_TIME: Duration = Duration::from_secs(4_102_444_800);

/// The servers to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    /// Names or addresses; empty for the default ones.
    pub(crate) names: Vec<String>,
    /// Set if no others may be asked: they are those of the settings.
    pub(crate) are_settings: bool,
}

/// The result of one round of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Consensus {
    /// Nanoseconds to add to the wall clock.
    pub(crate) offset: i128,
    /// The number of servers that agree on it.
    pub(crate) agreeing: usize,
    /// The number of servers that replied.
    pub(crate) answered: usize,
}

impl Consensus {
    /// Returns true if several servers agree, and more than half of those that replied.
    pub(crate) fn is_majority(&self) -> bool {
        self.agreeing >= 2 && 2 * self.agreeing > self.answered
    }
}

/// The reason why a round gave no time.
#[derive(Debug)]
pub(crate) enum SntpError {
    /// Every server replied, and no group is larger than the others.
    Disagreement,
    /// These servers did not reply.
    Servers(Vec<(String, io::Error)>),
}

impl fmt::Display for SntpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SntpError::Disagreement => f.write_str("the time servers contradict each other"),
            SntpError::Servers(failures) => {
                for (number, (server, error)) in failures.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "; " };
                    write!(f, "{separator}{server}: {error}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for SntpError {}

/// Starts the thread that queries the servers; it is a thread because name resolution blocks. Each list sent through
/// `servers` starts a round, and `report` receives the result of every round.
pub(crate) fn start(
    servers: Receiver<Servers>,
    report: impl Fn(Result<Consensus, SntpError>) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let Ok(mut asked) = servers.recv() else { return };
        let mut failures = 0u32;
        loop {
            let outcome = round(&asked, query_all);
            let interval = match &outcome {
                Ok(_) => POLL_INTERVAL,
                Err(_) => RETRY_INTERVAL * (1 << failures.min(MAX_DOUBLINGS)),
            };
            failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
            report(outcome);
            // A new list, as from a DHCP lease, ends the wait: it may be the first one that can be reached.
            match servers.recv_timeout(interval) {
                Ok(new) => asked = new,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    thread::Builder::new().name("clock".to_owned()).stack_size(128 << 10).spawn(run)?;
    Ok(())
}

/// Asks the servers, or the default ones if there are none or none replies.
fn round(
    servers: &Servers,
    query_all: impl Fn(&[String]) -> Result<Consensus, SntpError>,
) -> Result<Consensus, SntpError> {
    let defaults = DEFAULT_SERVERS.map(str::to_owned);
    match query_all(&servers.names) {
        // A network may name servers that are gone, or that reply to others only.
        Err(SntpError::Servers(mut failures)) if !servers.are_settings => {
            query_all(&defaults).map_err(|error| match error {
                SntpError::Servers(more) => {
                    failures.extend(more);
                    SntpError::Servers(failures)
                }
                disagreement => disagreement,
            })
        }
        outcome => outcome,
    }
}

fn query_all(names: &[String]) -> Result<Consensus, SntpError> {
    let mut asked = Vec::new();
    let mut offsets = Vec::new();
    let mut failures = Vec::new();
    for name in names.iter().take(MAX_SERVERS) {
        let server = match resolve(name).and_then(|addresses| choose(&addresses, &own_addresses()?, &asked)) {
            Ok(Some(server)) => server,
            // Another name of a server that was asked already.
            Ok(None) => continue,
            Err(error) => {
                failures.push((name.clone(), error));
                continue;
            }
        };
        asked.push(server.ip().to_canonical());
        match query(server) {
            Ok(offset) => offsets.push(offset),
            Err(error) => failures.push((name.clone(), error)),
        }
    }
    match agree(&offsets) {
        Some(consensus) => Ok(consensus),
        None if !offsets.is_empty() => Err(SntpError::Disagreement),
        None => Err(SntpError::Servers(failures)),
    }
}

fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, PORT).to_socket_addrs()?.collect())
}

/// Returns the first of a name's addresses that is not among those `asked`; `None` if all are. It is an error if every
/// address is this machine's.
fn choose(addresses: &[SocketAddr], own: &[IpAddr], asked: &[IpAddr]) -> io::Result<Option<SocketAddr>> {
    if addresses.is_empty() {
        return Err(io::Error::other("it has no address"));
    }
    let ip = |server: &SocketAddr| server.ip().to_canonical();
    let is_other = |server: &&SocketAddr| !is_no_other_machine(ip(server)) && !own.contains(&ip(server));
    let mut others = addresses.iter().filter(is_other).peekable();
    if others.peek().is_none() {
        return Err(io::Error::other("it is this machine itself"));
    }
    Ok(others.find(|server| !asked.contains(&ip(server))).copied())
}

/// Returns the offset that one server reports.
fn query(server: SocketAddr) -> io::Result<i128> {
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    // A connected socket receives from its peer only.
    socket.connect(server)?;
    let mut nonce = [0u8; 8];
    rustix::rand::getrandom(&mut nonce[..], rustix::rand::GetRandomFlags::INSECURE)?;
    let sent = kernel_clock::wall();
    let started = kernel_clock::since_boot();
    socket.send(&request(nonce))?;
    let mut buffer = [0u8; 512];
    loop {
        let length = socket.recv(&mut buffer)?;
        // The wall clock may be set while the query runs, so the interval is measured by the other clock.
        let received = sent + (kernel_clock::since_boot() - started);
        if let Some(offset) = offset(&buffer[..length], nonce, sent, received) {
            return Ok(offset);
        }
        if kernel_clock::since_boot() - started > REPLY_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// The packet. Source: RFC 5905, figure 8.
const PACKET_LEN: usize = 48;
const STRATUM: usize = 1;
const ORIGIN_TIMESTAMP: usize = 24;
const RECEIVE_TIMESTAMP: usize = 32;
const TRANSMIT_TIMESTAMP: usize = 40;

/// Fields of the first byte: leap indicator (2 bits), version (3 bits), mode (3 bits).
const LEAP_UNSYNCHRONIZED: u8 = 3;
const VERSION: u8 = 4;
const MODE_CLIENT: u8 = 3;
const MODE_SERVER: u8 = 4;

/// Returns a client's packet. Its transmit timestamp is a random number, which the server must return as the origin
/// timestamp: a forged reply would have to guess it, and our clock is not disclosed.
fn request(nonce: [u8; 8]) -> [u8; PACKET_LEN] {
    let mut packet = [0u8; PACKET_LEN];
    packet[0] = VERSION << 3 | MODE_CLIENT;
    packet[TRANSMIT_TIMESTAMP..].copy_from_slice(&nonce);
    packet
}

/// Returns our clock's offset in nanoseconds by a server's packet; `None` if that is no reply to this request, or the
/// server is not synchronized. Source: RFC 5905, section 8.
pub(crate) fn offset(packet: &[u8], nonce: [u8; 8], sent: Duration, received: Duration) -> Option<i128> {
    let (leap, version, mode) = (packet.first()? >> 6, packet[0] >> 3 & 7, packet[0] & 7);
    // Stratum 0 is a "kiss-o'-death" packet, 16 means unsynchronized.
    let is_synchronized = leap != LEAP_UNSYNCHRONIZED && (1..=15).contains(packet.get(STRATUM)?);
    if !is_synchronized || !(3..=VERSION).contains(&version) || mode != MODE_SERVER {
        return None;
    }
    // Not this request's reply: a late or forged one.
    if packet.get(ORIGIN_TIMESTAMP..RECEIVE_TIMESTAMP)? != nonce {
        return None;
    }
    let arrived = timestamp(packet.get(RECEIVE_TIMESTAMP..TRANSMIT_TIMESTAMP)?)?;
    let replied = timestamp(packet.get(TRANSMIT_TIMESTAMP..PACKET_LEN)?)?;
    if replied < arrived {
        return None;
    }
    let ns = |time: Duration| time.as_nanos() as i128;
    Some(((ns(arrived) - ns(sent)) + (ns(replied) - ns(received))) / 2)
}

/// Decodes a timestamp to the time since 1970. Its 32 bits of seconds wrap in 2036; the era is the first one in which
/// it is not before [`EARLIEST_TIME`].
fn timestamp(bytes: &[u8]) -> Option<Duration> {
    let seconds = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let fraction = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let earliest = EARLIEST_TIME.as_secs() + NTP_TO_UNIX;
    let era = earliest & !0xffff_ffff;
    let mut full = era | u64::from(seconds);
    if full < earliest {
        full += 1 << 32;
    }
    let nanos = (u64::from(fraction) * 1_000_000_000) >> 32;
    let time = Duration::new(full - NTP_TO_UNIX, nanos as u32);
    (time < LATEST_TIME).then_some(time)
}

/// Returns the median of the largest group of offsets that agree; `None` if another group is as large.
fn agree(offsets: &[i128]) -> Option<Consensus> {
    let group = |center: &i128| -> Vec<i128> {
        offsets.iter().copied().filter(|other| (other - center).abs() <= AGREEMENT_NS).collect()
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
    Some(Consensus { offset: best[best.len() / 2], agreeing: best.len(), answered: offsets.len() })
}

#[cfg(test)]
mod tests;
