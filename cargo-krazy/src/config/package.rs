//! The selection of the workspace's package that becomes the appliance.

use std::path::Path;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde_json::Value;

use super::error::{ConfigError, Result};
use super::names;
use super::origins::shown;
use super::suggestion::{did_you_mean, quoted};

/// Returns the workspace of `manifest_path`, or of the working directory, as `cargo metadata` describes it.
///
/// Dependencies are not asked for: that takes 50 ms instead of seconds, and needs no network.
pub(crate) fn workspace(manifest_path: Option<&Path>) -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    if let Some(path) = manifest_path {
        command.manifest_path(path);
    }
    command.no_deps().exec().map_err(|error| match error {
        // cargo's own message, without its `error: `, for ours has one already.
        cargo_metadata::Error::CargoMetadata { stderr } => {
            let stderr = stderr.trim();
            let error = selection(stderr.strip_prefix("error: ").unwrap_or(stderr));
            if stderr.contains("could not find `Cargo.toml`") {
                return error.help("go to the directory of a crate, or name one with `--manifest-path`");
            }
            error
        }
        cargo_metadata::Error::Io(error) => Box::new(ConfigError::NoCargo(error)),
        other => Box::new(ConfigError::Metadata(other)),
    })
}

fn selection(message: impl Into<String>) -> Box<ConfigError> {
    Box::new(ConfigError::Selection { message: message.into(), help: None })
}

/// Returns the value of `krazy` in a `metadata` table.
pub(crate) fn krazy(metadata: &Value) -> Option<&Value> {
    metadata.get("krazy")
}

/// Returns the package to make: the one that was `named`, else the one cargo would take, else the only member of the
/// workspace that has `[package.metadata.krazy]`.
pub(crate) fn select<'a>(metadata: &'a Metadata, named: Option<&str>) -> Result<&'a Package> {
    let members = metadata.workspace_packages();
    if let Some(named) = named {
        let matches = |package: &&&Package| match named.split_once('@') {
            Some((name, version)) => package.name == name && package.version.to_string() == version,
            None => package.name == named,
        };
        let package = members.iter().find(matches).copied().ok_or_else(|| unknown(&members, named))?;
        return with_table(metadata, package);
    }
    let defaults = metadata.workspace_default_packages();
    let has_table = |package: &&&Package| krazy(&package.metadata).is_some();
    let candidates: Vec<_> = defaults.iter().filter(has_table).copied().collect();
    match (&candidates[..], &defaults[..]) {
        ([package], _) => return Ok(package),
        ([_, ..], _) => return Err(several(&candidates)),
        // In a member's directory, that member is meant and no other.
        ([], [package]) if !is_root(metadata, package) || members.len() == 1 => {
            return with_table(metadata, package);
        }
        ([], _) => {}
    }
    match &members.iter().filter(has_table).copied().collect::<Vec<_>>()[..] {
        [package] => Ok(package),
        [] => Err(missing(metadata, &defaults)),
        several_members => Err(several(several_members)),
    }
}

fn is_root(metadata: &Metadata, package: &Package) -> bool {
    package.manifest_path.parent() == Some(metadata.workspace_root.as_path())
}

/// Returns `package` if it or its workspace has a table.
fn with_table<'a>(metadata: &Metadata, package: &'a Package) -> Result<&'a Package> {
    if krazy(&package.metadata).or(krazy(&metadata.workspace_metadata)).is_some() {
        Ok(package)
    } else {
        Err(missing(metadata, &[package]))
    }
}

fn unknown(members: &[&Package], named: &str) -> Box<ConfigError> {
    let names = members.iter().map(|package| package.name.as_str());
    selection(format!("the workspace has no package `{named}`")).help(did_you_mean(named, "packages", names))
}

fn several(packages: &[&Package]) -> Box<ConfigError> {
    let names = quoted(packages.iter().map(|package| package.name.as_str()));
    let first = packages.first().map_or("PACKAGE", |package| package.name.as_str());
    selection(format!("several packages have [package.metadata.krazy]: {names}"))
        .help(format!("choose one, such as `-p {first}`"))
}

/// Returns the error for no table anywhere, with one to paste.
fn missing(metadata: &Metadata, packages: &[&Package]) -> Box<ConfigError> {
    let paste = |package: &Package| {
        let hostname = names::default_hostname(&package.name);
        format!("\n\n[package.metadata.krazy]\nhostname = {hostname:?}")
    };
    match packages {
        [package] => {
            let file = shown(package.manifest_path.as_std_path());
            let message = format!("{file} has no [package.metadata.krazy], so there is no appliance to make");
            selection(message).help(format!("add this to it:{}", paste(package)))
        }
        _ => {
            let root = metadata.workspace_root.join("Cargo.toml");
            let file = shown(root.as_std_path());
            let names = quoted(packages.iter().map(|package| package.name.as_str()));
            let message = format!("no package of the workspace {file} has [package.metadata.krazy]");
            let table = packages.first().map(|package| paste(package)).unwrap_or_default();
            selection(message)
                .help(format!("add one to the Cargo.toml of the right package ({names}):{table}"))
        }
    }
}
