//! The other end of a machine's network cable, as raw frames: a router, an address server and a time server that
//! behave as a test requests.
//!
//! QEMU's `-netdev dgram` sends every Ethernet frame as one datagram. Sources: RFC 826 (ARP), RFC 791 (IPv4), RFC 768
//! (UDP), RFC 2131 and 2132 (DHCP), RFC 4330 (SNTP), RFC 4861 and 8106 (router advertisements).

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

/// The address of everything at this end.
pub const SERVER: Ipv4Addr = TIME_SERVERS[0];

/// The addresses of the time servers.
pub const TIME_SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 3)];

/// The address given to the machine.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 50);

/// The name server that the router advertises.
pub const NAME_SERVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x53);

/// The lease time in seconds: the shortest that init accepts without extending it.
pub const LEASE: u32 = 60;

const MAC: [u8; 6] = [0x52, 0x54, 0, 9, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

/// From 1900 to 1970 in seconds.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// The end of the cable.
#[derive(Debug)]
pub struct Lan {
    socket: UdpSocket,
    machine: u16,
    /// The behaviour of the address server.
    pub dhcp: Dhcp,
    /// Offset of the time that each of [`TIME_SERVERS`] serves from the right one, in seconds.
    pub lies: [i64; 3],
    /// The time servers that a lease names.
    pub ntp: Vec<Ipv4Addr>,
}

/// The behaviour of the address server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// Sends invalid replies only.
    Rogue,
    /// Leases [`CLIENT`] for [`LEASE`] seconds.
    Honest,
    /// Sends no reply.
    Silent,
}

/// A request of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Any address.
    Discover,
    /// The address offered, or more time with it.
    Request,
    /// The time.
    Time,
}

impl Lan {
    /// A cable's end, and the `-netdev` of the machine at the other.
    pub fn new() -> Result<(Self, String)> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        // QEMU takes no socket that is open already: a port that was free a moment ago.
        let machine = UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let netdev = format!(
            "dgram,id=net,local.type=inet,local.host=127.0.0.1,local.port={machine},\
             remote.type=inet,remote.host=127.0.0.1,remote.port={}",
            socket.local_addr()?.port()
        );
        Ok((Lan { socket, machine, dhcp: Dhcp::Silent, lies: [0; 3], ntp: vec![SERVER] }, netdev))
    }

    /// Receives one frame if one arrives soon, and replies to it. Returns the request.
    pub fn serve(&self) -> Result<Option<Asked>> {
        let mut frame = [0; 2048];
        let Ok(length) = self.socket.recv(&mut frame) else { return Ok(None) };
        let frame = &frame[..length];
        match frame.get(12..14) {
            Some([8, 6]) => self.arp(frame).map(|()| None),
            Some([8, 0]) => self.udp(frame),
            _ => Ok(None),
        }
    }

    fn arp(&self, frame: &[u8]) -> Result<()> {
        let is_ours = |address: &[u8]| TIME_SERVERS.iter().any(|ours| address == ours.octets());
        if frame.len() >= 42 && frame[20..22] == [0, 1] && is_ours(&frame[38..42]) {
            let mut reply = frame[..42].to_vec();
            reply[..6].copy_from_slice(&frame[6..12]);
            reply[6..12].copy_from_slice(&MAC);
            reply[21] = 2;
            reply[22..28].copy_from_slice(&MAC);
            reply[28..32].copy_from_slice(&frame[38..42]);
            reply[32..42].copy_from_slice(&frame[22..32]);
            self.send(&reply)?;
        }
        Ok(())
    }

    fn udp(&self, frame: &[u8]) -> Result<Option<Asked>> {
        let header = usize::from(frame.get(14).copied().unwrap_or(0) & 15) * 4;
        let Some(datagram) = frame.get(14 + header..).filter(|it| it.len() >= 8 && frame[23] == 17) else {
            return Ok(None);
        };
        let port = u16::from_be_bytes([datagram[2], datagram[3]]);
        let payload = &datagram[8..];
        match port {
            67 => self.dhcp(payload),
            123 if payload.len() >= 48 => {
                let client = u16::from_be_bytes([datagram[0], datagram[1]]);
                let server = Ipv4Addr::new(frame[30], frame[31], frame[32], frame[33]);
                self.send(&packet(
                    [frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]],
                    (server, CLIENT),
                    (123, client),
                    &self.time(server, payload)?,
                ))?;
                Ok(Some(Asked::Time))
            }
            _ => Ok(None),
        }
    }

    fn dhcp(&self, message: &[u8]) -> Result<Option<Asked>> {
        // The first option of init's messages is the type.
        let asked = match message.get(240..243) {
            Some([53, 1, 1]) => Asked::Discover,
            Some([53, 1, 3]) => Asked::Request,
            _ => return Ok(None),
        };
        self.send(&advertisement())?;
        let kind = if asked == Asked::Discover { 2 } else { 5 };
        match self.dhcp {
            Dhcp::Silent => {}
            Dhcp::Honest => self.broadcast(&reply(message, kind, CLIENT, &self.options()))?,
            Dhcp::Rogue => {
                let honest = reply(message, kind, CLIENT, &self.options());
                let mut another = honest.clone();
                another[4] ^= 0xff;
                self.broadcast(&another)?;
                let mut foreign = honest.clone();
                foreign[28] ^= 0xff;
                self.broadcast(&foreign)?;
                for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
                    self.broadcast(&reply(message, kind, address.into(), &self.options()))?;
                }
                self.broadcast(&reply(message, kind, CLIENT, &[51, 200, 0]))?;
                self.broadcast(&reply(message, kind, CLIENT, &[]))?;
                self.broadcast(&honest[..200])?;
                self.broadcast(&[0xff; 700])?;
                self.broadcast(&[])?;
            }
        }
        Ok(Some(asked))
    }

    /// The options beside the address. T1 is after T2, which is invalid and must be ignored.
    fn options(&self) -> Vec<u8> {
        let mut options = vec![51, 4];
        options.extend(LEASE.to_be_bytes());
        for (code, address) in [(1, Ipv4Addr::new(255, 255, 255, 0)), (3, SERVER), (6, SERVER), (54, SERVER)]
        {
            options.extend([code, 4]);
            options.extend(address.octets());
        }
        options.extend([42, 4 * self.ntp.len() as u8]);
        options.extend(self.ntp.iter().flat_map(Ipv4Addr::octets));
        for (code, seconds) in [(58u8, 50u32), (59, 20)] {
            options.extend([code, 4]);
            options.extend(seconds.to_be_bytes());
        }
        options.push(255);
        options
    }

    fn time(&self, server: Ipv4Addr, question: &[u8]) -> Result<[u8; 48]> {
        let number = TIME_SERVERS.iter().position(|address| *address == server);
        let lie = number.map_or(0, |number| self.lies[number]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let seconds = (now.as_secs() + NTP_TO_UNIX).checked_add_signed(lie).unwrap_or_default();
        // Seconds since 1900 modulo 2^32, and a binary fraction.
        let mut stamp = (seconds as u32).to_be_bytes().to_vec();
        stamp.extend((((u64::from(now.subsec_nanos())) << 32) / 1_000_000_000).to_be_bytes()[4..].iter());
        let mut answer = [0; 48];
        answer[0] = 4 << 3 | 4;
        answer[1] = 2;
        answer[24..32].copy_from_slice(&question[40..48]);
        answer[32..40].copy_from_slice(&stamp);
        answer[40..48].copy_from_slice(&stamp);
        Ok(answer)
    }

    fn broadcast(&self, message: &[u8]) -> Result<()> {
        self.send(&packet(BROADCAST, (SERVER, Ipv4Addr::BROADCAST), (67, 68), message))
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send_to(frame, ("127.0.0.1", self.machine))?;
        Ok(())
    }
}

fn reply(question: &[u8], kind: u8, address: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[4..8].copy_from_slice(&question[4..8]);
    message[16..20].copy_from_slice(&address.octets());
    message[20..24].copy_from_slice(&SERVER.octets());
    message[28..44].copy_from_slice(&question[28..44]);
    message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, kind]);
    message.extend(options);
    message
}

/// A router advertisement to all nodes: no prefix, no default route, a name server for ten minutes.
fn advertisement() -> Vec<u8> {
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets();
    let nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
    let mut message = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([25, 3, 0, 0]);
    message.extend(600u32.to_be_bytes());
    message.extend(NAME_SERVER.octets());
    let length = (message.len() as u32).to_be_bytes();
    let pseudo = [&router[..], &nodes, &length, &[0, 0, 0, 58], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let header = [0x60, 0, 0, 0, length[2], length[3], 58, 255];
    let target = [0x33, 0x33, 0, 0, 0, 1];
    [&target[..], &MAC, &[0x86, 0xdd], &header, &router, &nodes, &message].concat()
}

/// The Internet checksum of an even number of bytes. Source: RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A whole frame. A UDP checksum of zero is none.
fn packet(to: [u8; 6], addresses: (Ipv4Addr, Ipv4Addr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend(((28 + payload.len()) as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(addresses.0.octets());
    ip.extend(addresses.1.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&to[..], &MAC, &[8, 0], &ip].concat();
    for field in [ports.0, ports.1, (8 + payload.len()) as u16, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend(payload);
    frame
}
