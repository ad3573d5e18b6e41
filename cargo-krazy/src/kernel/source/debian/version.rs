//! The order of Debian package versions: `[epoch:]upstream[-revision]` (Debian Policy 5.6.12, deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions as `dpkg --compare-versions` does. Text that is not a version is ordered, too.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    let epoch = |text: &str| text.trim_start_matches('0').to_owned();
    let (epoch_a, epoch_b) = (epoch(a.epoch), epoch(b.epoch));
    epoch_a
        .len()
        .cmp(&epoch_b.len())
        .then_with(|| epoch_a.cmp(&epoch_b))
        .then_with(|| fragment(a.upstream, b.upstream))
        .then_with(|| fragment(a.revision, b.revision))
}

struct Parts<'v> {
    epoch: &'v str,
    upstream: &'v str,
    revision: &'v str,
}

impl<'v> Parts<'v> {
    fn of(version: &'v str) -> Self {
        let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Parts { epoch, upstream, revision }
    }
}

/// Non-digits and digits in turn, as the policy describes.
fn fragment(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let (words_a, words_b) =
            (split(&mut a, |byte| !byte.is_ascii_digit()), split(&mut b, |byte| !byte.is_ascii_digit()));
        let longest = words_a.len().max(words_b.len());
        for at in 0..longest {
            let order = weight(words_a.get(at)).cmp(&weight(words_b.get(at)));
            if order != Ordering::Equal {
                return order;
            }
        }
        let digits = |text: &mut &[u8]| {
            let run = split(text, u8::is_ascii_digit);
            let zeros = run.iter().take_while(|&&byte| byte == b'0').count();
            run[zeros..].to_vec()
        };
        let (number_a, number_b) = (digits(&mut a), digits(&mut b));
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(&number_b));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the longest start of `text` whose bytes are all `of_kind`.
fn split<'t>(text: &mut &'t [u8], of_kind: impl Fn(&u8) -> bool) -> &'t [u8] {
    let end = text.iter().position(|byte| !of_kind(byte)).unwrap_or(text.len());
    let (start, rest) = text.split_at(end);
    *text = rest;
    start
}

/// `~` before the end, the end before letters, letters before everything else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_as_dpkg_does() {
        // Each line checked with `dpkg --compare-versions`.
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "1.0~rc1-1",
            "1.0-1~bpo1",
            "1.0-1",
            "1.0-1+b1",
            "1.0+dfsg-1",
            "6.12.9-1",
            "6.12.48-1",
            "6.12.107-1",
            "6.12.107+1",
            "1:0.1",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (bt, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), at.cmp(&bt), "{a} and {b}");
            }
        }
        assert_eq!(compare("6.01-1", "6.1-1"), Ordering::Equal);
        assert_eq!(compare("0:1-0", "1-0"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn is_an_order(a in "[0-9a-z.~:+-]{0,12}", b in "[0-9a-z.~:+-]{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        }
    }
}
