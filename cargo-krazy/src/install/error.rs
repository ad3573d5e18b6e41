//! The failures of installing crates. Cargo's own text, which the user has seen, is read once, in [`classify`].

use std::io;
use std::path::PathBuf;

use crate::config::{Install, Source};
use crate::failure::{Exit, Explain};
use crate::toolchain::Toolchain;
use crate::toolchain::diagnosis::{Diagnosis, between, diagnose};
use crate::vendored;

/// The failure of an install. `package` describes the crate and its source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The directory of a path crate has no Cargo.toml.
    #[error("`{name}` has no crate in {}", path.display())]
    NoCrate {
        /// The name of the entry.
        name: String,
        /// The directory.
        path: PathBuf,
    },
    /// `--locked` forbids to resolve it.
    #[error("{package} {missing}, and --locked was given")]
    NotLocked {
        /// The crate.
        package: String,
        /// The missing lock, such as `has no Cargo.lock`.
        missing: String,
    },
    /// The result of another commit was taken again.
    #[error("{package} was not compiled anew: cargo used what it had built of another commit")]
    Reused {
        /// The crate.
        package: String,
    },
    /// The crate is a library, or `bins` and `features` leave nothing.
    #[error("{package} {}", if *library { "has no binary to install: it is a library" } else { "installed no binary" })]
    NoBinary {
        /// The crate.
        package: String,
        /// Set if cargo's reason is that the crate is a library.
        library: bool,
    },
    /// The Cargo.lock does not fit the manifest.
    #[error("the Cargo.lock of {package} does not fit its Cargo.toml")]
    StaleLock {
        /// The crate.
        package: String,
    },
    /// The crate needs a newer compiler.
    #[error("{package} needs Rust {needed}, and this is Rust {found}")]
    OldRust {
        /// The crate.
        package: String,
        /// The version it needs.
        needed: String,
        /// The version of rustc.
        found: String,
    },
    /// A profile, branch, tag or commit that the crate does not have.
    #[error("{package} has no {} `{name}`", setting.noun())]
    Unknown {
        /// The crate.
        package: String,
        /// The setting that names it.
        setting: Setting,
        /// The name.
        name: String,
    },
    /// No such crate in the registry or repository.
    #[error("{package} does not exist")]
    NotFound {
        /// The crate.
        package: String,
        /// Set for a git repository.
        git: bool,
    },
    /// Something is missing that only the network has.
    #[error("{package} {}", if *itself { "has not been downloaded yet" } else { "needs something that is not downloaded yet" })]
    NotDownloaded {
        /// The crate.
        package: String,
        /// Set if it is the crate itself, not a dependency.
        itself: bool,
    },
    /// The network, the registry or the repository failed.
    #[error("failed to download {package}")]
    Network {
        /// The crate.
        package: String,
        /// Set for a git repository.
        git: bool,
    },
    /// Cargo does not start.
    #[error("failed to run {}: {error}", program.display())]
    NoCargo {
        /// The executable.
        program: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// Cargo failed for a reason that [`diagnose`] knows, or for another.
    #[error("failed to {package_and_cause}", package_and_cause = match diagnosis {
        Some(found) => format!("build {package}: {}", found.cause),
        None => format!("install {package}"),
    })]
    Build {
        /// The crate.
        package: String,
        /// The cause, if it is a known one.
        diagnosis: Option<Diagnosis>,
    },
}

/// A setting that names a part of a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `profile`.
    Profile,
    /// `features`.
    Feature,
    /// `branch`.
    Branch,
    /// `tag`.
    Tag,
    /// `rev`.
    Rev,
}

impl Setting {
    fn noun(self) -> &'static str {
        match self {
            Setting::Profile => "cargo profile",
            Setting::Feature => "feature",
            Setting::Branch => "branch",
            Setting::Tag => "tag",
            Setting::Rev => "commit",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Setting::Profile => {
                "look for a typing error in `profile` or `--profile`, or define it in Cargo.toml"
            }
            Setting::Feature => "look for a typing error in `features`",
            Setting::Branch => "look for a typing error in `branch`",
            Setting::Tag => "look for a typing error in `tag`",
            Setting::Rev => "look for a typing error in `rev`, or delete its entry in Krazy.lock",
        }
    }
}

impl Explain for InstallError {
    fn exit(&self) -> Exit {
        match self {
            InstallError::NoCrate { .. } | InstallError::NotLocked { .. } => Exit::Config,
            InstallError::NotDownloaded { .. } | InstallError::Network { .. } => Exit::Fetch,
            InstallError::Build { diagnosis: Some(Diagnosis { missing_tool: true, .. }), .. } => {
                Exit::MissingTool
            }
            InstallError::NoCargo { .. } => Exit::MissingTool,
            InstallError::NoBinary { .. }
            | InstallError::Reused { .. }
            | InstallError::StaleLock { .. }
            | InstallError::OldRust { .. }
            | InstallError::Unknown { .. }
            | InstallError::NotFound { .. }
            | InstallError::Build { .. } => Exit::Build,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            InstallError::NoCrate { .. } => "correct its `path`",
            InstallError::NotLocked { .. } => "run once without `--locked`",
            InstallError::Reused { .. } => "remove the directory `krazy` in cargo's target directory",
            InstallError::NoBinary { library: true, .. } => {
                "an appliance holds programs: add a src/main.rs, or name another crate"
            }
            InstallError::NoBinary { library: false, .. } => "look at its `bins` and `features`",
            InstallError::StaleLock { .. } => "run once without `--locked`, or set `locked = false` for it",
            InstallError::OldRust { .. } => "run `rustup update`, or ask for an older version of it",
            InstallError::Unknown { setting, .. } => setting.help(),
            InstallError::NotFound { git: true, .. } => "name the crate: `git = \"URL%CRATE\"`",
            InstallError::NotFound { git: false, .. } => "look for a typing error in its name and version",
            InstallError::NotDownloaded { .. } => vendored::HELP,
            InstallError::Network { git: true, .. } => {
                "check the network and the `git` URL; with everything downloaded before, `--offline` needs neither"
            }
            InstallError::Network { git: false, .. } => {
                "check the network; with everything downloaded before, `--offline` does without it"
            }
            InstallError::NoCargo { .. } => "install Rust: https://rustup.rs",
            InstallError::Build { diagnosis: Some(found), .. } => &found.help,
            InstallError::Build { diagnosis: None, .. } => "cargo's message above says why",
        };
        Some(help.to_owned())
    }
}

/// Returns true if `stderr` is cargo's message about a lock file that does not fit the manifests.
fn is_stale(stderr: &str) -> bool {
    stderr.contains("because --locked was passed") || stderr.contains("but --locked was passed")
}

/// Returns the failure of installing `install`, read from the end of cargo's standard error.
pub(super) fn classify(
    install: &Install,
    stderr: &str,
    toolchain: &Toolchain,
    offline: bool,
) -> InstallError {
    let package = describe(install);
    let git = matches!(install.source, Source::Git { .. });
    let has = |text: &str| stderr.contains(text);
    if has("there is nothing to install in") || has("no packages found with binaries or examples") {
        return InstallError::NoBinary { package, library: true };
    }
    if is_stale(stderr) {
        return InstallError::StaleLock { package };
    }
    if let Some(needed) = between(stderr, "it requires rustc ", " or newer") {
        let found = toolchain.rustc.release().to_string();
        return InstallError::OldRust { package, needed: needed.to_owned(), found };
    }
    let named = [
        (Setting::Profile, "profile `", "` is not defined"),
        (Setting::Branch, "failed to find branch `", "`"),
        (Setting::Tag, "failed to find tag `", "`"),
        (Setting::Rev, "revspec '", "' not found"),
    ];
    for (setting, start, end) in named {
        if let Some(name) = between(stderr, start, end) {
            return InstallError::Unknown { package, setting, name: name.to_owned() };
        }
    }
    let features =
        ["does not contain this feature: ", "does not contain these features: ", "does not have feature "];
    if let Some(name) = features.iter().find_map(|start| rest_of_line(stderr, start)) {
        let name = name.trim_matches(|c: char| c == '`' || c == '\'' || c == '.').to_owned();
        return InstallError::Unknown { package, setting: Setting::Feature, name };
    }
    if has("forgotten to be re-vendored") {
        return InstallError::NotDownloaded { package, itself: false };
    }
    // Cargo prints "could not find" for an empty cache as well.
    let compiled = has("could not compile `");
    if !compiled && (has("could not find `") || has("no matching package named")) {
        return match offline || (!git && toolchain.vendored().is_some()) {
            true => InstallError::NotDownloaded { package, itself: true },
            false => InstallError::NotFound { package, git },
        };
    }
    if offline && (has("--offline") || has("offline mode") || has("--frozen")) {
        return InstallError::NotDownloaded { package, itself: false };
    }
    if is_network(stderr) {
        return InstallError::Network { package, git };
    }
    let diagnosis = diagnose(stderr, toolchain).or_else(|| outdated_dependency(install, stderr, toolchain));
    InstallError::Build { package, diagnosis }
}

/// Returns the diagnosis for a dependency that does not compile, in the version that the published lock file of the crate
/// names: that file may be older than the compiler.
fn outdated_dependency(install: &Install, stderr: &str, toolchain: &Toolchain) -> Option<Diagnosis> {
    let own = match &install.source {
        Source::Registry { package, .. } => package.as_str(),
        Source::Git { package, .. } => package.as_str(),
        Source::Path { .. } => return None,
    };
    let failed = between(stderr, "could not compile `", "`").filter(|name| *name != own)?;
    install.locked.then(|| Diagnosis {
        cause: format!("its dependency `{failed}` does not compile"),
        help: format!(
            "its published Cargo.lock may be too old for Rust {}: set `locked = false` for it",
            toolchain.rustc.release()
        ),
        missing_tool: false,
    })
}

/// Returns the text after `start` up to the end of its line.
fn rest_of_line<'t>(text: &'t str, start: &str) -> Option<&'t str> {
    text.lines().find_map(|line| Some(line.split_once(start)?.1))
}

/// Returns true if cargo failed because it could not reach or read a registry or repository.
pub(super) fn is_network(stderr: &str) -> bool {
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

/// Describes the crate and its source.
pub(super) fn describe(install: &Install) -> String {
    match &install.source {
        Source::Path { path } => format!("the crate in {}", path.display()),
        Source::Registry { package, version: Some(version), .. } => {
            format!("the crate `{package}` {version}")
        }
        Source::Registry { package, .. } => format!("the crate `{package}`"),
        Source::Git { url, package, .. } => format!("the crate `{package}` of {url}"),
    }
}
