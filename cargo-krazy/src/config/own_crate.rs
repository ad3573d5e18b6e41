//! The user's own package: its binaries and their install.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Package, Target};

use super::error::Result;
use super::origins::Origins;
use super::suggestion::{did_you_mean, quoted};
use super::{Install, Source};

/// Features of the own package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnFeatures {
    /// `--features`.
    pub(crate) features: Vec<String>,
    /// `--all-features`.
    pub(crate) all_features: bool,
    /// `--no-default-features`.
    pub(crate) no_default_features: bool,
}

/// The own package's install, and the binaries it gives.
#[derive(Debug)]
pub(crate) struct OwnCrate {
    /// The request to cargo.
    pub(crate) install: Install,
    /// The names of the binaries that will be installed.
    pub(crate) binaries: Vec<String>,
}

/// Returns the install of `package`, checked against its targets: `bins`, or all whose required features are on.
/// `requested` are those of the features that come from the command line. `None` for a package without programs, or with
/// an empty `bins`, if there are `others` to install.
pub(crate) fn install(
    package: &Package,
    features: OwnFeatures,
    requested: &[String],
    bins: Option<Vec<String>>,
    profile: Option<String>,
    others: bool,
    origins: &Origins,
) -> Result<Option<OwnCrate>> {
    let known = |feature: &&String| feature.contains('/') || package.features.contains_key(feature.as_str());
    if let Some(unknown) = features.features.iter().find(|feature| !known(feature)) {
        let message = format!("the package `{}` has no feature `{unknown}`", package.name);
        let help = did_you_mean(unknown, "features", package.features.keys().map(String::as_str));
        let key: &[&[&str]] = if requested.contains(unknown) { &[] } else { &[&["features"]] };
        return Err(origins.error(key, message).help(help));
    }
    let targets: Vec<_> = package.targets.iter().filter(|target| target.is_bin()).collect();
    let is_wanted = !targets.is_empty() && bins.as_ref().is_none_or(|bins| !bins.is_empty());
    if !is_wanted && others {
        return Ok(None);
    }
    if let Some([]) = bins.as_deref() {
        let problem = "is empty, and there is nothing under `install`, so there is nothing to run";
        return Err(origins.invalid(&["bins"], problem));
    }
    let bins = bins.unwrap_or_default();
    if targets.is_empty() {
        let message = format!("the package `{}` has no binary, so there is nothing to run", package.name);
        let help = "add src/main.rs or a [[bin]] target, name crates under `install`, or put the metadata into the package \
                    that has a program";
        return Err(origins.error(&[], message).help(help));
    }
    let names = || targets.iter().map(|target| target.name.as_str());
    if let Some(unknown) = bins.iter().find(|bin| !names().any(|name| name == *bin)) {
        let problem = format!("has `{unknown}`, which is no binary of `{}`", package.name);
        return Err(origins.invalid(&["bins"], problem).help(did_you_mean(unknown, "binaries", names())));
    }
    let enabled = enabled(package, &features);
    let lacks = |target: &Target| -> Vec<String> {
        target
            .required_features
            .iter()
            .filter(|feature| !enabled.contains(feature.as_str()))
            .cloned()
            .collect()
    };
    let selected: Vec<_> =
        targets.iter().filter(|target| bins.is_empty() || bins.contains(&target.name)).collect();
    // If several lack features, the one named like the package is what the user thinks of.
    let lacking = || selected.iter().filter(|target| !lacks(target).is_empty());
    let lacking = lacking().find(|target| package.name == target.name).or_else(|| lacking().next());
    let binaries: Vec<_> =
        selected.iter().filter(|target| lacks(target).is_empty()).map(|target| target.name.clone()).collect();
    if let Some(target) = lacking.filter(|_| !bins.is_empty() || binaries.is_empty()) {
        let needed = lacks(target);
        let message = format!(
            "the binary `{}` requires features that are off: {}",
            target.name,
            quoted(needed.iter().map(String::as_str))
        );
        let help = format!("add `features = {needed:?}` to [package.metadata.krazy]");
        return Err(origins.error(&[&["features"], &["bins"]], message).help(help));
    }
    let dir = package.manifest_path.parent().unwrap_or(&package.manifest_path);
    let install = Install {
        name: package.name.to_string(),
        key: Vec::new(),
        source: Source::Path { path: dir.into() },
        bins,
        features: features.features,
        all_features: features.all_features,
        no_default_features: features.no_default_features,
        profile,
        locked: true,
        env: BTreeMap::new(),
        ours: false,
    };
    Ok(Some(OwnCrate { install, binaries }))
}

/// All features that are on, as cargo would compute them, without those of dependencies.
fn enabled<'a>(package: &'a Package, features: &'a OwnFeatures) -> BTreeSet<&'a str> {
    let mut open: Vec<&str> = features.features.iter().map(String::as_str).collect();
    if features.all_features {
        open.extend(package.features.keys().map(String::as_str));
    }
    if !features.no_default_features {
        open.push("default");
    }
    let mut enabled = BTreeSet::new();
    while let Some(feature) = open.pop() {
        // `dependency/feature` also turns the optional dependency on; `dependency?/feature` does not.
        let feature = match feature.split_once('/') {
            Some((dependency, _)) if dependency.ends_with('?') => continue,
            Some((dependency, _)) => dependency,
            None => feature,
        };
        if enabled.insert(feature) {
            open.extend(package.features.get(feature).into_iter().flatten().map(String::as_str));
        }
    }
    enabled
}
