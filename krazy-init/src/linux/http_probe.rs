//! One request for a page on this device, without waiting: the loop asks again for what has come. Of the answer only the
//! status is read. Source: RFC 9112.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The length of `HTTP/1.1 200`, the part of an answer that tells its status.
const STATUS_END: usize = 12;

/// A request.
#[derive(Debug)]
pub(crate) struct HttpProbe {
    socket: OwnedFd,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    end: Duration,
}

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is not answered yet.
    Pending,
    /// The status is one of success, or leads elsewhere: 200 to 399.
    Good,
    /// Any other answer, or none.
    Bad,
}

impl HttpProbe {
    /// Sends a request for `path` to `port` of the loopback interface.
    pub(crate) fn start(port: u16, path: &str, v6: bool, now: Duration) -> io::Result<Self> {
        let (family, address) = if v6 {
            (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
        } else {
            (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: krazy-init\r\nConnection: close\r\n\r\n"
        );
        let end = now + TIMEOUT;
        Ok(HttpProbe { socket, request: request.into_bytes(), sent: 0, answer: Vec::new(), end })
    }

    /// Sends and receives as much as is possible now.
    pub(crate) fn poll(&mut self, now: Duration) -> Answer {
        let pending = |error| {
            let waits = [Errno::AGAIN, Errno::NOTCONN, Errno::INTR].contains(&error);
            if waits && now < self.end { Answer::Pending } else { Answer::Bad }
        };
        while self.sent < self.request.len() {
            match rustix::net::send(&self.socket, &self.request[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(error) => return pending(error),
            }
        }
        while self.answer.len() < STATUS_END {
            let mut bytes = [0; STATUS_END];
            let room = STATUS_END - self.answer.len();
            match rustix::net::recv(&self.socket, &mut bytes[..room], RecvFlags::empty()) {
                Ok((0, _)) => return Answer::Bad,
                Ok((count, _)) => self.answer.extend_from_slice(&bytes[..count]),
                Err(error) => return pending(error),
            }
        }
        if is_good(&self.answer) { Answer::Good } else { Answer::Bad }
    }
}

/// Returns true if this is the begin of an answer with a status from 200 to 399.
fn is_good(start: &[u8]) -> bool {
    let digits = |status: &[u8]| status.iter().all(u8::is_ascii_digit);
    start.starts_with(b"HTTP/1.")
        && start.get(8) == Some(&b' ')
        && start.get(9..STATUS_END).is_some_and(|status| digits(status) && matches!(status[0], b'2' | b'3'))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Returns the outcome of a request to a server that answers with these parts.
    fn asked(parts: &'static [&'static [u8]]) -> (Answer, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 1024];
            let count = stream.read(&mut request).unwrap();
            for part in parts {
                stream.write_all(part).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let mut probe = HttpProbe::start(port, "/health", false, Duration::ZERO).unwrap();
        let answer = loop {
            match probe.poll(Duration::ZERO) {
                Answer::Pending => std::thread::sleep(Duration::from_millis(1)),
                answer => break answer,
            }
        };
        (answer, server.join().unwrap())
    }

    #[test]
    fn page_is_good_by_the_status_of_its_answer() {
        let (answer, request) = asked(&[b"HTTP/1.1 20", b"0 OK\r\n"]);
        assert_eq!(answer, Answer::Good);
        assert!(request.starts_with("GET /health HTTP/1.1\r\nHost: localhost:"), "{request}");
        assert_eq!(asked(&[b"HTTP/1.0 302 Found\r\n"]).0, Answer::Good);
        assert_eq!(asked(&[b"HTTP/1.1 503 Busy\r\n"]).0, Answer::Bad);
        assert_eq!(asked(&[b"HTTP/1.1 2"]).0, Answer::Bad);
        assert_eq!(asked(&[b"SSH-2.0-OpenSSH 200"]).0, Answer::Bad);
        assert_eq!(asked(&[]).0, Answer::Bad);
    }

    #[test]
    fn server_that_is_missing_or_silent_is_bad_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut silent = HttpProbe::start(port, "/", false, Duration::ZERO).unwrap();
        assert_eq!(silent.poll(TIMEOUT - Duration::from_millis(1)), Answer::Pending);
        assert_eq!(silent.poll(TIMEOUT), Answer::Bad);
        drop(listener);
        let missing = HttpProbe::start(port, "/", false, Duration::ZERO);
        assert!(missing.is_err() || missing.unwrap().poll(Duration::ZERO) == Answer::Bad);
    }
}
