//! One connection to the control socket: lines in, one request at a time.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use crate::control::{ErrorKind, MAX_LINE, Request, Response};

/// A connection and what waits in it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) follows: Option<usize>,
    /// Set while the answer of a request waits for a disk: lines of the service that it follows, which come after the
    /// answer. Further requests stay in the input.
    pub(super) after_answer: Option<Vec<u8>>,
    /// True if the peer has init's own account.
    pub(super) own: bool,
}

impl Connection {
    /// A connection without requests.
    pub(super) fn new(stream: UnixStream, own: bool) -> Self {
        Connection { stream, input: Vec::new(), output: Vec::new(), follows: None, after_answer: None, own }
    }

    /// Returns true if it may be held for long.
    pub(super) fn is_held(&self) -> bool {
        !self.own || self.follows.is_some()
    }

    /// Reads what the client has sent; false if it is gone.
    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0u8; 4096];
        // Parsed before more is read, so that a client cannot grow this buffer beyond one request.
        while self.input.len() <= MAX_LINE {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        // Nothing is parsed while an answer is due: a client that goes on sending is closed.
        self.after_answer.is_none()
    }

    /// Cuts a complete line off the input. A line that is too long is answered once and the rest dropped.
    pub(super) fn next_request(&mut self) -> Option<Result<Request, Response>> {
        if self.after_answer.is_some() {
            return None;
        }
        if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            return Some(
                Request::from_line(&line).map_err(|error| Response::error(error.kind, error.message)),
            );
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        if self.input.len() <= MAX_LINE {
            return None;
        }
        self.input.clear();
        let text = format!("a request of more than {MAX_LINE} bytes");
        Some(Err(Response::error(ErrorKind::Malformed, text)))
    }
}
