//! How one part travels: a zstd frame around a sequence of operations. Format of our own.
//!
//! | first byte | then | means |
//! |---|---|---|
//! | 0 | | the end; nothing follows |
//! | 1 | length *n*, *n* bytes | these bytes |
//! | 2 | offset, length | bytes of the base: the same part of the running slot |
//! | 3 | length | zeros |
//!
//! Numbers are LEB128: seven bits a byte, at most ten bytes for 64 bits. The window of the frame is at most [`MAX_WINDOW`]; the
//! frame carries no dictionary. A part that refers to nothing has operations 1 and 3 only.
//!
//! Blocks of files that did not change are the same bytes in the old SquashFS and in the new one, only elsewhere.
//! So copies find nearly everything, and a device applies them with a buffer, where zstd's own patches would
//! want the whole old root in memory.
//!
//! The [`Decoder`] takes pieces as they arrive, and holds one zstd block, the window and one number. zstd is
//! decoded by ruzstd, so that no C code handles what comes over the network.

use std::io;

use crate::disk::size::Bytes;

#[cfg(feature = "bundle")]
mod encoder;
mod frame;

#[cfg(feature = "bundle")]
pub use encoder::{EncodeError, Encoded, encode};
use frame::Frame;

/// The largest window of a frame.
pub(crate) const MAX_WINDOW: u64 = 1 << 20;

/// The longest [`Step::Copy`] and [`Step::Zero`]; longer operations are taken apart.
pub(crate) const MAX_STEP: u64 = 64 << 10;

const END: u8 = 0;
const DATA: u8 = 1;
const COPY: u8 = 2;
const ZERO: u8 = 3;

/// What is to be done next, at the end of what was done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Append these bytes; at most the window and a zstd block.
    Data(&'a [u8]),
    /// Append `len` bytes of the base from `offset` on; they are within it.
    Copy {
        /// Where in the base.
        offset: u64,
        /// How many, at most [`MAX_STEP`].
        len: u64,
    },
    /// Append so many zeros, at most [`MAX_STEP`].
    Zero(u64),
}

/// Why a stream cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// Not a zstd frame, or a damaged one.
    #[error("the stream is damaged: {0}")]
    Frame(String),
    /// An operation that does not exist.
    #[error("the stream is damaged: operation {0} does not exist")]
    Operation(u8),
    /// A number that does not end.
    #[error("the stream is damaged: a number is too long")]
    Number,
    /// More than the part has.
    #[error("the stream yields more than the {0} of the part")]
    TooLong(Bytes),
    /// Less than the part has.
    #[error("the stream yields {have}, the part has {size}")]
    TooShort {
        /// What came out.
        have: Bytes,
        /// The size of the part.
        size: Bytes,
    },
    /// A copy from outside the base.
    #[error("the stream copies {len} bytes from {offset} of a base of {base}")]
    Base {
        /// From where.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// The size of the base; 0 when there is none.
        base: Bytes,
    },
    /// Something behind the end.
    #[error("something follows the end of the stream")]
    Trailing,
    /// The stream ends early.
    #[error("the stream ends early")]
    Truncated,
    /// Whoever carries the steps out failed.
    #[error("failed to apply the stream")]
    Apply(#[source] io::Error),
}

/// Takes a stream in pieces and yields the steps in it.
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
    /// So many bytes of data are to come.
    Data(u64),
    Ended,
}

impl Decoder {
    /// For a part of `size`, which copies from a base of `base` bytes; 0 if there is none.
    pub fn new(size: Bytes, base: Bytes) -> Self {
        let operations = Operations { size: size.0, base: base.0, done: 0, state: State::Tag };
        Decoder { frame: Frame::new(), operations }
    }

    /// Takes the next piece of the stream, of any length, and calls `apply` for every step that is complete.
    ///
    /// After an error the decoder is of no use any more.
    pub fn feed(
        &mut self,
        piece: &[u8],
        apply: &mut dyn FnMut(Step<'_>) -> io::Result<()>,
    ) -> Result<(), DeltaError> {
        let Decoder { frame, operations } = self;
        frame.feed(piece, &mut |bytes| operations.feed(bytes, apply))
    }

    /// To be called after the last piece: whether the stream was complete.
    pub fn finish(&self) -> Result<(), DeltaError> {
        let Operations { done, size, state, .. } = self.operations;
        match state {
            State::Ended if !self.frame.is_finished() => Err(DeltaError::Truncated),
            State::Ended if done == size => Ok(()),
            State::Ended => Err(DeltaError::TooShort { have: Bytes(done), size: Bytes(size) }),
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
                        END => State::Ended,
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
                State::Ended => return Err(DeltaError::Trailing),
            }
        }
        Ok(())
    }

    /// A number is complete.
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
