//! The numeric accounts of services. There is no `/etc/passwd`: an account's number follows from its name.

use std::collections::BTreeMap;

/// Accounts live in `FIRST .. FIRST + COUNT`: above people's and distributions', below those of user namespaces.
const FIRST: u32 = 10_000;
const COUNT: u32 = 50_000;

/// The account that may do anything.
pub(super) const ROOT: &str = "root";

/// The number of [`CONTROL_GROUP`](krazy_boot::manifest::CONTROL_GROUP), which no account has.
pub(super) const CONTROL_GID: u32 = 9_999;

/// Groups that own device nodes: these numbers and on, one a pattern. They last as long as `/dev`.
pub(super) const FIRST_DEVICE_GID: u32 = 8_000;

/// Assigns a number to every name in `names`; `root` has 0.
///
/// A number is the hash of the name, so that it stays the same when other services come and go. If two names
/// have the same hash, the later one by name takes the next free number; directories on `/data` are handed over when
/// that changes.
pub(super) fn assign<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, u32> {
    let mut sorted: Vec<&str> = names.into_iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut accounts = BTreeMap::new();
    let mut taken = std::collections::BTreeSet::new();
    for name in sorted {
        let mut offset = hash(name) % COUNT;
        // Always finds a free number: a root has thousands of files at most. The bound makes that visible.
        for _ in 0..COUNT {
            if name == ROOT || taken.insert(offset) {
                break;
            }
            offset = (offset + 1) % COUNT;
        }
        accounts.insert(name.to_owned(), if name == ROOT { 0 } else { FIRST + offset });
    }
    accounts
}

/// FNV-1a, 32 bits. Source: draft-eastlake-fnv, section 2.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_stable() {
        let alone = assign(["weather"]);
        assert_eq!(alone["weather"], FIRST + hash("weather") % COUNT);
        assert_eq!(assign(["dufs", "weather", "root"])["weather"], alone["weather"]);
        assert_eq!(assign(["root"])["root"], 0);
        assert_eq!(hash("a"), 0xe40c_292c);
        assert_eq!(hash("foobar"), 0xbf9c_f968);
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_number(names in proptest::collection::btree_set("[a-z]{1,6}", 0..600)) {
            let accounts = assign(names.iter().map(String::as_str));
            let numbers: BTreeSet<u32> = accounts.values().copied().collect();
            prop_assert_eq!(numbers.len(), names.len());
            prop_assert!(numbers.iter().all(|n| *n == 0 || (FIRST..FIRST + COUNT).contains(n)));
        }
    }
}
