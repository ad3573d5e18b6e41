//! Flags and linker of the user's cargo configuration.
//!
//! cargo-config2 reads it, except for `include` (cargo 1.94): where a file includes others, cargo itself is asked for the
//! merged configuration. `cargo config get` is not stable; it is asked for as `-Zbuild-std` is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_config2::{Config, ResolveOptions};

use super::environment::Environment;
use super::error::ToolchainError;
use crate::failure::Result;

/// Returns true if a linker is configured for `triple` in `directory`, and the flags of rustc.
pub(super) fn of_target(env: &Environment, directory: &Path, triple: &str) -> Result<(bool, Vec<String>)> {
    let wrong = |error| ToolchainError::Configuration { directory: directory.to_owned(), error };
    let options =
        || ResolveOptions::default().env(env.vars().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let home = env.cargo_home();
    let config = match includes(directory, home.as_deref()) {
        false => Config::load_with_options(directory, options().cargo_home(home)),
        true => {
            let place = tempfile::tempdir().context("failed to create a temporary directory")?;
            let merged = place.path().join(".cargo");
            let file = merged.join("config.toml");
            fs::create_dir(&merged).and_then(|()| fs::write(&file, self::merged(env, directory)?)).map_err(
                |error| ToolchainError::Included { directory: directory.to_owned(), why: error.to_string() },
            )?;
            Config::load_with_options(place.path(), options().cargo_home(None))
        }
    };
    let config = config.map_err(wrong)?;
    let linker = config.linker(triple).map_err(wrong)?;
    let flags = config.rustflags(triple).map_err(wrong)?.map(|flags| flags.flags);
    Ok((linker.is_some(), flags.unwrap_or_default()))
}

/// Returns true if a configuration file for `directory` includes others. One that cannot be read is reported by whoever
/// reads the configuration.
fn includes(directory: &Path, home: Option<&Path>) -> bool {
    let above = directory.ancestors().map(|ancestor| ancestor.join(".cargo"));
    let files = above
        .chain(home.map(PathBuf::from))
        .flat_map(|place| ["config", "config.toml"].map(|name| place.join(name)));
    files
        .filter_map(|file| fs::read_to_string(file).ok()?.parse::<toml::Table>().ok())
        .any(|table| table.contains_key("include"))
}

/// Returns the merged configuration for `directory`, as cargo prints it.
fn merged(env: &Environment, directory: &Path) -> std::io::Result<String> {
    let mut command = env.command(env.cargo());
    command.current_dir(directory).env("RUSTC_BOOTSTRAP", "1");
    let output = command.args(["-Zunstable-options", "config", "get", "--format", "json"]).output()?;
    if !output.status.success() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let merged: toml::Table = serde_json::from_slice(&output.stdout)?;
    Ok(merged.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_included_files_count() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join(".cargo");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("config.toml"), "[target.x]\nrustflags = [\"-Cone\"]\n").unwrap();
        let home = directory.path().join("home");
        let env = Environment::current().with("CARGO_HOME", &home);
        let flags = || of_target(&env, directory.path(), "x86_64-unknown-linux-musl").unwrap();
        assert_eq!(flags(), (false, Vec::new()));
        fs::write(
            place.join("more.toml"),
            "[target.x86_64-unknown-linux-musl]\nrustflags = [\"-Ctwo\"]\nlinker = \"mine\"\n",
        )
        .unwrap();
        fs::write(place.join("config.toml"), "include = [\"more.toml\"]\n").unwrap();
        assert_eq!(flags(), (true, vec!["-Ctwo".to_owned()]));
        fs::remove_file(place.join("more.toml")).unwrap();
        let error = of_target(&env, directory.path(), "x").unwrap_err();
        assert!(error.to_string().contains("more.toml"), "{error}");
    }
}
