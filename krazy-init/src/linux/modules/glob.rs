//! Shell patterns as depmod writes them: `*`, `?` and `[…]`. Source: fnmatch(3) without flags.

/// Returns true if the whole `text` matches `pattern`. Takes time proportional to the product of the lengths at worst.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The position of the last `*`, and the end of the text that it has matched so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => class(&pattern[p..], text[t]).map(|length| p + length),
            Some(literal) => (*literal == text[t]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Returns the length of the class `[…]` at the start of `pattern` if it contains `byte`.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|b| *b == b']')?;
    let (negated, mut rest) = match &pattern[1..end] {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    while let Some((first, tail)) = rest.split_first() {
        if let [b'-', last, after @ ..] = tail {
            found |= (*first..=*last).contains(&byte);
            rest = after;
        } else {
            found |= *first == byte;
            rest = tail;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_of_real_modules_match() {
        let virtio_net = "virtio:d00000001v00001AF4";
        assert!(matches("virtio:d00000001v*", virtio_net));
        assert!(!matches("virtio:d00000002v*", virtio_net));
        let e1000 = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00";
        assert!(matches("pci:v00008086d0000100Esv*sd*bc*sc*i*", e1000));
        assert!(!matches("pci:v00008086d0000100Fsv*sd*bc*sc*i*", e1000));
        assert!(matches(
            "usb:v0BDAp815[3-7]d*dc*dsc*dp*ic*isc*ip*in*",
            "usb:v0BDAp8156d1dc2dsc3dp4ic5isc6ip7in8"
        ));
        assert!(matches("acpi*:PNP0C0C:*", "acpi:PNP0C0C:"));
        assert!(matches("[!a]?", "bc") && !matches("[!a]?", "ac"));
        assert!(matches("", "") && !matches("", "a") && matches("**", ""));
    }

    proptest! {
        #[test]
        fn text_matches_itself_and_a_star_in_place_of_a_part(text in "[a-z0-9:]{0,30}", at in 0usize..30, n in 0usize..9) {
            prop_assert!(matches(&text, &text));
            let at = at.min(text.len());
            let end = (at + n).min(text.len());
            let pattern = format!("{}*{}", &text[..at], &text[end..]);
            prop_assert!(matches(&pattern, &text));
        }

        #[test]
        fn matching_never_panics(pattern in "[\\[\\]*?!a-c-]{0,20}", text in "[a-c\\]-]{0,20}") {
            let _ = matches(&pattern, &text);
        }
    }
}
