//! `/dev/log`: messages to the system's log. Source: syslog(3), and RFC 3164, sections 4.1.1 and 4.1.2, as C libraries
//! send it to a local socket: `<PRI>Nov 29 15:52:20 TAG[PID]: MESSAGE`, without a host name.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::UCred;

use super::datagrams::Datagrams;
use crate::control::LogStream;

/// The path that C libraries know, a link to the socket: each service has a `/dev` of its own.
pub(crate) const PATH: &str = "/dev/log";

/// The path of the socket.
pub(crate) const SOCKET: &str = "/run/log.sock";

/// The longest message read in bytes; a longer one is truncated.
const MAX_MESSAGE: usize = 8 << 10;

/// The length of a timestamp, with the space that follows it.
const TIMESTAMP: usize = 16;

/// The severity of a message without one: notice. Source: RFC 3164, section 4.3.3.
const DEFAULT_SEVERITY: u32 = 5;

/// The least severe message that belongs to standard error: a warning.
const WARNING: u32 = 4;

/// The socket that programs send to.
#[derive(Debug)]
pub(crate) struct SystemLog(Datagrams);

impl SystemLog {
    /// Opens the socket.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Datagrams::open(path).map(SystemLog)
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        self.0.descriptor()
    }

    /// Reads what has come, at most a batch, and hands on each message with its sender and the stream it belongs to.
    pub(crate) fn read(&self, mut each: impl FnMut(UCred, LogStream, &[u8])) {
        self.0.read(&mut [0; MAX_MESSAGE], |sender, message| {
            let (stream, text) = parse(message);
            each(sender, stream, text);
        });
    }
}

/// Returns a message without priority and timestamp, and the stream it belongs to. A message of another form is kept as
/// it is.
pub(crate) fn parse(message: &[u8]) -> (LogStream, &[u8]) {
    let (severity, rest) = priority(message).unwrap_or((DEFAULT_SEVERITY, message));
    let text = match rest.split_at_checked(TIMESTAMP) {
        Some((timestamp, text)) if is_timestamp(timestamp) => text,
        _ => rest,
    };
    // Some programs send the terminator of their text, or a line end.
    let end = text.iter().rposition(|byte| !matches!(byte, 0 | b'\n' | b'\r')).map_or(0, |last| last + 1);
    (if severity <= WARNING { LogStream::Err } else { LogStream::Out }, &text[..end])
}

/// Returns the severity in `<PRI>`, at most 999, and what follows.
fn priority(message: &[u8]) -> Option<(u32, &[u8])> {
    let rest = message.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let number: u32 = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number & 7, &rest[end + 1..]))
}

/// Returns true for `Mmm dd hh:mm:ss `.
fn is_timestamp(text: &[u8]) -> bool {
    text.iter().zip(b"Aaa _0 00:00:00 ").all(|(byte, kind)| match kind {
        b'A' => byte.is_ascii_uppercase(),
        b'a' => byte.is_ascii_lowercase(),
        b'0' => byte.is_ascii_digit(),
        b'_' => *byte == b' ' || byte.is_ascii_digit(),
        literal => byte == literal,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn messages_of_c_libraries_are_told_from_others() {
        for (message, stream, text) in [
            ("<30>Nov 29 15:52:20 web[7]: up\n", LogStream::Out, "web[7]: up"),
            ("<11>Nov  9 05:02:00 web: lost\0", LogStream::Err, "web: lost"),
            ("<28>Nov 29 15:52:20 web[7]: slow", LogStream::Err, "web[7]: slow"),
            ("<0>panic", LogStream::Err, "panic"),
            // RFC 5424 has another header.
            ("<29>1 2026-11-29T15:52:20Z - web", LogStream::Out, "1 2026-11-29T15:52:20Z - web"),
            ("up", LogStream::Out, "up"),
            ("<>up", LogStream::Out, "<>up"),
            ("<1234>up", LogStream::Out, "<1234>up"),
            ("<-1>up", LogStream::Out, "<-1>up"),
            ("<30>Nov 29 15:52:20", LogStream::Out, "Nov 29 15:52:20"),
            ("<11>one\ntwo", LogStream::Err, "one\ntwo"),
            ("\n", LogStream::Out, ""),
            ("", LogStream::Out, ""),
        ] {
            assert_eq!(parse(message.as_bytes()), (stream, text.as_bytes()), "{message}");
        }
    }

    #[test]
    fn message_of_syslog_3_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = SystemLog::open(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        sender.send(b"<30>Nov 29 15:52:20 web[7]: up").unwrap();
        let mut long = b"<11>".to_vec();
        long.resize(3 * MAX_MESSAGE, b'x');
        sender.send(&long).unwrap();
        let mut messages = Vec::new();
        log.read(|sender, stream, text| {
            assert_eq!(sender.pid, rustix::process::getpid());
            messages.push((stream, text.len()));
        });
        assert_eq!(messages, [(LogStream::Out, 10), (LogStream::Err, MAX_MESSAGE - 4)]);
    }
}
