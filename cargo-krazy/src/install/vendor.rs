//! Every crate of an appliance in one directory, for builds without the network. Its layout is in [`crate::vendored`].
//!
//! `cargo vendor` knows workspaces only. So each crate under `install` becomes the dependency of a scratch package first,
//! which brings its sources and their Cargo.lock; then all of them are vendored together, each with its own lock file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use super::command::{config_files, has_directory_source};
use super::error::{InstallError, classify};
use super::layout::workspace_of;
use super::{located, run};
use crate::config::{Appliance, GitReference, Install, Source};
use crate::failure::Result;
use crate::files::{copy_directory, io_failure, sorted_entries};
use crate::interrupt;
use crate::lock_file::LockFile;
use crate::shell::Shell;
use crate::toolchain::Toolchain;
use crate::vendored::{CRATES, REPOSITORIES, SOURCE};

/// The name that `cargo vendor` gives to the source.
const CARGOS_SOURCE: &str = "vendored-sources";

/// One crate of the appliance, ready for `cargo vendor --sync`.
struct Fetched {
    /// The Cargo.toml of its workspace.
    manifest: PathBuf,
    /// Its directory in a directory source, which `--sync` leaves out: only dependencies are vendored.
    package: Option<PathBuf>,
}

/// Fills DIRECTORY/crates and DIRECTORY/git with all crates of `appliance`, which Krazy.lock holds then. Returns cargo's
/// configuration, with the paths of `directory` as they are given.
pub(crate) fn vendor(
    appliance: &Appliance,
    toolchain: &Toolchain,
    directory: &Path,
    shell: Shell,
) -> Result<toml::Table> {
    let scratch = tempfile::tempdir().context("failed to create a temporary directory")?;
    let absolute = std::path::absolute(directory).map_err(io_failure("find", directory))?;
    let vendor = Vendor { appliance, toolchain, directory: &absolute, scratch: &scratch, shell };
    let mut lock = LockFile::load(&appliance.workspace_root)?.frozen(appliance.locked);
    let mut fetched = Vec::new();
    for (index, install) in appliance.installs.iter().chain([&appliance.first_stage]).enumerate() {
        let one = vendor.fetch(install, index, &mut lock);
        fetched.push(one.map_err(|failure| located(appliance, install, failure))?);
        interrupt::check()?;
    }
    let mut manifests: Vec<_> = fetched.iter().map(|one| &one.manifest).collect();
    manifests.sort();
    manifests.dedup();
    shell.status("Vendoring", format!("crates to {}", absolute.join(CRATES).display()));
    let text = vendor.cargo_vendor(&appliance.first_stage, &manifests, &absolute.join(CRATES))?;
    for package in fetched.iter().filter_map(|one| one.package.as_ref()) {
        let name = package.file_name().unwrap_or_default();
        let copy = absolute.join(CRATES).join(name);
        fs::create_dir_all(&copy).map_err(io_failure("create", &copy))?;
        copy_directory(package, &copy, &[])?;
    }
    configuration(&text, &directory.join(CRATES))
}

/// Returns cargo's configuration with our name for the source, and its `crates` as they are given.
fn configuration(text: &str, crates: &Path) -> Result<toml::Table> {
    let text = text.replace(&format!("\"{CARGOS_SOURCE}\""), &format!("\"{SOURCE}\""));
    let mut table: toml::Table =
        text.parse().context("failed to read the configuration of `cargo vendor`")?;
    let mut sources = match table.remove("source") {
        Some(toml::Value::Table(sources)) => sources,
        _ => toml::Table::new(),
    };
    sources.remove(CARGOS_SOURCE);
    let own = toml::Table::from_iter([("directory".to_owned(), crates.display().to_string().into())]);
    sources.insert(SOURCE.to_owned(), own.into());
    // Crates under `install` come from there, too, whether or not they have dependencies.
    let registry = toml::Table::from_iter([("replace-with".to_owned(), SOURCE.into())]);
    sources.entry("crates-io").or_insert(registry.into());
    table.insert("source".to_owned(), sources.into());
    Ok(table)
}

struct Vendor<'a> {
    appliance: &'a Appliance,
    toolchain: &'a Toolchain,
    directory: &'a Path,
    scratch: &'a TempDir,
    shell: Shell,
}

impl Vendor<'_> {
    /// Brings the sources of `install` to this machine, and locks what its requirement resolved to.
    fn fetch(&self, install: &Install, index: usize, lock: &mut LockFile) -> Result<Fetched> {
        let package = match &install.source {
            Source::Path { path } if !path.join("Cargo.toml").is_file() => {
                return Err(InstallError::NoCrate { name: install.name.clone(), path: path.clone() }.into());
            }
            Source::Path { path } => {
                return Ok(Fetched { manifest: workspace_of(path).join("Cargo.toml"), package: None });
            }
            Source::Registry { package, .. } | Source::Git { package, .. } => package,
        };
        self.shell.status("Fetching", format!("`{}`", install.name));
        let scratch = self.scratch.path().join(format!("scratch-{index}"));
        let dependency = dependency(&install.source, lock.pin(&install.source));
        let manifest = toml::Table::from_iter([
            ("workspace".to_owned(), toml::Table::new().into()),
            (
                "package".to_owned(),
                toml::Table::from_iter([text("name", "scratch"), text("edition", "2024")]).into(),
            ),
            (
                "dependencies".to_owned(),
                toml::Table::from_iter([("it".to_owned(), dependency.into())]).into(),
            ),
        ]);
        fs::create_dir_all(scratch.join("src")).map_err(io_failure("create", &scratch))?;
        write(&scratch.join("src/lib.rs"), "")?;
        let manifest_path = scratch.join("Cargo.toml");
        write(&manifest_path, &manifest.to_string())?;
        let crates = scratch.join(CRATES);
        self.cargo_vendor(install, &[&manifest_path], &crates)?;

        let resolved = Resolved::read(&scratch.join("Cargo.lock"), package, &install.source)?;
        lock.set_pin(&install.source, &resolved.pin)?;
        let copy = self.scratch.path().join(format!("sync-{index}"));
        fs::create_dir_all(&copy).map_err(io_failure("create", &copy))?;
        let without: &[&str] = if install.locked { &[] } else { &["Cargo.lock"] };
        if let Source::Registry { .. } = install.source {
            let source = crates.join(format!("{package}-{}", resolved.version));
            copy_directory(&source, &copy, without)?;
            return Ok(Fetched { manifest: copy.join("Cargo.toml"), package: Some(source) });
        }
        let home = self.toolchain.env.cargo_home().context("cargo has no home directory: HOME is not set")?;
        let checkout = self.copy_repositories(&home, &resolved.pin)?;
        copy_directory(&checkout, &copy, &[without, &[".git"]].concat())?;
        let found = package_in(&copy, package)?
            .with_context(|| format!("{} has no package `{package}`", checkout.display()))?;
        Ok(Fetched { manifest: workspace_of(&found).join("Cargo.toml"), package: None })
    }

    /// Copies the repositories of cargo's home that have checked out `commit`, and returns the checkout.
    fn copy_repositories(&self, home: &Path, commit: &str) -> Result<PathBuf> {
        let mut found = None;
        for (name, checkouts, _) in sorted_entries(&home.join("git/checkouts"))? {
            let mut checkouts = sorted_entries(&checkouts)?.into_iter();
            let Some((_, checkout, _)) = checkouts.find(|(short, ..)| commit.starts_with(short.as_str()))
            else {
                continue;
            };
            let copy = self.directory.join(REPOSITORIES).join(&name);
            if copy.exists() {
                fs::remove_dir_all(&copy).map_err(io_failure("remove", &copy))?;
            }
            fs::create_dir_all(&copy).map_err(io_failure("create", &copy))?;
            copy_directory(&home.join("git/db").join(&name), &copy, &[])?;
            found = Some(checkout);
        }
        let missing = || format!("cargo has no checkout of {commit} in {}", home.join("git").display());
        Ok(found.with_context(missing)?)
    }

    /// Runs `cargo vendor` for the workspaces of `manifests`, and returns the configuration that it prints. A failure is that
    /// of `install`.
    fn cargo_vendor(&self, install: &Install, manifests: &[&PathBuf], crates: &Path) -> Result<String> {
        let Toolchain { env, directory, .. } = self.toolchain;
        let mut cargo = env.command(env.cargo());
        cargo.current_dir(directory).args(["vendor", "--versioned-dirs"]);
        // Neither the directory of an earlier run nor one of `cargo vendor` has everything; a mirror has.
        if !config_files(directory).any(|config| has_directory_source(&config)) {
            cargo.arg("--respect-source-config");
        }
        if self.appliance.locked && manifests.len() > 1 {
            cargo.arg("--locked");
        }
        for (index, manifest) in manifests.iter().enumerate() {
            cargo.arg(if index == 0 { "--manifest-path" } else { "--sync" }).arg(manifest);
        }
        cargo.arg(crates);
        self.shell.verbose("Running", format!("{cargo:?}"));
        let output = cargo
            .output()
            .map_err(|error| InstallError::NoCargo { program: cargo.get_program().into(), error })?;
        interrupt::check()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            if let Some(start) = stderr.find("error") {
                run::show(&stderr.as_bytes()[start..], &mut std::io::stderr());
            }
            return Err(classify(install, &stderr, self.toolchain, false).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The resolution of a crate in the Cargo.lock of a scratch package.
struct Resolved {
    version: String,
    /// The version, or the commit.
    pin: String,
}

impl Resolved {
    fn read(lock: &Path, package: &str, source: &Source) -> Result<Self> {
        let text = fs::read_to_string(lock).map_err(io_failure("read", lock))?;
        let table: toml::Table = text.parse().context("failed to read cargo's lock file")?;
        let git = matches!(source, Source::Git { .. });
        let packages = table.get("package").and_then(toml::Value::as_array);
        let found = packages.into_iter().flatten().find_map(|entry| {
            let field = |key: &str| entry.get(key).and_then(toml::Value::as_str);
            let origin = field("source")?;
            if field("name") != Some(package) || origin.starts_with("git+") != git {
                return None;
            }
            let version = field("version")?.to_owned();
            let pin = if git { origin.rsplit_once('#')?.1.to_owned() } else { version.clone() };
            Some(Resolved { version, pin })
        });
        Ok(found.with_context(|| format!("`{package}` is not in {}", lock.display()))?)
    }
}

/// Returns the dependency on a crate, exactly at `pin` if it has one.
fn dependency(source: &Source, pin: Option<&str>) -> toml::Table {
    let mut table = toml::Table::from_iter([("default-features".to_owned(), false.into())]);
    match source {
        Source::Registry { package, version, registry } => {
            let version = match (pin, version) {
                (Some(pin), _) => format!("={pin}"),
                (None, Some(version)) => version.clone(),
                (None, None) => "*".to_owned(),
            };
            table.extend([text("package", package), text("version", &version)]);
            table.extend(registry.iter().map(|registry| text("registry", registry)));
        }
        Source::Git { url, package, reference } => {
            table.extend([text("package", package), text("git", url)]);
            table.extend(match (pin, reference) {
                (Some(pin), _) => Some(text("rev", pin)),
                (None, GitReference::Rev(rev)) => Some(text("rev", rev)),
                (None, GitReference::Branch(branch)) => Some(text("branch", branch)),
                (None, GitReference::Tag(tag)) => Some(text("tag", tag)),
                (None, GitReference::Head) => None,
            });
        }
        Source::Path { .. } => {}
    }
    table
}

fn text(key: &str, value: &str) -> (String, toml::Value) {
    (key.to_owned(), value.into())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(io_failure("write", file))
}

/// Returns the directory below `directory` that has the package `name`.
fn package_in(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    let manifest = fs::read_to_string(directory.join("Cargo.toml")).ok();
    let table = manifest.and_then(|text| text.parse::<toml::Table>().ok());
    if table.is_some_and(|table| {
        table.get("package").and_then(|package| package.get("name")?.as_str()) == Some(name)
    }) {
        return Ok(Some(directory.to_owned()));
    }
    for (_, path, metadata) in sorted_entries(directory)? {
        if metadata.is_dir()
            && let Some(found) = package_in(&path, name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_gets_the_name_and_the_path_that_we_look_for() {
        let text = "[source.crates-io]\nreplace-with = \"vendored-sources\"\n\n[source.\"git+file:///g\"]\ngit = \"file:///g\"\n\
                    replace-with = \"vendored-sources\"\n\n[source.vendored-sources]\ndirectory = \"/tmp/x\"\n";
        let expected = "[source.crates-io]\nreplace-with = \"krazy-vendor\"\n\n[source.\"git+file:///g\"]\ngit = \"file:///g\"\n\
                        replace-with = \"krazy-vendor\"\n\n[source.krazy-vendor]\ndirectory = \"vendor/crates\"\n";
        let expected: toml::Table = expected.parse().unwrap();
        assert_eq!(configuration(text, Path::new("vendor/crates")).unwrap(), expected);
        let sources = configuration("", Path::new("v")).unwrap();
        assert_eq!(sources["source"]["crates-io"]["replace-with"].as_str(), Some("krazy-vendor"));
    }

    #[test]
    fn pin_replaces_the_requirement() {
        let source =
            Source::Registry { package: "dufs".into(), version: Some("^0.43".into()), registry: None };
        let version = |pin| dependency(&source, pin)["version"].as_str().map(str::to_owned);
        assert_eq!(version(None).as_deref(), Some("^0.43"));
        assert_eq!(version(Some("0.43.1")).as_deref(), Some("=0.43.1"));
        let (url, package) = ("file:///g".to_owned(), "clock".to_owned());
        let git = Source::Git { url, package, reference: GitReference::Branch("main".into()) };
        assert_eq!(dependency(&git, None)["branch"].as_str(), Some("main"));
        let pinned = dependency(&git, Some("0123"));
        assert_eq!((pinned["rev"].as_str(), pinned.get("branch")), (Some("0123"), None));
    }
}
