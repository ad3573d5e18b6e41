//! The domains in which programs look up names without a dot: the options 15 (RFC 2132, section 3.17) and 119 (RFC 3397).
//!
//! They end up in a file that other programs parse, so only names of letters, digits, hyphens and underscores are taken.

/// Domains, and bytes of all their names, that every resolver takes. Source: resolv.conf(5), of glibc before 2.26.
const MAX_DOMAINS: usize = 6;
const MAX_LEN: usize = 255;

/// The longest label and name. Source: RFC 1035, section 2.3.4.
const MAX_LABEL_LEN: usize = 63;
const MAX_NAME_LEN: usize = 253;

/// The two bits of a pointer to an earlier name. Source: RFC 1035, section 4.1.4.
const POINTER: u8 = 0xc0;

/// Decodes option 15: one name. Servers in use send several, separated by spaces, and a final zero.
pub(super) fn of_text(value: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(value);
    let names = text.trim_end_matches('\0').split_ascii_whitespace();
    bounded(names.map(|name| name.trim_end_matches('.').to_owned()))
}

/// Decodes option 119: names in the form of DNS messages, which may point to earlier ones. A malformed one ends the list.
pub(super) fn of_list(value: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < value.len() && names.len() < MAX_DOMAINS {
        let Some((name, next)) = name(value, at) else { break };
        names.push(name);
        at = next;
    }
    bounded(names.into_iter())
}

/// Returns the name at `start`, and the position behind it.
fn name(value: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels: Vec<String> = Vec::new();
    let mut len = 0;
    let (mut at, mut end) = (start, None);
    loop {
        let first = *value.get(at)?;
        if first & POINTER == POINTER {
            let target = usize::from(first & !POINTER) << 8 | usize::from(*value.get(at + 1)?);
            end.get_or_insert(at + 2);
            // Only backwards, so that it ends.
            if target >= at {
                return None;
            }
            at = target;
            continue;
        }
        let label = value.get(at + 1..at + 1 + usize::from(first))?;
        at += 1 + label.len();
        if label.is_empty() {
            return Some((labels.join("."), end.unwrap_or(at)));
        }
        len += label.len() + 1;
        if len > MAX_NAME_LEN {
            return None;
        }
        labels.push(String::from_utf8_lossy(label).into_owned());
    }
}

/// Returns the distinct names that are valid, as many of them as resolvers take.
pub(in crate::net) fn bounded(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut domains: Vec<String> = Vec::new();
    let mut len = 0;
    for name in names.filter(|name| is_name(name)) {
        if domains.contains(&name) {
            continue;
        }
        len += name.len() + 1;
        if domains.len() == MAX_DOMAINS || len > MAX_LEN {
            break;
        }
        domains.push(name);
    }
    domains
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_LEN).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= MAX_NAME_LEN && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_or_several_are_read_from_a_text() {
        assert_eq!(of_text(b"example.com"), ["example.com"]);
        assert_eq!(of_text(b"example.com. lan\0"), ["example.com", "lan"]);
        for hostile in [&b""[..], b"a b\nnameserver 6.6.6.6", b"a..b", b"\xff\xfe", b"-x/../y"] {
            let found = of_text(hostile);
            assert!(found.iter().all(|name| !name.contains(['\n', '/', '\0'])), "{found:?}");
        }
        assert_eq!(of_text(&b"a ".repeat(90)), ["a"]);
        assert_eq!(of_text(b"a b a c d e f g"), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(of_text([b"x".repeat(64), b".lan".to_vec()].concat().as_slice()), [""; 0]);
    }

    #[test]
    fn names_of_a_list_point_to_earlier_ones() {
        // The example of RFC 3397, section 2: eng.apple.com and marketing.apple.com.
        let list = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        assert_eq!(of_list(list), ["eng.apple.com", "marketing.apple.com"]);
        // A pointer to itself, forwards, and to its own name; a label beyond the end.
        for hostile in [&b"\xc0\x00"[..], b"\xc0\x05\x01a\x00", b"\x01a\xc0\x00", b"\x09abc"] {
            assert_eq!(of_list(hostile), [""; 0], "{hostile:?}");
        }
    }
}
