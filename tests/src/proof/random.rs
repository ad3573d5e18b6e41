//! Numbers that look random and are the same in every run.

/// A linear congruential generator, with the factors of Knuth's MMIX.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence of its own for every `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Returns a number below `limit`, or 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize).checked_rem(limit).unwrap_or(0)
    }
}
