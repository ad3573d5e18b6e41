//! An entry of `install`: its crate, the source of that, and how it is built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Result};
use super::git_url::{GitUrl, is_crate_name};
use super::origins::{Origins, shown};
use super::values::{Binaries, Either, Requirement};
use super::{GitReference, Install, Source, tables};

/// Returns the install for the entry `name` of `install`.
pub(crate) fn entry(
    name: &str,
    entry: &Either<Requirement, tables::Install>,
    origins: &Origins,
) -> Result<Install> {
    let table = match entry {
        Either::Table(table) => table.clone(),
        Either::Value(version) => {
            tables::Install { version: Some(version.clone()), ..tables::Install::default() }
        }
    };
    let spec = CrateSpec { table, path: vec!["install", name], origins };
    spec.install(Some(name))
}

/// Returns the install for `init = { … }`. Its name is that of the crate.
pub(crate) fn init(table: &tables::Install, origins: &Origins) -> Result<Install> {
    CrateSpec { table: table.clone(), path: vec!["init"], origins }.install(None)
}

/// A table that describes a crate, and its position.
struct CrateSpec<'a> {
    table: tables::Install,
    path: Vec<&'a str>,
    origins: &'a Origins,
}

impl CrateSpec<'_> {
    fn install(self, name: Option<&str>) -> Result<Install> {
        let source = self.source(name)?;
        let name = match (name, &source) {
            (Some(name), _) => name.to_owned(),
            (None, Source::Registry { package, .. } | Source::Git { package, .. }) => package.clone(),
            (None, Source::Path { path }) => self.package_at(path)?,
        };
        let default_features = match (self.table.default_features, self.table.no_default_features) {
            (Some(_), Some(_)) => {
                return Err(self.invalid("no-default-features", "cannot stand beside `default-features`"));
            }
            (on, off) => on.unwrap_or(true) && !off.unwrap_or(false),
        };
        Ok(Install {
            name,
            key: self.path.iter().map(|&key| key.to_owned()).collect(),
            source,
            bins: self.table.bins.map(|Binaries(bins)| bins).unwrap_or_default(),
            features: self.table.features,
            all_features: self.table.all_features,
            no_default_features: !default_features,
            profile: self.table.profile,
            locked: self.table.locked.unwrap_or(true),
            env: BTreeMap::new(),
            ours: false,
        })
    }

    fn source(&self, name: Option<&str>) -> Result<Source> {
        let tables::Install { version, registry, path, git, branch, tag, rev, package, .. } = &self.table;
        let set = [
            ("version", version.is_some()),
            ("registry", registry.is_some()),
            ("branch", branch.is_some()),
            ("tag", tag.is_some()),
            ("rev", rev.is_some()),
            ("package", package.is_some()),
        ];
        let foreign = |keys: &[&str]| set.iter().find(|(key, set)| *set && keys.contains(key));
        match (path, git) {
            (Some(_), Some(_)) => {
                Err(self.invalid("git", "cannot stand beside `path`: a crate has one source"))
            }
            (Some(path), None) => {
                if let Some((key, _)) = foreign(&["version", "registry", "branch", "tag", "rev", "package"]) {
                    return Err(self.invalid(key, "cannot stand beside `path`"));
                }
                let path = self.origins.directory(&self.key("path")).join(path);
                if !path.join("Cargo.toml").is_file() {
                    let problem = format!("has no Cargo.toml: {} is not a package", shown(&path));
                    return Err(self.invalid("path", problem));
                }
                Ok(Source::Path { path: normal(&path) })
            }
            (None, Some(git)) => {
                if let Some((key, _)) = foreign(&["version", "registry"]) {
                    return Err(self.invalid(key, "cannot stand beside `git`"));
                }
                self.git(git)
            }
            (None, None) => {
                if let Some((key, _)) = foreign(&["branch", "tag", "rev"]) {
                    return Err(self.invalid(key, "needs `git` beside it"));
                }
                let package = match (package, name) {
                    (Some(package), _) => self.crate_name("package", package)?,
                    (None, Some(name)) => self.crate_name("version", name)?,
                    (None, None) => {
                        let problem = "names no crate; it needs one of `path`, `git`, `package`";
                        return Err(self.origins.table_invalid(&self.path, problem));
                    }
                };
                let version = version.as_ref().and_then(|version| version.0.clone());
                Ok(Source::Registry { package, version, registry: registry.clone() })
            }
        }
    }

    fn git(&self, text: &str) -> Result<Source> {
        let GitUrl { url, package } = GitUrl::parse(text)
            .map_err(|expected| self.invalid("git", format!("must be {expected}, not {text:?}")))?;
        let package = match &self.table.package {
            Some(package) => self.crate_name("package", package)?,
            None => package,
        };
        let tables::Install { branch, tag, rev, .. } = &self.table;
        let references: Vec<_> = [("branch", branch), ("tag", tag), ("rev", rev)]
            .into_iter()
            .filter_map(|(key, text)| text.clone().map(|text| (key, text)))
            .collect();
        let reference = match &references[..] {
            [] => GitReference::Head,
            [(key, text)] => {
                if text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace) {
                    return Err(self.invalid(key, format!("must be a git {key}, not {text:?}")));
                }
                match *key {
                    "branch" => GitReference::Branch(text.clone()),
                    "tag" => GitReference::Tag(text.clone()),
                    _ => GitReference::Rev(text.clone()),
                }
            }
            [(first, _), (second, _), ..] => {
                return Err(self.invalid(second, format!("cannot stand beside `{first}`")));
            }
        };
        Ok(Source::Git { url, package, reference })
    }

    /// Returns `name` if cargo would take it. The error is about `key`, or about the entry if that gives the name.
    fn crate_name(&self, key: &str, name: &str) -> Result<String> {
        if is_crate_name(name) {
            return Ok(name.to_owned());
        }
        let problem = format!("cannot be installed: {name:?} is not a crate's name");
        Err(match key {
            "package" => self.invalid(key, problem),
            _ => self.origins.invalid(&self.path, problem),
        })
    }

    /// Returns the name of the package in the directory `path`.
    fn package_at(&self, path: &Path) -> Result<String> {
        let file = path.join("Cargo.toml");
        let name = std::fs::read_to_string(&file)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<toml::Table>().map_err(|error| error.message().to_owned()))
            .map(|manifest| Some(manifest.get("package")?.get("name")?.as_str()?.to_owned()));
        match name {
            Ok(Some(name)) => Ok(name),
            Ok(None) => Err(self.invalid("path", format!("names no package: {} has none", shown(&file)))),
            Err(error) => Err(self.invalid("path", format!("leads to {}: {error}", shown(&file)))),
        }
    }

    fn key<'k>(&'k self, key: &'k str) -> Vec<&'k str> {
        self.path.iter().copied().chain([key]).collect()
    }

    fn invalid(&self, key: &str, problem: impl std::fmt::Display) -> Box<ConfigError> {
        self.origins.invalid(&self.key(key), problem)
    }
}

/// Returns `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
