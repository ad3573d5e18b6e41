//! krazy-init and krazy-admind, installed like everybody's crates.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Install, Source};

/// Our own init, which is also the first stage of every appliance.
pub(crate) const OWN_INIT: &str = "krazy-init";

/// Our own management API.
pub(crate) const OWN_ADMIND: &str = "krazy-admind";

/// A release profile for size. Measured gains belong to the programs' own figures; the settings are here
/// because an installed crate's profile is that of whoever installs it.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

/// The install of our program `name`: from the checkout this program was built from if that still exists, else
/// from the registry in exactly this program's version.
pub(crate) fn install(name: &str) -> Install {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(|workspace| workspace.join(name));
    let source = match checkout.filter(|path| path.join("Cargo.toml").is_file()) {
        Some(path) => Source::Path { path },
        None => Source::Registry {
            package: name.to_owned(),
            version: Some(concat!("=", env!("CARGO_PKG_VERSION")).to_owned()),
            registry: None,
        },
    };
    Install {
        name: name.to_owned(),
        key: Vec::new(),
        source,
        bins: vec![name.to_owned()],
        features: Vec::new(),
        all_features: false,
        no_default_features: false,
        profile: None,
        locked: true,
        env: PROFILE
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        ours: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_not_in_the_checkout_comes_from_the_registry_in_our_version() {
        let install = install("krazy-unknown");
        let version = Some(format!("={}", env!("CARGO_PKG_VERSION")));
        let package = "krazy-unknown".to_owned();
        assert_eq!(install.source, Source::Registry { package, version, registry: None });
    }
}
