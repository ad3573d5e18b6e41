//! Free physical memory, from `/proc/iomem`.

use std::ops::Range;

/// Memory that is not reserved, in order. It includes the memory of the running kernel, which kexec replaces: segments are
/// moved to their addresses after that kernel has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FreeMemory(Vec<Range<u64>>);

impl FreeMemory {
    /// Parses `/proc/iomem`: ranges of `System RAM` without those that are `reserved` in them. The first page is left out,
    /// because processors that have not been started wait there in a loop of the firmware.
    pub(crate) fn parse(text: &str) -> Self {
        let mut memory = FreeMemory(Vec::new());
        for line in text.lines() {
            let Some((range, name)) = line.split_once(" : ") else { continue };
            let is_inner = range.starts_with(' ');
            let Some(range) = parse_range(range.trim()) else { continue };
            match name.trim() {
                "System RAM" if !is_inner => memory.0.push(range),
                "reserved" if is_inner => memory.remove(&range),
                _ => {}
            }
        }
        memory.remove(&(0..super::PAGE_SIZE));
        memory
    }

    /// Takes the first `len` free bytes that start `offset` behind a multiple of `alignment`, and returns their address.
    pub(crate) fn take(&mut self, len: u64, alignment: u64, offset: u64) -> Option<u64> {
        let at = self.0.iter().find_map(|range| {
            let at = range.start.saturating_sub(offset).checked_next_multiple_of(alignment)? + offset;
            (at >= range.start && at.checked_add(len)? <= range.end).then_some(at)
        })?;
        self.remove(&(at..at + len));
        Some(at)
    }

    fn remove(&mut self, taken: &Range<u64>) {
        let apart = |range: Range<u64>| {
            let before = range.start..taken.start.clamp(range.start, range.end);
            let after = taken.end.clamp(range.start, range.end)..range.end;
            [before, after]
        };
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .flat_map(|range| match range.start < taken.end && taken.start < range.end {
                true => apart(range).to_vec(),
                false => vec![range],
            })
            .filter(|range| !range.is_empty())
            .collect();
    }
}

/// Parses `00000000-3b3fffff`, which includes the last byte.
fn parse_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(number(first)?..number(last)?.checked_add(1)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PI: &str = "00000000-3b3fffff : System RAM\n  00000000-00000fff : reserved\n  \
                      00210000-0163ffff : Kernel code\n  01640000-01cfffff : reserved\n  \
                      01d00000-0247ffff : Kernel data\n  2e400000-2e5fffff : reserved\n\
                      3f201000-3f2011ff : serial@7e201000\n  3f201000-3f2011ff : reserved\n";

    #[test]
    fn reserved_ranges_are_not_free() {
        let mut memory = FreeMemory::parse(PI);
        let expected = [0x1_0000..0x164_0000, 0x1d0_0000..0x2e40_0000, 0x2e60_0000..0x3b40_0000];
        assert_eq!(memory, FreeMemory(expected.to_vec()));
        assert_eq!(memory.take(0x100_0000, 2 << 20, 0), Some(0x20_0000));
        assert_eq!(memory.take(0x100_0000, 2 << 20, 0x8_0000), Some(0x1e8_0000));
        assert_eq!(memory.take(0x1_0000, 0x1_0000, 0), Some(0x1_0000));
        assert_eq!(memory.take(1 << 30, 0x1_0000, 0), None);
        assert_eq!(FreeMemory::parse("00000000-00000000 : System RAM\n").take(1, 1, 0), None);
    }

    proptest! {
        #[test]
        fn ranges_are_taken_once_and_aligned(requests in prop::collection::vec((1u64..1 << 26, 0u32..22, 0u64..4), 1..12)) {
            let (all, mut memory) = (FreeMemory::parse(PI), FreeMemory::parse(PI));
            let mut taken: Vec<Range<u64>> = Vec::new();
            for (len, power, offset) in requests {
                let (alignment, offset) = (1 << power, offset.min((1 << power) - 1));
                let Some(at) = memory.take(len, alignment, offset) else { continue };
                let range = at..at + len;
                prop_assert_eq!(at % alignment, offset);
                prop_assert!(all.0.iter().any(|range| range.start <= range.start && range.end <= range.end));
                prop_assert!(taken.iter().all(|other| other.end <= range.start || range.end <= other.start));
                taken.push(range);
            }
        }

        #[test]
        fn foreign_text_never_panics(text in "([0-9a-f]{0,17}-[0-9a-f]{0,17}| |:|System RAM|reserved|\n){0,60}") {
            let _any = FreeMemory::parse(&text).take(1 << 20, 1 << 21, 1 << 19);
        }
    }
}
