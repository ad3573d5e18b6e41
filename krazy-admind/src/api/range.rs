//! The `Range` header: one range of bytes (RFC 9110, section 14).
//!
//! Several ranges at once, and units other than bytes, are answered with the whole, as the RFC allows.

/// The requested part of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// `len` bytes from `start` on; both are within the content, and `len` is not 0.
    Part {
        /// The first byte.
        start: u64,
        /// The number of bytes.
        len: u64,
    },
    /// A range beyond the end.
    Unsatisfiable,
}

/// Parses the header's value for a content of `total` bytes.
pub(crate) fn wanted(value: Option<&str>, total: u64) -> Wanted {
    value.and_then(parse).map_or(Wanted::Whole, |range| range.of(total))
}

#[derive(Clone, Copy)]
enum Range {
    From(u64, Option<u64>),
    Last(u64),
}

fn parse(value: &str) -> Option<Range> {
    let (unit, range) = value.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number that overflows is beyond the end of every file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", last) => number(last).map(Range::Last),
        (first, "") => Some(Range::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Range::From(first, Some(last)))
        }
    }
}

impl Range {
    fn of(self, total: u64) -> Wanted {
        let (start, end) = match self {
            Range::From(first, last) => (first, last.map_or(total, |last| last.saturating_add(1).min(total))),
            Range::Last(len) => (total.saturating_sub(len), total),
        };
        if start < end { Wanted::Part { start, len: end - start } } else { Wanted::Unsatisfiable }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_the_rfc() {
        let part = |start, len| Wanted::Part { start, len };
        for (value, expected) in [
            ("bytes=0-499", part(0, 500)),
            ("bytes=500-999", part(500, 500)),
            ("bytes=-500", part(9500, 500)),
            ("bytes=9500-", part(9500, 500)),
            ("bytes=0-0", part(0, 1)),
            ("BYTES=0-99999", part(0, 10_000)),
            ("bytes=-20000", part(0, 10_000)),
            ("bytes=10000-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(value), 10_000), expected, "{value}");
        }
        assert_eq!(wanted(None, 10_000), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn parts_are_within_the_content(value in "bytes=[0-9]{0,22}-[0-9]{0,22}", total: u64) {
            if let Wanted::Part { start, len } = wanted(Some(&value), total) {
                prop_assert!(len > 0 && start.checked_add(len).is_some_and(|end| end <= total));
            }
        }
    }
}
