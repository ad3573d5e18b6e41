//! Finds what a part has in common with its base. Runs on the host, with both in memory.
//!
//! Every 32nd byte of the base begins a block whose hash is looked up at every byte of the new part, by a
//! rolling hash; what is found is compared and extended both ways, byte by byte. Runs of zeros are told apart
//! first: they are not worth a lookup, and would all hash alike.

use std::io::{self, Write};

use super::{COPY, DATA, END, MAX_WINDOW, ZERO};
use crate::disk::size::Bytes;

/// Length of a block that is looked up; shorter common runs are not found.
const BLOCK: usize = 32;

/// The shortest run that becomes an operation of its own: below, the operations cost more than they save.
const MIN_RUN: usize = 24;

/// The multiplier of the hash: odd, from splitmix64.
const FACTOR: u64 = 0xbf58_476d_1ce4_e5b9;

/// Marks an empty place in the index.
const EMPTY: u32 = u32::MAX;

/// What came of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of the stream.
    pub stored: Bytes,
    /// Bytes that are copied from the base.
    pub copied: Bytes,
}

/// Why a part was not encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Positions have 32 bits.
    #[error("a base of {0} is too large")]
    BaseTooLarge(Bytes),
    /// The stream could not be written.
    #[error("failed to write the stream of a part")]
    Write(#[from] io::Error),
}

/// Writes the stream that turns `base` into `new`; an empty base makes one that refers to nothing. `level` is
/// zstd's. What is compressed already (a SquashFS, a kernel) does not get smaller at a higher one.
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
    // Where the data begins that no operation covers yet.
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
    // Most of it eight bytes at a time.
    let words = one.as_chunks::<8>().0.iter().zip(two.as_chunks::<8>().0).take_while(|(a, b)| a == b).count();
    let at = 8 * words;
    at + one[at..].iter().zip(&two[at..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(one: &[u8], two: &[u8]) -> usize {
    one.iter().rev().zip(two.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Hash of a block: the sum of its bytes times powers of the factor, the last byte's power being 0.
fn hash(block: &[u8]) -> u64 {
    block.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(FACTOR).wrapping_add(value(*byte)))
}

fn value(byte: u8) -> u64 {
    u64::from(byte) + 1
}

/// The hash of the block that was asked for last, from which that of the next one follows.
#[derive(Default)]
struct Rolling {
    /// Where that block began, its first byte, and its hash.
    last: Option<(usize, u8, u64)>,
}

impl Rolling {
    /// The hash of `block`, which begins at `at` and has [`BLOCK`] bytes.
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

/// Where in the base blocks of a hash are: a table with open addressing, the first of equal blocks kept.
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
            let place = index.place(hash(block), block);
            let slot = &mut index.table[place];
            if *slot == EMPTY {
                *slot = (n * BLOCK) as u32;
            }
        }
        index
    }

    fn find(&self, hash: u64, block: &[u8]) -> Option<usize> {
        let found = self.table[self.place(hash, block)];
        (found != EMPTY).then_some(found as usize)
    }

    /// The place of `block` in the table, or the empty one where it would be. Half of the places are empty.
    fn place(&self, hash: u64, block: &[u8]) -> usize {
        let mask = self.table.len() - 1;
        let mut place = (hash.wrapping_mul(FACTOR) >> self.shift) as usize & mask;
        loop {
            let found = self.table[place];
            if found == EMPTY || self.base[found as usize..].starts_with(block) {
                return place;
            }
            place = (place + 1) & mask;
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
