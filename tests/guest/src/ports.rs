//! Services that bind ports: some that they may, some that they may not. One of them is a DHCP server on its own machine.

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::judge::{Verdict, case, ensure};
use crate::rights::told;
use crate::{await_word, rest};

/// The last port that is refused to [`intruder`]: another service has it in `ports`.
pub const REFUSED_LAST: u16 = 7000;

/// The port of krazy-admind.
const ADMIND_PORT: u16 = 8443;

/// A service without `ports`, or a stand-in for krazy-admind beside it.
pub fn intruder() {
    match std::env::args().nth(1).as_deref() {
        Some("--beside-admind") => {
            case("the port of krazy-admind is refused to others", || every_socket(ADMIND_PORT, is_refused));
            rest();
        }
        Some("--as-admind") => {
            case("krazy-admind has its port", || every_socket(ADMIND_PORT, is_bound));
            rest();
        }
        _ => {}
    }
    // Other services try at the same time: none binds a port that another one does.
    await_word("rights");
    case("intruder: ports below 1024 are for everyone, and those above", || {
        [81, 443, 1023, 1024, 8080, 8443, 0].into_iter().try_for_each(|port| every_socket(port, is_bound))
    });
    case("intruder: the ports of servers that the machine asks are refused", || {
        [67, 68, 123].into_iter().try_for_each(|port| every_socket(port, is_refused))
    });
    case("intruder: the port of another service is refused", || every_socket(REFUSED_LAST, is_refused));
    println!("{}", crate::rights::END);
    rest();
}

/// A service with the ports 53 and 67.
pub fn owner() {
    await_word("rights");
    case("owner: its ports, and high ones", || {
        [53, 67, 1025, 8081, 0].into_iter().try_for_each(|port| every_socket(port, is_bound))
    });
    case("owner: no other port below 1024, and no reserved one", || {
        [1, 68, 80, 123, 1023, 7000].into_iter().try_for_each(|port| every_socket(port, is_refused))
    });
    println!("{}", crate::rights::END);
    rest();
}

/// Binds a port by UDP and TCP, by IPv4 and IPv6, and checks each outcome.
pub fn every_socket(port: u16, check: fn(io::Result<()>) -> Verdict) -> Verdict {
    for address in [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), (Ipv6Addr::UNSPECIFIED, port).into()] {
        let udp = check(UdpSocket::bind(address).map(drop));
        udp.map_err(|why| format!("UDP {address}: {why}"))?;
        let tcp = check(TcpListener::bind(address).map(drop));
        tcp.map_err(|why| format!("TCP {address}: {why}"))?;
    }
    Ok(())
}

/// Expects EPERM.
pub fn is_refused(outcome: io::Result<()>) -> Verdict {
    match outcome {
        Ok(()) => Err("not refused".to_owned()),
        Err(error) => ensure(error.raw_os_error() == Some(libc::EPERM), &error.to_string()),
    }
}

fn is_bound(outcome: io::Result<()>) -> Verdict {
    told(outcome)
}

/// A service with port 67 that would answer the DHCP requests of its own machine. It hears none: the kernel gives copies of
/// broadcasts to every UDP socket of the interface, but not of those that a packet socket has sent.
pub fn impostor() {
    loop {
        // The interface is not there yet.
        if let Err(error) = answer_dhcp() {
            println!("impostor: {error}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn answer_dhcp() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67))?;
    let name = CString::new("eth0")?;
    // SAFETY: pointer and length are those of the name, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.count_bytes() as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.set_broadcast(true)?;
    println!("impostor listens");
    let mut message = [0; 1500];
    loop {
        let (length, _) = socket.recv_from(&mut message)?;
        // The first option of init's messages is the type.
        let kind = match message.get(..length).and_then(|message| message.get(240..243)) {
            Some([53, 1, 1]) => 2,
            Some([53, 1, 3]) => 5,
            _ => continue,
        };
        socket.send_to(&reply(&message, kind), (Ipv4Addr::BROADCAST, 68))?;
        println!("impostor has answered a request");
    }
}

/// An offer or acknowledgement of 6.6.6.6 by 6.6.6.1, which is router and name server. Source: RFC 2131, RFC 2132.
fn reply(request: &[u8], kind: u8) -> Vec<u8> {
    let mut reply = vec![0; 240];
    reply[..4].copy_from_slice(&[2, 1, 6, 0]);
    reply[4..8].copy_from_slice(&request[4..8]);
    reply[16..20].copy_from_slice(&[6, 6, 6, 6]);
    reply[28..44].copy_from_slice(&request[28..44]);
    reply[236..240].copy_from_slice(&[99, 130, 83, 99]);
    reply.extend([53, 1, kind, 51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0]);
    for option in [3, 6, 42, 54] {
        reply.extend([option, 4, 6, 6, 6, 1]);
    }
    reply.push(255);
    reply
}
