//! The directories of an appliance's builds on this machine, and their names in the binaries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::command::{Paths, configs_above, network_settings};
use crate::config::{Appliance, Install, Source};
use crate::toolchain::{Environment, Toolchain};
use crate::user_directories::CACHE;
use krazy_boot::digest::hex;

/// The directories of an appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `TARGET/krazy`.
    pub(crate) krazy: PathBuf,
    /// The directory of our own programs, which all appliances of the user share.
    pub(crate) programs: PathBuf,
    workspace: PathBuf,
    board: &'static str,
}

impl Layout {
    /// The directories of `appliance`. Without a directory for caches, our own programs are built beside the others.
    pub(crate) fn of(appliance: &Appliance, env: &Environment) -> Self {
        let krazy = appliance.target_directory.join("krazy");
        let cache = CACHE.find_by(|name| env.var(name).map(ToOwned::to_owned));
        Layout {
            programs: cache.map_or_else(|_| krazy.clone(), |cache| cache.join("programs")),
            krazy,
            workspace: appliance.workspace_root.clone(),
            board: appliance.board.name,
        }
    }

    /// Returns the directory of everything that is made for `install`.
    pub(crate) fn place(&self, install: &Install) -> &Path {
        if install.ours { &self.programs } else { &self.krazy }
    }

    /// Returns the root of `install`, which does not depend on C compilers: these are looked for only if it is to be
    /// made.
    pub(crate) fn root(&self, install: &Install, toolchain: &Toolchain) -> PathBuf {
        // Projects with different compilers must not replace each other's in turn.
        let compiler = install.ours.then_some((&toolchain.rustc.version, &toolchain.std));
        let hash = short_hash(&format!("{}\n{install:?}\n{compiler:?}", self.board));
        let name: String = install.name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        self.place(install).join("install").join(format!("{name}-{hash}"))
    }

    /// Returns the paths of `install`.
    pub(crate) fn paths(&self, install: &Install, toolchain: &Toolchain) -> Paths {
        let home = toolchain.env.cargo_home();
        let above = || configs_above(&toolchain.directory, home.as_deref());
        let configs = match &install.source {
            Source::Path { .. } if self.other_workspace(install).is_none() => Vec::new(),
            // Cargo reads the configuration of that workspace, which does not know what this one has vendored.
            Source::Path { .. } => {
                let vendored = toolchain.vendored();
                vendored.iter().flat_map(|vendored| network_settings(&vendored.config)).collect()
            }
            _ if install.ours => above().iter().flat_map(|config| network_settings(config)).collect(),
            _ => above().into_iter().map(OsString::from).collect(),
        };
        Paths { root: self.root(install, toolchain), build: self.build(install, toolchain), configs }
    }

    /// The workspace of a path crate when it is not the user's.
    fn other_workspace(&self, install: &Install) -> Option<PathBuf> {
        let Source::Path { path } = &install.source else { return None };
        Some(workspace_of(path)).filter(|workspace| install.ours || *workspace != self.workspace)
    }

    /// The workspace whose directory does not show in the binaries; none for our own programs from a registry.
    fn hidden_workspace(&self, install: &Install) -> Option<PathBuf> {
        self.other_workspace(install).or_else(|| (!install.ours).then(|| self.workspace.clone()))
    }

    /// The target directory: one for the user's workspace and registry crates, one for each other workspace and
    /// each git repository; others for another C compiler, whose objects must not be mixed.
    ///
    /// Cargo tells packages of a directory apart by their path *within their workspace*, so two workspaces that
    /// share a target directory can be handed each other's binaries. And flags that name another workspace
    /// would make every dependency compile again, back and forth.
    fn build(&self, install: &Install, toolchain: &Toolchain) -> PathBuf {
        let other = match &install.source {
            Source::Git { url, .. } => Some(url.clone()),
            _ => self.other_workspace(install).map(|workspace| workspace.display().to_string()),
        };
        let compiler = toolchain.c_compiler_identity();
        let hash = short_hash(&format!("{}\n{compiler}", other.unwrap_or_default()));
        self.place(install).join(format!("build-{hash}"))
    }

    /// Directories and what rustc shall call them, the most general first, as rustc takes the last that matches.
    ///
    /// The directories above the workspace become `..`, so that a path dependency beside it keeps its relative name.
    pub(crate) fn remaps(&self, install: &Install, toolchain: &Toolchain) -> Vec<(PathBuf, String)> {
        let workspace = self.hidden_workspace(install);
        let ancestors = workspace.iter().flat_map(|workspace| workspace.ancestors().skip(1));
        let mut remaps: Vec<_> = ancestors
            .filter(|directory| directory.parent().is_some())
            .enumerate()
            .map(|(index, directory)| {
                (directory.to_owned(), format!("/appliance{}", "/..".repeat(index + 1)))
            })
            .collect();
        remaps.reverse();
        remaps.extend(self.prefix_maps(install, toolchain));
        remaps
    }

    /// The same without the directories above the workspace, for C compilers, which match text and not directories.
    pub(crate) fn prefix_maps(&self, install: &Install, toolchain: &Toolchain) -> Vec<(PathBuf, String)> {
        let workspace = self.hidden_workspace(install).map(|workspace| (workspace, "/appliance".to_owned()));
        let mut maps: Vec<_> = workspace.into_iter().collect();
        maps.extend(toolchain.env.cargo_home().map(|home| (home, "/cargo".to_owned())));
        maps.push((toolchain.rustc.sysroot.clone(), "/rust".to_owned()));
        maps.push((self.build(install, toolchain), "/target".to_owned()));
        maps
    }
}

/// The root of the workspace a package is in: the one it names, else the nearest directory, upwards, whose
/// Cargo.toml has `[workspace]`, unless that excludes the package.
pub(crate) fn workspace_of(package: &Path) -> PathBuf {
    let manifest = |directory: &Path| -> Option<toml::Table> {
        std::fs::read_to_string(directory.join("Cargo.toml")).ok()?.parse().ok()
    };
    let named = manifest(package).and_then(|manifest| {
        let named = package.join(manifest.get("package")?.get("workspace")?.as_str()?);
        Some(named.canonicalize().unwrap_or(named))
    });
    if let Some(named) = named {
        return named;
    }
    for directory in package.ancestors() {
        let Some(workspace) = manifest(directory).and_then(|mut manifest| manifest.remove("workspace"))
        else {
            continue;
        };
        let excluded = workspace.get("exclude").and_then(toml::Value::as_array).is_some_and(|excluded| {
            excluded
                .iter()
                .filter_map(toml::Value::as_str)
                .any(|path| package.starts_with(directory.join(path)))
        });
        return if excluded { package } else { directory }.to_owned();
    }
    package.to_owned()
}

fn short_hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_workspace_is_found_as_cargo_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for (place, text) in [
            ("", "[workspace]\nmembers = [\"a\"]\nexclude = [\"apart\"]\n"),
            ("a", "[package]\nname = \"a\"\n"),
            ("apart/b", "[package]\nname = \"b\"\n"),
            ("apart/c", "[package]\nname = \"c\"\nworkspace = \"../..\"\n"),
            ("own", "[package]\nname = \"own\"\n[workspace]\n"),
        ] {
            std::fs::create_dir_all(root.join(place)).unwrap();
            std::fs::write(root.join(place).join("Cargo.toml"), text).unwrap();
        }
        for (package, workspace) in [("a", ""), ("apart/b", "apart/b"), ("apart/c", ""), ("own", "own")] {
            assert_eq!(
                workspace_of(&root.join(package)),
                root.join(workspace).components().collect::<PathBuf>()
            );
        }
    }
}
