//! Where there is room in memory, from `/proc/iomem`.

use std::ops::Range;

/// Memory that nobody keeps, in order. The kernel that runs is in it: it makes way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rooms(Vec<Range<u64>>);

impl Rooms {
    /// Reads `/proc/iomem`: what is `System RAM` and not `reserved` in that. The first page stays free: processors that
    /// have not been started wait there.
    pub(crate) fn parse(text: &str) -> Self {
        let mut rooms = Rooms(Vec::new());
        for line in text.lines() {
            let Some((range, name)) = line.split_once(" : ") else { continue };
            let is_inner = range.starts_with(' ');
            let Some(range) = parse_range(range.trim()) else { continue };
            match name.trim() {
                "System RAM" if !is_inner => rooms.0.push(range),
                "reserved" if is_inner => rooms.remove(&range),
                _ => {}
            }
        }
        rooms.remove(&(0..super::PAGE));
        rooms
    }

    /// Takes the first room for `len` bytes that begins `offset` behind a multiple of `alignment`.
    pub(crate) fn take(&mut self, len: u64, alignment: u64, offset: u64) -> Option<u64> {
        let at = self.0.iter().find_map(|room| {
            let at = room.start.saturating_sub(offset).checked_next_multiple_of(alignment)? + offset;
            (at >= room.start && at.checked_add(len)? <= room.end).then_some(at)
        })?;
        self.remove(&(at..at + len));
        Some(at)
    }

    fn remove(&mut self, taken: &Range<u64>) {
        let apart = |room: Range<u64>| {
            let before = room.start..taken.start.clamp(room.start, room.end);
            let after = taken.end.clamp(room.start, room.end)..room.end;
            [before, after]
        };
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .flat_map(|room| match room.start < taken.end && taken.start < room.end {
                true => apart(room).to_vec(),
                false => vec![room],
            })
            .filter(|room| !room.is_empty())
            .collect();
    }
}

/// `00000000-3b3fffff`, the last byte included.
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
    fn room_is_where_nothing_is_kept() {
        let mut rooms = Rooms::parse(PI);
        let expected = [0x1_0000..0x164_0000, 0x1d0_0000..0x2e40_0000, 0x2e60_0000..0x3b40_0000];
        assert_eq!(rooms, Rooms(expected.to_vec()));
        assert_eq!(rooms.take(0x100_0000, 2 << 20, 0), Some(0x20_0000));
        assert_eq!(rooms.take(0x100_0000, 2 << 20, 0x8_0000), Some(0x1e8_0000));
        assert_eq!(rooms.take(0x1_0000, 0x1_0000, 0), Some(0x1_0000));
        assert_eq!(rooms.take(1 << 30, 0x1_0000, 0), None);
        assert_eq!(Rooms::parse("00000000-00000000 : System RAM\n").take(1, 1, 0), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_free_once(wanted in prop::collection::vec((1u64..1 << 26, 0u32..22, 0u64..4), 1..12)) {
            let (all, mut rooms) = (Rooms::parse(PI), Rooms::parse(PI));
            let mut taken: Vec<Range<u64>> = Vec::new();
            for (len, power, offset) in wanted {
                let (alignment, offset) = (1 << power, offset.min((1 << power) - 1));
                let Some(at) = rooms.take(len, alignment, offset) else { continue };
                let range = at..at + len;
                prop_assert_eq!(at % alignment, offset);
                prop_assert!(all.0.iter().any(|room| room.start <= range.start && range.end <= room.end));
                prop_assert!(taken.iter().all(|other| other.end <= range.start || range.end <= other.start));
                taken.push(range);
            }
        }

        #[test]
        fn any_text_is_read(text in "([0-9a-f]{0,17}-[0-9a-f]{0,17}| |:|System RAM|reserved|\n){0,60}") {
            let _any = Rooms::parse(&text).take(1 << 20, 1 << 21, 1 << 19);
        }
    }
}
