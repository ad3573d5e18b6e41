//! A back without a front, for the fuzz target `frames`: its input is what a front that was taken over sends on the
//! connection of a request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::request;
use crate::api::Admin;
use crate::config::Limits;
use crate::fuzzing::server;
use crate::server::StartError;

/// Requests that are still unanswered then, such as incomplete ones, are cancelled.
const TIMEOUT: Duration = Duration::from_millis(20);

/// A back on a device's root directory.
pub struct Frames {
    runtime: Runtime,
    admin: Arc<Admin>,
}

impl Frames {
    /// Starts a back on the device at `root`.
    pub fn new(root: PathBuf) -> Result<Self, StartError> {
        let (runtime, server) = server(root)?;
        Ok(Frames { runtime, admin: server.back.admin })
    }

    /// Answers the bytes of one request.
    pub fn serve(&mut self, input: &[u8]) {
        self.answer(input, TIMEOUT);
    }

    /// Returns the bytes of the answer, as many as come before `limit`.
    pub(crate) fn answer(&mut self, input: &[u8], limit: Duration) -> Vec<u8> {
        let admin = Arc::clone(&self.admin);
        self.runtime.block_on(async {
            // Two ends without descriptors left have no failure to report but that.
            let Ok((mut front, back)) = UnixStream::pair() else { return Vec::new() };
            let served = request::serve(admin, back, Limits::default().idle);
            let mut answer = Vec::new();
            let conversation = async {
                // The back may hang up first.
                if front.write_all(input).await.is_ok() {
                    let _ended = front.read_to_end(&mut answer).await;
                }
            };
            let _in_time = timeout(limit, futures_util::future::join(served, conversation)).await;
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Instant;

    use krazy_boot::digest::sha256;

    use super::*;
    use crate::fuzzing::device::create;
    use crate::transport::RequestHead;

    const LONG: Duration = Duration::from_secs(20);

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind], &(payload.len() as u32).to_be_bytes()[..], payload].concat()
    }

    fn head(method: &str, path: &str) -> Vec<u8> {
        let credential = format!("Bearer krz_{}", "07".repeat(32));
        let head = RequestHead {
            method: method.to_owned(),
            path: path.to_owned(),
            query: String::new(),
            host: None,
            headers: vec![("authorization".to_owned(), credential)],
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            certificate: sha256(&[]),
        };
        frame(1, &serde_json::to_vec(&head).unwrap())
    }

    #[test]
    fn malformed_frames_end_their_request_only() {
        let root = tempfile::tempdir().unwrap();
        create(root.path());
        let mut frames = Frames::new(root.path().to_owned()).unwrap();
        let valid = head("GET", "/api/v1/certificate");
        let garbage: [&[u8]; 9] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[0xff; 64],
            &frame(1, b"{}"),
            &frame(1, b"[[[[[[[[["),
            // The body before the head, a head too long, and a frame of the other side.
            &frame(2, b"x"),
            b"\x01\x7f\xff\xff\xff",
            &frame(7, b"{}"),
            &head("GE\nT", "/"),
            &[&valid[..valid.len() - 1], b"\xff"].concat(),
        ];
        for bytes in garbage {
            let start = Instant::now();
            let answer = frames.answer(bytes, LONG);
            assert!(answer.is_empty() && start.elapsed() < LONG, "{}", bytes.escape_ascii());
            let answer = frames.answer(&valid, LONG);
            // The credential is valid, and a response follows.
            assert_eq!(answer[..6], [5, 0, 0, 0, 0, 7], "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn body_is_asked_for_and_read_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        create(root.path());
        let mut frames = Frames::new(root.path().to_owned()).unwrap();
        let put = head("PUT", "/api/v1/files/data/x");
        let whole = [put.clone(), frame(2, b"ab"), frame(2, b"c"), frame(3, b"")].concat();
        let answer = frames.answer(&whole, LONG);
        assert_eq!(answer[..11], [5, 0, 0, 0, 0, 6, 0, 0, 0, 0, 7], "{}", answer.escape_ascii());
        assert_eq!(std::fs::read(root.path().join("data/x")).unwrap(), b"abc");
        // Incomplete, said so, and out of turn.
        for rest in [frame(4, b"gone"), frame(1, b""), b"\x02\xff".to_vec()] {
            frames.answer(&[put.clone(), frame(2, b"new"), rest].concat(), Duration::from_millis(500));
            assert_eq!(std::fs::read(root.path().join("data/x")).unwrap(), b"abc");
        }
    }
}
