//! Memory for direct I/O, past the page cache.

use std::ops::{Deref, DerefMut};

/// Alignment of offsets, lengths and memory for direct I/O: a multiple of every disk's logical block.
pub const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// Returns `len` zeros. They never move, because the vector never grows.
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len + ALIGNMENT];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        Aligned { memory, start, len }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_has_the_requested_length() {
        for len in [0, 1, ALIGNMENT - 1, ALIGNMENT, 128 << 10] {
            let memory = Aligned::new(len);
            assert_eq!(memory.as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(memory.len(), len);
        }
    }
}
