//! The encoder, which finds the common content of a part and its base. It runs on the host, with both in memory.
//!
//! The base is indexed in blocks of 32 bytes. A rolling hash looks a block up at every byte of the new part; a match is
//! compared, and extended byte by byte in both directions. Runs of zeros are handled first: they would all have the same
//! hash, and operation 3 is shorter than a copy.

use std::io::{self, Write};

use super::{COPY, DATA, END, MAX_WINDOW, ZERO};
use crate::disk::size::Bytes;

/// Length of an indexed block. Shorter common runs are not found.
const BLOCK: usize = 32;

/// The shortest run of zeros that becomes an operation: a shorter one costs more than it saves.
const MIN_RUN: usize = 24;

/// The multiplier of the hash: odd, from splitmix64.
const FACTOR: u64 = 0xbf58_476d_1ce4_e5b9;

/// Marks an empty entry of the index.
const EMPTY: u32 = u32::MAX;

/// Figures of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of the stream.
    pub stored: Bytes,
    /// Bytes that are copied from the base.
    pub copied: Bytes,
}

/// A failure to encode a part.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The index has 32-bit positions.
    #[error("a base of {0} is too large")]
    BaseTooLarge(Bytes),
    /// The stream could not be written.
    #[error("failed to write the stream of a part")]
    Write(#[from] io::Error),
}

/// Writes the stream that turns `base` into `new`; with an empty base it has no copies. `level` is zstd's. Compressed
/// content, such as a SquashFS or a kernel, does not get smaller at a higher level.
pub fn encode(new: &[u8], base: &[u8], level: i32, out: impl Write) -> Result<Encoded, EncodeError> {
    if base.len() >= EMPTY as usize {
        return Err(EncodeError::BaseTooLarge(Bytes(base.len() as u64)));
    }
    let mut zstd = zstd::Encoder::new(Counted { inner: out, written: 0 }, level)?;
    zstd.window_log(MAX_WINDOW.ilog2())?;
    zstd.include_checksum(false)?;
    let mut copied = 0;
    let index = Index::new(base);
    let mut at = 0;
    // Start of the data that no operation covers yet.
    let mut uncovered = 0;
    let mut hash = Rolling::default();
    while at < new.len() {
        let zeros = new[at..].iter().take_while(|byte| **byte == 0).count();
        if zeros >= MIN_RUN {
            data(&mut zstd, &new[uncovered..at])?;
            operation(&mut zstd, ZERO, &[zeros as u64])?;
            at += zeros;
            uncovered = at;
            continue;
        }
        let block = new.get(at..at + BLOCK).and_then(|block| index.find(hash.of(block, at), block));
        let Some(found) = block else {
            at += 1;
            continue;
        };
        let back = common_suffix(&new[uncovered..at], &base[..found]);
        let len = back + common_prefix(&new[at..], &base[found..]);
        data(&mut zstd, &new[uncovered..at - back])?;
        operation(&mut zstd, COPY, &[(found - back) as u64, len as u64])?;
        copied += len as u64;
        at += len - back;
        uncovered = at;
    }
    data(&mut zstd, &new[uncovered..])?;
    zstd.write_all(&[END])?;
    let mut counted = zstd.finish()?;
    counted.flush()?;
    Ok(Encoded { stored: Bytes(counted.written), copied: Bytes(copied) })
}

fn data(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    operation(out, DATA, &[bytes.len() as u64])?;
    out.write_all(bytes)
}

fn operation(out: &mut impl Write, tag: u8, numbers: &[u64]) -> io::Result<()> {
    let mut bytes = vec![tag];
    for &number in numbers {
        let mut rest = number;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    out.write_all(&bytes)
}

fn common_prefix(one: &[u8], two: &[u8]) -> usize {
    // Eight bytes at a time, which the compiler turns into single comparisons.
    let chunks =
        one.as_chunks::<8>().0.iter().zip(two.as_chunks::<8>().0).take_while(|(a, b)| a == b).count();
    let at = 8 * chunks;
    at + one[at..].iter().zip(&two[at..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(one: &[u8], two: &[u8]) -> usize {
    one.iter().rev().zip(two.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Returns the hash of a block: the sum of its bytes, each times a power of the factor, 0 for the last byte.
fn hash(block: &[u8]) -> u64 {
    block.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(FACTOR).wrapping_add(value(*byte)))
}

fn value(byte: u8) -> u64 {
    u64::from(byte) + 1
}

/// The hash of the latest block, from which that of the next one is computed.
#[derive(Default)]
struct Rolling {
    /// Offset of that block, its first byte, and its hash.
    last: Option<(usize, u8, u64)>,
}

impl Rolling {
    /// Returns the hash of `block`, which begins at `at` and has [`BLOCK`] bytes.
    fn of(&mut self, block: &[u8], at: usize) -> u64 {
        const OUT: u64 = FACTOR.wrapping_pow(BLOCK as u32);
        let value_here = match self.last {
            Some((before, first, sum)) if before + 1 == at => sum
                .wrapping_mul(FACTOR)
                .wrapping_add(value(block[BLOCK - 1]))
                .wrapping_sub(value(first).wrapping_mul(OUT)),
            _ => hash(block),
        };
        self.last = Some((at, block[0], value_here));
        value_here
    }
}

/// Offsets of the base's blocks by their hashes: a table with open addressing that keeps the first of equal blocks.
struct Index<'a> {
    base: &'a [u8],
    table: Vec<u32>,
    shift: u32,
}

impl<'a> Index<'a> {
    fn new(base: &'a [u8]) -> Self {
        let bits = (2 * base.len() / BLOCK + 2).next_power_of_two().ilog2();
        let mut index = Index { base, table: vec![EMPTY; 1 << bits], shift: 64 - bits };
        for (n, block) in base.as_chunks::<BLOCK>().0.iter().enumerate() {
            let position = index.position(hash(block), block);
            let entry = &mut index.table[position];
            if *entry == EMPTY {
                *entry = (n * BLOCK) as u32;
            }
        }
        index
    }

    fn find(&self, hash: u64, block: &[u8]) -> Option<usize> {
        let found = self.table[self.position(hash, block)];
        (found != EMPTY).then_some(found as usize)
    }

    /// Returns the position of `block` in the table, or the empty one for it. Half of the table is empty, so there is one.
    fn position(&self, hash: u64, block: &[u8]) -> usize {
        let mask = self.table.len() - 1;
        let mut position = (hash.wrapping_mul(FACTOR) >> self.shift) as usize & mask;
        loop {
            let found = self.table[position];
            if found == EMPTY || self.base[found as usize..].starts_with(block) {
                return position;
            }
            position = (position + 1) & mask;
        }
    }
}

struct Counted<W> {
    inner: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
