//! The stream of one part: a zstd frame around a sequence of operations. A format of this project.
//!
//! | first byte | then | means |
//! |---|---|---|
//! | 0 | | the end; nothing follows |
//! | 1 | length *n*, *n* bytes | these bytes |
//! | 2 | offset, length | bytes of the base: the same part of the running slot |
//! | 3 | length | zeros |
//!
//! Numbers are LEB128: seven bits a byte, at most ten bytes for 64 bits. The window of the frame is at most 1 MiB; the
//! frame has no dictionary. A stream without a base has operations 1 and 3 only.
//!
//! Blocks of unchanged files have the same bytes in the old and the new SquashFS, at other offsets. So copies cover nearly
//! everything, and a device applies them with a buffer, where zstd's own patches need the whole old root in memory.
//!
//! The [`Decoder`] takes pieces as they arrive, and keeps one zstd block, the window and one number in memory. ruzstd
//! decodes zstd, so that no C code processes data from the network.

use std::io;

use crate::disk::size::Bytes;

#[cfg(feature = "bundle")]
mod encoder;
mod frame;

#[cfg(feature = "bundle")]
pub use encoder::{EncodeError, Encoded, encode};
use frame::Frame;

/// Limit of a frame's window in bytes. The decoder allocates it, so it is part of admind's memory limit.
pub(crate) const MAX_WINDOW: u64 = 1 << 20;

/// Limit of one [`Step::Copy`] or [`Step::Zero`]; longer operations become several steps.
pub(crate) const MAX_STEP: u64 = 64 << 10;

const END: u8 = 0;
const DATA: u8 = 1;
const COPY: u8 = 2;
const ZERO: u8 = 3;

/// The next step, which appends to the output of the steps before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Appends these bytes, at most the window and a zstd block.
    Data(&'a [u8]),
    /// Appends `len` bytes of the base from `offset` on, all of which are within it.
    Copy {
        /// Offset in the base.
        offset: u64,
        /// Number of bytes, at most 64 KiB.
        len: u64,
    },
    /// Appends this number of zeros, at most 64 KiB.
    Zero(u64),
}

/// A failure to apply a stream.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The stream is no zstd frame, or a damaged one.
    #[error("the stream is damaged: {0}")]
    Frame(String),
    /// The stream has an unknown operation.
    #[error("the stream is damaged: operation {0} does not exist")]
    Operation(u8),
    /// A number exceeds 64 bits.
    #[error("the stream is damaged: a number is too long")]
    Number,
    /// The output is longer than the part.
    #[error("the stream yields more than the {0} of the part")]
    TooLong(Bytes),
    /// The output is shorter than the part.
    #[error("the stream yields {have}, the part has {size}")]
    TooShort {
        /// Length of the output.
        have: Bytes,
        /// The size of the part.
        size: Bytes,
    },
    /// A copy is not within the base.
    #[error("the stream copies {len} bytes from {offset} of a base of {base}")]
    Base {
        /// Offset of the copy.
        offset: u64,
        /// Its length.
        len: u64,
        /// The size of the base; 0 if there is none.
        base: Bytes,
    },
    /// Data follows the end.
    #[error("data follows the end of the stream")]
    Trailing,
    /// The stream ends early.
    #[error("the stream ends early")]
    Truncated,
    /// The caller's function failed.
    #[error("failed to apply the stream")]
    Apply(#[source] io::Error),
}

/// Decoder of a stream that arrives in pieces.
pub struct Decoder {
    frame: Frame,
    operations: Operations,
}

/// The operations within the frame.
struct Operations {
    size: u64,
    base: u64,
    done: u64,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Tag,
    /// A number is being read, for this operation.
    Number {
        tag: u8,
        /// The first number of a copy.
        offset: Option<u64>,
        value: u64,
        shift: u32,
    },
    /// This number of data bytes follows.
    Data(u64),
    Finished,
}

impl Decoder {
    /// Returns a decoder for a part of `size` that copies from a base of `base` bytes; 0 if there is none.
    pub fn new(size: Bytes, base: Bytes) -> Self {
        let operations = Operations { size: size.0, base: base.0, done: 0, state: State::Tag };
        Decoder { frame: Frame::new(), operations }
    }

    /// Takes the next piece of the stream, of any length, and calls `apply` for every complete step.
    ///
    /// After an error the decoder cannot be used any more.
    pub fn feed(
        &mut self,
        piece: &[u8],
        apply: &mut dyn FnMut(Step<'_>) -> io::Result<()>,
    ) -> Result<(), DeltaError> {
        let Decoder { frame, operations } = self;
        frame.feed(piece, &mut |bytes| operations.feed(bytes, apply))
    }

    /// Checks, after the last piece, that the stream was complete.
    pub fn finish(&self) -> Result<(), DeltaError> {
        let Operations { done, size, state, .. } = self.operations;
        match state {
            State::Finished if !self.frame.is_finished() => Err(DeltaError::Truncated),
            State::Finished if done == size => Ok(()),
            State::Finished => Err(DeltaError::TooShort { have: Bytes(done), size: Bytes(size) }),
            _ => Err(DeltaError::Truncated),
        }
    }
}

impl Operations {
    fn feed(
        &mut self,
        mut bytes: &[u8],
        apply: &mut dyn FnMut(Step<'_>) -> io::Result<()>,
    ) -> Result<(), DeltaError> {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Tag => {
                    self.state = match first {
                        END => State::Finished,
                        tag @ (DATA | COPY | ZERO) => State::Number { tag, offset: None, value: 0, shift: 0 },
                        other => return Err(DeltaError::Operation(other)),
                    };
                    bytes = rest;
                }
                State::Number { tag, offset, value, shift } => {
                    let digit = u64::from(first & 0x7f);
                    if shift > 63 || (shift == 63 && digit > 1) {
                        return Err(DeltaError::Number);
                    }
                    let value = value | digit << shift;
                    self.state = if first & 0x80 != 0 {
                        State::Number { tag, offset, value, shift: shift + 7 }
                    } else {
                        self.begin(tag, offset, value, apply)?
                    };
                    bytes = rest;
                }
                State::Data(left) => {
                    let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let (data, rest) = bytes.split_at(taken);
                    apply(Step::Data(data)).map_err(DeltaError::Apply)?;
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::Tag } else { State::Data(left) };
                    bytes = rest;
                }
                State::Finished => return Err(DeltaError::Trailing),
            }
        }
        Ok(())
    }

    /// Starts the operation whose number is complete. The output's length is checked before anything is applied.
    fn begin(
        &mut self,
        tag: u8,
        offset: Option<u64>,
        value: u64,
        apply: &mut dyn FnMut(Step<'_>) -> io::Result<()>,
    ) -> Result<State, DeltaError> {
        let (COPY, None) = (tag, offset) else {
            self.done = self
                .done
                .checked_add(value)
                .filter(|done| *done <= self.size)
                .ok_or(DeltaError::TooLong(Bytes(self.size)))?;
            if tag == DATA {
                return Ok(if value == 0 { State::Tag } else { State::Data(value) });
            }
            if let Some(offset) = offset
                && offset.checked_add(value).is_none_or(|end| end > self.base)
            {
                return Err(DeltaError::Base { offset, len: value, base: Bytes(self.base) });
            }
            let mut at = 0;
            while at < value {
                let len = (value - at).min(MAX_STEP);
                let step = match offset {
                    Some(offset) => Step::Copy { offset: offset + at, len },
                    None => Step::Zero(len),
                };
                apply(step).map_err(DeltaError::Apply)?;
                at += len;
            }
            return Ok(State::Tag);
        };
        Ok(State::Number { tag, offset: Some(value), value: 0, shift: 0 })
    }
}

#[cfg(test)]
#[cfg(feature = "bundle")]
mod tests;
