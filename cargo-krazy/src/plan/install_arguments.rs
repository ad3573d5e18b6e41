//! The arguments of `cargo install` for one crate, as plain data.

use std::ffi::{OsStr, OsString};

use crate::config::{GitReference, Install, Source};

/// Returns the arguments of `cargo install` that select the crate, its build options and the target. Directories and
/// settings of this machine are not among them.
pub(crate) fn install_arguments(install: &Install, triple: &str, offline: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: &OsStr| arguments.extend([name.into(), value.to_owned()]);
    let package = match &install.source {
        Source::Registry { package, version, registry } => {
            version.iter().for_each(|version| option("--version", version.as_ref()));
            registry.iter().for_each(|registry| option("--registry", registry.as_ref()));
            Some(package)
        }
        Source::Path { path } => {
            option("--path", path.as_ref());
            None
        }
        Source::Git { url, package, reference } => {
            option("--git", url.as_ref());
            match reference {
                GitReference::Head => {}
                GitReference::Branch(branch) => option("--branch", branch.as_ref()),
                GitReference::Tag(tag) => option("--tag", tag.as_ref()),
                GitReference::Rev(rev) => option("--rev", rev.as_ref()),
            }
            Some(package)
        }
    };
    install.bins.iter().for_each(|bin| option("--bin", bin.as_ref()));
    if !install.features.is_empty() {
        option("--features", install.features.join(",").as_ref());
    }
    install.profile.iter().for_each(|profile| option("--profile", profile.as_ref()));
    let flags = [
        (install.all_features, "--all-features"),
        (install.no_default_features, "--no-default-features"),
        (install.locked, "--locked"),
    ];
    arguments.extend(flags.iter().filter(|(requested, _)| *requested).map(|(_, flag)| flag.into()));
    arguments.extend(package.map(OsString::from));
    arguments.extend(["--target".into(), triple.into()]);
    arguments.extend(offline.then(|| "--offline".into()));
    arguments
}

/// Quotes one word for `sh`.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
