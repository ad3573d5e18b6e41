//! An entry of `install`: which crate, from where, built how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cargo_metadata::semver::VersionReq;
use serde_json::Value;

use super::git_url::{GitUrl, is_crate_name};
use super::suggestion::quoted;
use super::table::{Table, shown};
use super::{GitReference, Install, Source, names, schema};
use crate::failure::Failure;

/// The entry `name` of `install`: a version requirement or a table.
pub fn read(install: &Table<'_>, name: &str) -> Result<Install, Failure> {
    match install.value(name) {
        Some(Value::String(_)) => {
            let version = install.parsed(name, requirement)?.flatten();
            let package = package_named(install, name, name)?;
            Ok(plain(name, Source::Registry { package, version, registry: None }))
        }
        Some(Value::Object(_)) => match install.table(name)? {
            Some(spec) => from_table(&spec, Some(name)),
            None => Err(install.wrong_type(name, "a version or a table")),
        },
        _ => Err(install.wrong_type(name, "a version or a table")),
    }
}

/// The crate `spec` describes. `name` is that of the entry; without one (`init = { … }`), it is the crate's.
pub fn from_table(spec: &Table<'_>, name: Option<&str>) -> Result<Install, Failure> {
    spec.check_keys(schema::INSTALL)?;
    let source = source(spec, name)?;
    let name = match (name, &source) {
        (Some(name), _) => name.to_owned(),
        (None, Source::Registry { package, .. } | Source::Git { package, .. }) => package.clone(),
        (None, Source::Path { path }) => package_at(spec, path)?,
    };
    let default_features = match (spec.boolean("default-features")?, spec.boolean("no-default-features")?) {
        (Some(_), Some(_)) => {
            return Err(spec.invalid("no-default-features", "cannot stand beside `default-features`"));
        }
        (on, off) => on.unwrap_or(true) && !off.unwrap_or(false),
    };
    Ok(Install {
        name,
        source,
        bins: binaries(spec)?.unwrap_or_default(),
        features: spec.strings("features")?.unwrap_or_default(),
        all_features: spec.boolean("all-features")?.unwrap_or(false),
        no_default_features: !default_features,
        profile: spec.string("profile")?.map(str::to_owned),
        locked: spec.boolean("locked")?.unwrap_or(true),
        env: BTreeMap::new(),
    })
}

/// The list `bins` of `table`.
pub fn binaries(table: &Table<'_>) -> Result<Option<Vec<String>>, Failure> {
    let Some(bins) = table.strings("bins")? else { return Ok(None) };
    if bins.is_empty() {
        return Err(table.invalid("bins", "is empty; leave it out for all binaries"));
    }
    for bin in &bins {
        names::binary(bin)
            .map_err(|expected| table.invalid("bins", format!("has {bin:?} where it needs {expected}")))?;
    }
    Ok(Some(bins))
}

/// An install of all binaries with the default features.
fn plain(name: &str, source: Source) -> Install {
    Install {
        name: name.to_owned(),
        source,
        bins: Vec::new(),
        features: Vec::new(),
        all_features: false,
        no_default_features: false,
        profile: None,
        locked: true,
        env: BTreeMap::new(),
    }
}

fn source(spec: &Table<'_>, name: Option<&str>) -> Result<Source, Failure> {
    let chosen: Vec<_> = ["path", "git"].into_iter().filter(|key| spec.has(key)).collect();
    if let [first, second] = chosen[..] {
        return Err(spec.invalid(second, format!("cannot stand beside `{first}`: a crate has one source")));
    }
    let kind = chosen.first().copied().unwrap_or("version");
    let foreign: &[&str] = match kind {
        "path" => &["version", "registry", "branch", "tag", "rev", "package"],
        "git" => &["version", "registry"],
        _ => &["branch", "tag", "rev"],
    };
    if let Some(key) = foreign.iter().find(|key| spec.has(key)) {
        let problem = match kind {
            "version" => "needs `git` beside it".to_owned(),
            kind => format!("cannot stand beside `{kind}`"),
        };
        return Err(spec.invalid(key, problem));
    }
    match kind {
        "path" => {
            let path = spec.folder().join(spec.string("path")?.unwrap_or_default());
            if !path.join("Cargo.toml").is_file() {
                let problem = format!("has no Cargo.toml: {} is not a package", shown(&path).display());
                return Err(spec.invalid("path", problem));
            }
            Ok(Source::Path { path: normal(&path) })
        }
        "git" => git(spec),
        _ => {
            let package = match (spec.string("package")?, name) {
                (Some(package), _) => package_named(spec, "package", package)?,
                (None, Some(name)) => package_named(spec, "version", name)?,
                (None, None) => return Err(spec.no_crate()),
            };
            Ok(Source::Registry {
                package,
                version: spec.parsed("version", requirement)?.flatten(),
                registry: spec.string("registry")?.map(str::to_owned),
            })
        }
    }
}

fn git(spec: &Table<'_>) -> Result<Source, Failure> {
    let Some(GitUrl { url, package }) = spec.parsed("git", GitUrl::parse)? else {
        return Err(spec.no_crate());
    };
    let package = match spec.string("package")? {
        Some(package) => package_named(spec, "package", package)?,
        None => package,
    };
    let references: Vec<_> = ["branch", "tag", "rev"].into_iter().filter(|key| spec.has(key)).collect();
    let reference = match references[..] {
        [] => GitReference::Head,
        [key] => {
            let text = spec.string(key)?.unwrap_or_default().to_owned();
            if text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace) {
                return Err(spec.invalid(key, format!("must be a git {key}, not {text:?}")));
            }
            match key {
                "branch" => GitReference::Branch(text),
                "tag" => GitReference::Tag(text),
                _ => GitReference::Rev(text),
            }
        }
        [first, second, ..] => return Err(spec.invalid(second, format!("cannot stand beside `{first}`"))),
    };
    Ok(Source::Git { url, package, reference })
}

/// A version requirement as in `[dependencies]`: a bare `1.2` means `^1.2`. `*` is the newest, `None`.
///
/// It is made explicit because `cargo install --version 1.2.3` would take exactly that version.
fn requirement(text: &str) -> Result<Option<String>, String> {
    match VersionReq::parse(text) {
        Ok(any) if any == VersionReq::STAR => Ok(None),
        Ok(requirement) => Ok(Some(requirement.to_string())),
        Err(error) => Err(format!("a version requirement such as \"1.2\" ({error})")),
    }
}

fn package_named(table: &Table<'_>, key: &str, package: &str) -> Result<String, Failure> {
    if is_crate_name(package) {
        Ok(package.to_owned())
    } else {
        Err(table.invalid(key, format!("cannot be installed: {package:?} is not a crate's name")))
    }
}

/// The name of the package in the folder `path`.
fn package_at(spec: &Table<'_>, path: &Path) -> Result<String, Failure> {
    let file = path.join("Cargo.toml");
    let name = std::fs::read_to_string(&file)
        .map_err(|error| error.to_string())
        .and_then(|text| text.parse::<toml::Table>().map_err(|error| error.message().to_owned()))
        .map(|manifest| Some(manifest.get("package")?.get("name")?.as_str()?.to_owned()));
    match name {
        Ok(Some(name)) => Ok(name),
        Ok(None) => {
            Err(spec.invalid("path", format!("names no package: {} has none", shown(&file).display())))
        }
        Err(error) => Err(spec.invalid("path", format!("leads to {}: {error}", shown(&file).display()))),
    }
}

/// `path` without `.` and `..`, where that does not need the file system to be asked for symbolic links.
fn normal(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

impl Table<'_> {
    /// The error for a table that does not say which crate.
    fn no_crate(&self) -> Failure {
        let sources = quoted(["path", "git", "package"]);
        self.itself_invalid(format!("names no crate; it needs one of {sources}"))
    }
}
