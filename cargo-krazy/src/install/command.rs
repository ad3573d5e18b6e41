//! The `cargo install` process of one entry: the arguments of the plan, and those that depend on this machine.

use std::path::{Path, PathBuf};

use cargo_util::ProcessBuilder;

use crate::config::{GitReference, Install, Source};
use crate::plan;
use crate::toolchain::{CargoSettings, Toolchain};

/// The paths of one `cargo install`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paths {
    /// `--root`: the entry's own, so that what it holds is exactly what the entry installs.
    pub(crate) root: PathBuf,
    /// `--target-dir`, shared.
    pub(crate) build: PathBuf,
    /// Configuration files of the user's package, for crates that are elsewhere: the most general first.
    pub(crate) configs: Vec<PathBuf>,
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
    if !matches!(install.source, Source::Path { .. }) {
        for config in &paths.configs {
            cargo.arg("--config").arg(config);
        }
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
/// user's package, not the programs to install.
pub(crate) fn configs_above(directory: &Path, cargo_home: Option<&Path>) -> Vec<PathBuf> {
    let mut configs: Vec<_> = directory
        .ancestors()
        .map(|ancestor| ancestor.join(".cargo"))
        .filter(|dot_cargo| Some(dot_cargo.as_path()) != cargo_home)
        .filter_map(|dot_cargo| {
            ["config", "config.toml"].iter().map(|name| dot_cargo.join(name)).find(|file| file.is_file())
        })
        .filter(|file| !replaces_by_directory(file))
        .collect();
    configs.reverse();
    configs
}

fn replaces_by_directory(config: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(config) else { return false };
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    let sources = table.get("source").and_then(toml::Value::as_table);
    sources.is_some_and(|sources| sources.values().any(|source| source.get("directory").is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_found_upwards_without_vendoring() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("ws/app");
        for (place, text) in [
            ("ws/.cargo/config.toml", "[net]\nretry = 1\n"),
            ("ws/app/.cargo/config.toml", "[source.vendored]\ndirectory = \"vendor\"\n"),
            ("home/.cargo/config.toml", ""),
        ] {
            let file = directory.path().join(place);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        assert_eq!(configs_above(&inner, None), [directory.path().join("ws/.cargo/config.toml")]);
        let home = directory.path().join("ws/.cargo");
        assert_eq!(configs_above(&inner, Some(&home)), Vec::<PathBuf>::new());
    }
}
