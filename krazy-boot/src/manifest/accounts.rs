//! The accounts of services: names, numbers and homes. A number follows from the name, so that host and device agree
//! without a list; `/etc/passwd` is written from it for programs that look themselves up.

use std::collections::BTreeMap;

use super::{CONTROL_GROUP, Manifest, Service};

/// Accounts live in `FIRST .. FIRST + COUNT`: above people's and distributions', below those of user namespaces.
const FIRST: u32 = 10_000;
const COUNT: u32 = 50_000;

/// The account that may do anything.
pub const ROOT: &str = "root";

/// The directory on `/data` that is the machine's own.
pub const MACHINE_DIRECTORY: &str = crate::api::credentials::DIRECTORY;

/// The number of [`CONTROL_GROUP`], which no account has.
pub const CONTROL_GID: u32 = 9_999;

/// Groups that own device nodes: these numbers and on, one a pattern. They last as long as `/dev`.
pub const FIRST_DEVICE_GID: u32 = 8_000;

/// The account, and its only group, of the process of krazy-admind that faces the network. No service has it, nor any
/// group of devices.
pub const NETWORK_UID: u32 = FIRST_DEVICE_GID - 1;

/// Returns the account that `service` runs under.
pub fn user(service: &Service) -> &str {
    service.settings.user.as_deref().unwrap_or(&service.name)
}

/// Returns the directory of `service` on `/data`, below that. Services of one account share it; those of root have nothing
/// in common but root. Names with another meaning there get a prefix.
pub fn home(service: &Service) -> String {
    let owner = if user(service) == ROOT { &service.name } else { user(service) };
    match owner {
        MACHINE_DIRECTORY | "lost+found" => format!("service-{owner}"),
        _ => owner.to_owned(),
    }
}

/// Returns the directory of `service` in `/run`, for sockets and process ids. Names that init uses there get a prefix.
pub fn runtime_directory(service: &Service) -> String {
    match service.name.as_str() {
        name @ (MACHINE_DIRECTORY | "hosts" | "log" | "machine-id" | "notify.sock" | "resolv.conf"
        | "resolv.conf.new") => {
            format!("service-{name}")
        }
        name => name.to_owned(),
    }
}

/// Returns the number of every account: those of the services of `manifest`, and those whose groups they have.
pub fn of(manifest: &Manifest) -> BTreeMap<String, u32> {
    let groups = manifest.services.iter().flat_map(|service| &service.settings.groups).map(String::as_str);
    let groups = groups.filter(|group| *group != CONTROL_GROUP);
    assign(manifest.services.iter().map(user).chain(groups))
}

/// Assigns a number to every name in `names`; `root` has 0.
///
/// A number is the hash of the name, so that it stays the same when other services come and go. If two names
/// have the same hash, the later one by name takes the next free number; directories on `/data` are handed over when
/// that changes.
fn assign<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, u32> {
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

    #[test]
    fn home_is_never_the_machines_directory() {
        let service = |name: &str, user: Option<&str>| {
            let program = crate::manifest::Program {
                package: String::new(),
                version: String::new(),
                source: String::new(),
                sha256: String::new(),
            };
            let settings = crate::manifest::ServiceSettings {
                user: user.map(str::to_owned),
                ..crate::manifest::ServiceSettings::default()
            };
            Service { name: name.to_owned(), program, settings, checks: Default::default() }
        };
        assert_eq!(home(&service("web", None)), "web");
        assert_eq!(home(&service("web", Some("shared"))), "shared");
        assert_eq!(home(&service("web", Some("root"))), "web");
        assert_eq!(home(&service("krazy", None)), "service-krazy");
        assert_eq!(runtime_directory(&service("web", Some("root"))), "web");
        for name in ["hosts", "log"] {
            assert_eq!(runtime_directory(&service(name, None)), format!("service-{name}"));
        }
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_number(names in proptest::collection::btree_set("[a-z]{1,6}", 0..600)) {
            let accounts = assign(names.iter().map(String::as_str));
            let numbers: BTreeSet<u32> = accounts.values().copied().collect();
            prop_assert_eq!(numbers.len(), names.len());
            prop_assert!(numbers.iter().all(|n| *n == 0 || (FIRST..FIRST + COUNT).contains(n)));
            prop_assert!(!numbers.contains(&NETWORK_UID) && !numbers.contains(&CONTROL_GID));
        }
    }
}
