//! The `cargo install` process of one entry: the arguments of the plan, and those that depend on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cargo_util::ProcessBuilder;

use crate::config::{GitReference, Install, Source};
use crate::plan;
use crate::toolchain::{CargoSettings, Toolchain};
use crate::vendored;

/// The paths of one `cargo install`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paths {
    /// `--root`: the entry's own, so that what it holds is exactly what the entry installs.
    pub(crate) root: PathBuf,
    /// `--target-dir`, shared.
    pub(crate) build: PathBuf,
    /// Configuration of the user's package, for crates that are elsewhere: files, the most general first, or single
    /// settings.
    pub(crate) configs: Vec<OsString>,
}

/// Builds the command. `pin` is a version or commit that replaces the requirement.
pub(crate) fn command(
    install: &Install,
    pin: Option<&str>,
    paths: &Paths,
    toolchain: &Toolchain,
    settings: &CargoSettings,
    offline: bool,
) -> ProcessBuilder {
    let mut cargo = ProcessBuilder::new(toolchain.env.cargo());
    let arguments = plan::install_arguments(&pinned(install, pin), &toolchain.triple, offline);
    cargo.cwd(&toolchain.directory).arg("install").args(&arguments);
    for config in &paths.configs {
        cargo.arg("--config").arg(config);
    }
    cargo.arg("--root").arg(&paths.root);
    cargo.arg("--target-dir").arg(&paths.build);
    cargo.args(&["--force", "--message-format=json-render-diagnostics"]).args(&settings.args);
    for (name, value) in &settings.env {
        cargo.env(name, value);
    }
    for (name, value) in &install.env {
        cargo.env(name, value);
    }
    // A build directory that projects share can hold a binary of the same name and version from other sources.
    cargo.env("CARGO_BUILD_BUILD_DIR", &paths.build);
    if install.ours {
        for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            cargo.env(name, "");
        }
    }
    cargo
}

/// The install at exactly the version or commit `pin`.
fn pinned(install: &Install, pin: Option<&str>) -> Install {
    let mut install = install.clone();
    match (&mut install.source, pin) {
        (Source::Registry { version, .. }, Some(pin)) => *version = Some(format!("={pin}")),
        (Source::Git { reference, .. }, Some(pin)) => *reference = GitReference::Rev(pin.to_owned()),
        (Source::Path { .. }, _) | (_, None) => {}
    }
    install
}

/// The cargo configuration files above `directory`, the most general first, without that of cargo's own home,
/// which cargo reads anyway. `cargo install` of a crate that is not a directory would ignore these.
///
/// A file that replaces a registry by a vendored directory is left out: that directory holds the dependencies of the
/// user's package, not the programs to install. That of [`crate::vendored`] holds them, too.
pub(crate) fn configs_above(directory: &Path, cargo_home: Option<&Path>) -> Vec<PathBuf> {
    let mut configs: Vec<_> = config_files(directory)
        .filter(|config| config.parent() != cargo_home)
        .filter(|config| !has_directory_source(config) || vendored::crates_of(config).is_some())
        .collect();
    configs.reverse();
    configs
}

/// The cargo configuration files above `directory`, the nearest first.
pub(crate) fn config_files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    directory.ancestors().map(|ancestor| ancestor.join(".cargo")).filter_map(|dot_cargo| {
        ["config", "config.toml"].iter().map(|name| dot_cargo.join(name)).find(|file| file.is_file())
    })
}

/// The tables of cargo's configuration that say where crates come from, not how they are compiled.
const NETWORK: [&str; 5] = ["source", "registries", "registry", "http", "net"];

/// Returns the settings of a configuration file about the network and registries, as values of `--config`. Secrets, which
/// cargo takes from files only, are left out. A file that cannot be read is reported by cargo, which reads it for the user's
/// own programs.
pub(crate) fn network_settings(config: &Path) -> Vec<OsString> {
    let table = std::fs::read_to_string(config).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let mut settings = Vec::new();
    for (name, value) in table.unwrap_or_default() {
        if NETWORK.contains(&name.as_str()) {
            flatten(&quoted_key(&name), &value, config, &mut settings);
        }
    }
    settings
}

fn flatten(key: &str, value: &toml::Value, config: &Path, settings: &mut Vec<OsString>) {
    if let toml::Value::Table(table) = value {
        for (name, value) in
            table.iter().filter(|(name, _)| !["token", "secret-key"].contains(&name.as_str()))
        {
            flatten(&format!("{key}.{}", quoted_key(name)), value, config, settings);
        }
        return;
    }
    // Cargo reads the path relative to the directory above that of the file.
    let base = config.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let value = match value {
        toml::Value::String(path)
            if [".local-registry", ".directory"].iter().any(|end| key.ends_with(end)) =>
        {
            toml::Value::String(base.join(path).display().to_string())
        }
        other => other.clone(),
    };
    settings.push(format!("{key}={value}").into());
}

/// A key as part of a dotted one.
fn quoted_key(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { toml::Value::String(name.to_owned()).to_string() }
}

/// Returns true if a configuration file replaces a registry by a directory.
pub(crate) fn has_directory_source(config: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(config) else { return false };
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    let sources = table.get("source").and_then(toml::Value::as_table);
    sources.is_some_and(|sources| sources.values().any(|source| source.get("directory").is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_the_network_reach_our_own_programs() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join(".cargo/config.toml");
        std::fs::create_dir_all(config.parent().unwrap()).unwrap();
        let text = "[build]\nrustflags = [\"-Ctarget-cpu=native\"]\n[env]\nA = \"b\"\n[registry]\ntoken = \"x\"\n\
                    [source.crates-io]\nreplace-with = \"my mirror\"\n[source.\"my mirror\"]\nlocal-registry = \"r\"\n";
        std::fs::write(&config, text).unwrap();
        let settings: Vec<_> =
            network_settings(&config).into_iter().map(|setting| setting.into_string().unwrap()).collect();
        let registry = directory.path().join("r");
        assert_eq!(
            settings,
            [
                "source.crates-io.replace-with=\"my mirror\"".to_owned(),
                format!("source.\"my mirror\".local-registry=\"{}\"", registry.display()),
            ]
        );
    }

    #[test]
    fn configuration_is_found_upwards_without_vendoring() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("ws/app");
        for (place, text) in [
            ("ws/.cargo/config.toml", "[net]\nretry = 1\n"),
            ("ws/app/.cargo/config.toml", "[source.vendored]\ndirectory = \"vendor\"\n"),
            ("home/.cargo/config.toml", ""),
            ("vendored/.cargo/config.toml", "[source.krazy-vendor]\ndirectory = \"vendor/crates\"\n"),
        ] {
            let file = directory.path().join(place);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        assert_eq!(configs_above(&inner, None), [directory.path().join("ws/.cargo/config.toml")]);
        let vendored = directory.path().join("vendored");
        let config = vendored.join(".cargo/config.toml");
        assert_eq!(configs_above(&vendored, None), std::slice::from_ref(&config));
        let crates = vendored.join("vendor/crates");
        assert_eq!(
            network_settings(&config),
            [OsString::from(format!("source.krazy-vendor.directory=\"{}\"", crates.display()))]
        );
        let home = directory.path().join("ws/.cargo");
        assert_eq!(configs_above(&inner, Some(&home)), Vec::<PathBuf>::new());
    }
}
