//! A zstd frame that arrives in pieces (RFC 8878, section 3.1.1), block by block.
//!
//! ruzstd reads from a source that never runs short. Here the lengths of header and blocks are determined first, so that
//! ruzstd is called only with a complete one.

use std::io::{self, Write};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{DeltaError, MAX_WINDOW};

const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Limit of a block, compressed or not.
const MAX_BLOCK: usize = 128 << 10;
const BLOCK_HEADER: usize = 3;
const CHECKSUM: usize = 4;

pub(super) struct Frame {
    decoder: FrameDecoder,
    /// The received bytes of the unit `next`.
    pending: Vec<u8>,
    next: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Header,
    Block { checksum: bool },
    Finished,
}

impl Frame {
    pub(super) fn new() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Frame { decoder, pending: Vec::new(), next: Unit::Header }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.next == Unit::Finished
    }

    /// Takes the next piece and passes the decoded bytes to `decoded`.
    pub(super) fn feed(
        &mut self,
        mut piece: &[u8],
        decoded: &mut dyn FnMut(&[u8]) -> Result<(), DeltaError>,
    ) -> Result<(), DeltaError> {
        loop {
            let needed = self.needed()?;
            let missing = needed.saturating_sub(self.pending.len()).min(piece.len());
            let (taken, rest) = piece.split_at(missing);
            self.pending.extend_from_slice(taken);
            piece = rest;
            if self.pending.len() < needed || self.next == Unit::Finished {
                return if piece.is_empty() { Ok(()) } else { Err(DeltaError::Trailing) };
            }
            // The first bytes of a unit give its length.
            if self.needed()? == needed {
                self.take(decoded)?;
            }
        }
    }

    /// Returns the number of bytes of the unit that are needed to continue.
    fn needed(&self) -> Result<usize, DeltaError> {
        match self.next {
            Unit::Header => header_len(&self.pending),
            Unit::Block { checksum } => block_len(&self.pending, checksum),
            Unit::Finished => Ok(0),
        }
    }

    /// Decodes the unit that is complete in `pending`.
    fn take(&mut self, decoded: &mut dyn FnMut(&[u8]) -> Result<(), DeltaError>) -> Result<(), DeltaError> {
        let damaged = |error: &dyn std::fmt::Display| DeltaError::Frame(error.to_string());
        match self.next {
            Unit::Header => {
                self.decoder.init(&self.pending[..]).map_err(|error| damaged(&error))?;
                self.next = Unit::Block { checksum: self.pending[4] & 4 != 0 };
            }
            Unit::Block { .. } => {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let last =
                    self.decoder.decode_blocks(&self.pending[..], one).map_err(|error| damaged(&error))?;
                if last {
                    self.next = Unit::Finished;
                }
                let mut sink = Sink { decoded, error: None };
                let collected = self.decoder.collect_to_writer(&mut sink);
                if let Some(error) = sink.error {
                    return Err(error);
                }
                collected.map_err(|error| damaged(&error))?;
            }
            Unit::Finished => {}
        }
        self.pending.clear();
        Ok(())
    }
}

/// A writer that passes decoded bytes on, straight from the window.
struct Sink<'a> {
    decoded: &'a mut dyn FnMut(&[u8]) -> Result<(), DeltaError>,
    error: Option<DeltaError>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.decoded)(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.error = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the length of the header: magic number, descriptor, and the fields that the descriptor announces.
fn header_len(start: &[u8]) -> Result<usize, DeltaError> {
    let Some(&descriptor) = start.get(4) else { return Ok(5) };
    if start[..4] != MAGIC {
        return Err(DeltaError::Frame("it is not a zstd frame".to_owned()));
    }
    if descriptor & 3 != 0 {
        return Err(DeltaError::Frame("it needs a dictionary".to_owned()));
    }
    let single_segment = descriptor >> 5 & 1;
    let content_size = match (descriptor >> 6, single_segment) {
        (0, 0) => 0,
        (0, _) => 1,
        (power, _) => 1 << power,
    };
    Ok(5 + usize::from(1 - single_segment) + content_size)
}

/// Returns the length of a block: its header, its content, and the checksum behind the last block.
fn block_len(start: &[u8], checksum: bool) -> Result<usize, DeltaError> {
    let Some(&[one, two, three]) = start.first_chunk() else { return Ok(BLOCK_HEADER) };
    let header = u32::from_le_bytes([one, two, three, 0]);
    let size = (header >> 3) as usize;
    if size > MAX_BLOCK {
        return Err(DeltaError::Frame(format!("a block has {size} bytes")));
    }
    // Type 1 is one byte, repeated.
    let content = if header >> 1 & 3 == 1 { 1 } else { size };
    let trailer = if header & 1 == 1 && checksum { CHECKSUM } else { 0 };
    Ok(BLOCK_HEADER + content + trailer)
}
