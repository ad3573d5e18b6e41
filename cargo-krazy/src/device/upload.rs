//! Bodies of requests that are read from files while they are sent.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use reqwest::Body;

/// The number of bytes read at a time: several TLS records, and few enough for smooth progress.
const CHUNK_LEN: u64 = 128 << 10;

/// A part of a file.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The file; several pieces and several uploads may read it at once.
    pub(crate) file: Arc<File>,
    /// The first byte.
    pub(crate) start: u64,
    /// The number of bytes.
    pub(crate) len: u64,
}

/// Returns a body of the pieces one after the other. Adds to `sent` what the connection takes.
pub(crate) fn body(pieces: Vec<Piece>, sent: Arc<AtomicU64>) -> Body {
    let state = (VecDeque::from(pieces), sent);
    Body::wrap_stream(stream::try_unfold(state, |(mut pieces, sent)| async move {
        while pieces.front().is_some_and(|piece| piece.len == 0) {
            pieces.pop_front();
        }
        let Some(piece) = pieces.front_mut() else { return Ok::<_, std::io::Error>(None) };
        let mut chunk = vec![0; piece.len.min(CHUNK_LEN) as usize];
        // Files on this machine are read within microseconds; a thread of their own would cost more.
        piece.file.read_exact_at(&mut chunk, piece.start)?;
        piece.start += chunk.len() as u64;
        piece.len -= chunk.len() as u64;
        sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Ok(Some((chunk, (pieces, sent))))
    }))
}

/// Returns the pieces without their first `offset` bytes.
pub(crate) fn skip(pieces: &[Piece], mut offset: u64) -> Vec<Piece> {
    let rest = pieces.iter().map(|piece| {
        let skipped = offset.min(piece.len);
        offset -= skipped;
        Piece { start: piece.start + skipped, len: piece.len - skipped, ..piece.clone() }
    });
    rest.filter(|piece| piece.len > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::device::testing::{Device, answer};

    #[test]
    fn pieces_are_sent_in_order_from_any_offset() {
        let device = Device::start(Box::new(|_, body| answer("200 OK", std::str::from_utf8(body).unwrap())));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = Arc::new(file);
        let piece = |start, len| Piece { file: Arc::clone(&file), start, len };
        let pieces = [piece(5, 5), piece(0, 0), piece(0, 3)];
        for (offset, expected) in [(0, "56789012"), (4, "9012"), (5, "012"), (7, "2"), (8, "")] {
            let moved = Arc::new(AtomicU64::new(0));
            let rest = skip(&pieces, offset);
            let body = body(rest, Arc::clone(&moved));
            let timeout = std::time::Duration::from_secs(20);
            let sent =
                device.client().send(reqwest::Method::PUT, "/x", body, 8 - offset, timeout, || 0).unwrap();
            assert_eq!(String::from_utf8(sent).unwrap(), expected);
            assert_eq!(moved.load(Ordering::Relaxed), 8 - offset);
        }
    }
}
