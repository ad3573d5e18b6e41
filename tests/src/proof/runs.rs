//! The origin of every byte of a disk: the disk as it was, or one of the recorded writes.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// The origin of written bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// They are zero.
    Zero,
    /// They are in a log, from this position on.
    Log {
        /// The number of the log.
        log: usize,
        /// The position of the first byte.
        at: u64,
    },
}

impl Source {
    /// The source of the bytes `distance` further on.
    fn skip(self, distance: u64) -> Self {
        match self {
            Source::Zero => Source::Zero,
            Source::Log { log, at } => Source::Log { log, at: at + distance },
        }
    }
}

/// The written runs of a disk, by their first byte. They do not overlap; what is between them was never written.
#[derive(Clone, Debug, Default)]
pub struct Runs(BTreeMap<u64, (u64, Source)>);

impl Runs {
    /// Writes `range`, over what was there.
    pub fn write(&mut self, range: Range<u64>, source: Source) {
        if range.is_empty() {
            return;
        }
        let overlapped: Vec<_> =
            self.within(&range).map(|(whole, source)| (whole.start, whole.end, source)).collect();
        for (start, end, old) in overlapped {
            self.0.remove(&start);
            if start < range.start {
                self.0.insert(start, (range.start, old));
            }
            if range.end < end {
                self.0.insert(range.end, (end, old.skip(range.end - start)));
            }
        }
        self.0.insert(range.start, (range.end, source));
    }

    /// Returns every run that overlaps `range`, as a whole.
    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, Source)> + use<'_> {
        let before = self.0.range(..range.start).next_back();
        let begin = range.start;
        let from_before = before.filter(move |(_, (end, _))| *end > begin);
        from_before
            .into_iter()
            .chain(self.0.range(range.clone()))
            .map(|(start, (end, source))| (*start..*end, *source))
    }

    /// Returns the parts of `range` that were written, with their sources.
    pub fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Source)> + use<'_> {
        self.within(&range).map(move |(whole, source)| {
            let start = whole.start.max(range.start);
            (start..whole.end.min(range.end), source.skip(start - whole.start))
        })
    }

    /// Hashes the origins of `range`: two disks with equal origins have equal content.
    pub fn hash_origins(&self, range: Range<u64>, hasher: &mut impl Hasher) {
        for part in self.parts(range) {
            part.hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_writes_cover_earlier_ones() {
        let log = |at| Source::Log { log: 0, at };
        let mut runs = Runs::default();
        runs.write(10..20, log(100));
        runs.write(30..40, log(200));
        runs.write(15..16, Source::Zero);
        runs.write(18..32, log(300));
        runs.write(50..50, Source::Zero);
        let parts: Vec<_> = runs.parts(12..35).collect();
        assert_eq!(
            parts,
            [
                (12..15, log(102)),
                (15..16, Source::Zero),
                (16..18, log(106)),
                (18..32, log(300)),
                (32..35, log(202))
            ]
        );
        runs.write(0..100, log(400));
        assert_eq!(runs.parts(99..200).collect::<Vec<_>>(), [(99..100, log(499))]);
    }
}
