//! Why `cargo install` failed, in one line with the next step. The user has already seen cargo's own text.

use super::cargo_lock;
use crate::config::{Install, Source};
use crate::failure::{Exit, Failure};
use crate::toolchain::Toolchain;
use crate::toolchain::diagnosis::{between, diagnose};

/// The failure of installing `install`, read from the end of cargo's standard error.
pub(crate) fn explain(install: &Install, stderr: &str, toolchain: &Toolchain, offline: bool) -> Failure {
    let crate_name = describe(install);
    let has = |text: &str| stderr.contains(text);
    let build = |message: String| Failure::new(Exit::Build, message);

    if has("there is nothing to install in") || has("no packages found with binaries or examples") {
        return build(format!("{crate_name} has no binary to install: it is a library"))
            .help("an appliance holds programs: add a src/main.rs, or name another crate");
    }
    if cargo_lock::is_stale(stderr) {
        return build(format!("the Cargo.lock of {crate_name} does not fit its Cargo.toml"))
            .help("run once without `--locked`, or set `locked = false` for it");
    }
    if let Some(needed) = between(stderr, "it requires rustc ", " or newer") {
        return build(format!(
            "{crate_name} needs Rust {needed}, and this is Rust {}",
            toolchain.rustc.release()
        ))
        .help("run `rustup update`, or ask for an older version of it");
    }
    if let Some(profile) = between(stderr, "profile `", "` is not defined") {
        return build(format!("{crate_name} has no cargo profile `{profile}`"))
            .help("look for a typing error in `profile` or `--profile`, or define it in Cargo.toml");
    }
    if let Some(branch) = between(stderr, "failed to find branch `", "`") {
        return build(format!("{crate_name} has no branch `{branch}`"))
            .help("look for a typing error in `branch`");
    }
    if let Some(tag) = between(stderr, "failed to find tag `", "`") {
        return build(format!("{crate_name} has no tag `{tag}`")).help("look for a typing error in `tag`");
    }
    if let Some(rev) = between(stderr, "revspec '", "' not found") {
        return build(format!("{crate_name} has no commit `{rev}`"))
            .help("look for a typing error in `rev`, or delete its entry in Krazy.lock");
    }
    // Cargo says "could not find" for an empty cache as well.
    if has("could not find `") || has("no matching package named") {
        if offline {
            return Failure::new(Exit::Fetch, format!("{crate_name} has not been downloaded yet"))
                .help("run once without `--offline`");
        }
        return build(format!("{crate_name} does not exist")).help(match install.source {
            Source::Git { .. } => "name the crate: `git = \"URL%CRATE\"`",
            _ => "look for a typing error in its name and version",
        });
    }
    if offline && (has("--offline") || has("offline mode") || has("--frozen")) {
        return Failure::new(Exit::Fetch, format!("{crate_name} needs something that is not downloaded yet"))
            .help("run once without `--offline`");
    }
    if is_network(stderr) {
        return Failure::new(Exit::Fetch, format!("failed to download {crate_name}")).help(match install.source {
            Source::Git { .. } => "check the network and the `git` URL; with everything downloaded before, `--offline` needs neither",
            _ => "check the network; with everything downloaded before, `--offline` does without it",
        });
    }
    if let Some(found) = diagnose(stderr, toolchain) {
        let exit = if found.missing_tool { Exit::MissingTool } else { Exit::Build };
        return Failure::new(exit, format!("failed to build {crate_name}: {}", found.cause)).help(found.help);
    }
    build(format!("failed to install {crate_name}")).help("cargo's message above says why")
}

/// Returns true if cargo failed because it could not reach or read a registry or repository.
pub(crate) fn is_network(stderr: &str) -> bool {
    let signs = [
        "failed to download",
        "download of config.json failed",
        "failed to clone into",
        "failed to fetch into",
        "failed to query replaced source registry",
        "Could not resolve host",
        "Could not connect to server",
        "network failure",
        "failed to authenticate",
    ];
    signs.iter().any(|sign| stderr.contains(sign)) && !stderr.contains("--offline")
}

/// The crate and where it should be.
pub(crate) fn describe(install: &Install) -> String {
    match &install.source {
        Source::Path { path } => format!("the crate in {}", path.display()),
        Source::Registry { package, version: Some(version), .. } => {
            format!("the crate `{package}` {version}")
        }
        Source::Registry { package, .. } => format!("the crate `{package}`"),
        Source::Git { url, package, .. } => format!("the crate `{package}` of {url}"),
    }
}
