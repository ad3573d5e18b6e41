//! The directories of an appliance's builds on this machine, and their names in the binaries.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::command::{Paths, configs_above};
use crate::config::{Appliance, Install, Source};
use crate::toolchain::Toolchain;
use krazy_boot::digest::hex;

/// The directories of an appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `TARGET/krazy`.
    pub(crate) krazy: PathBuf,
    workspace: PathBuf,
    board: &'static str,
}

impl Layout {
    /// The directories of `appliance`.
    pub(crate) fn of(appliance: &Appliance) -> Self {
        Layout {
            krazy: appliance.target_directory.join("krazy"),
            workspace: appliance.workspace_root.clone(),
            board: appliance.board.name,
        }
    }

    /// Returns the paths of `install`.
    pub(crate) fn paths(&self, install: &Install, toolchain: &Toolchain) -> Paths {
        let hash = short_hash(&format!("{}\n{install:?}", self.board));
        let name: String = install.name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        Paths {
            root: self.krazy.join("install").join(format!("{name}-{hash}")),
            build: self.build(install),
            configs: configs_above(&toolchain.directory, toolchain.env.cargo_home().as_deref()),
        }
    }

    /// The workspace of a path crate when it is not the user's.
    fn other_workspace(&self, install: &Install) -> Option<PathBuf> {
        let Source::Path { path } = &install.source else { return None };
        Some(workspace_of(path)).filter(|workspace| *workspace != self.workspace)
    }

    /// The target directory: one for the user's workspace and registry crates, one for each other workspace and
    /// each git repository.
    ///
    /// Cargo tells packages of a directory apart by their path *within their workspace*, so two workspaces that
    /// share a target directory can be handed each other's binaries. And flags that name another workspace
    /// would make every dependency compile again, back and forth.
    fn build(&self, install: &Install) -> PathBuf {
        let other = match &install.source {
            Source::Git { url, .. } => Some(url.clone()),
            _ => self.other_workspace(install).map(|workspace| workspace.display().to_string()),
        };
        match other {
            Some(other) => self.krazy.join(format!("build-{}", short_hash(&other))),
            None => self.krazy.join("build"),
        }
    }

    /// Directories and what rustc shall call them, the most general first, as rustc takes the last that matches.
    ///
    /// The directories above the workspace become `..`, so that a path dependency beside it keeps its relative name.
    pub(crate) fn remaps(&self, install: &Install, toolchain: &Toolchain) -> Vec<(PathBuf, String)> {
        let workspace = self.other_workspace(install).unwrap_or_else(|| self.workspace.clone());
        let ancestors = workspace.ancestors().skip(1).filter(|directory| directory.parent().is_some());
        let mut remaps: Vec<_> = ancestors
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
        let workspace = self.other_workspace(install).unwrap_or_else(|| self.workspace.clone());
        let mut maps = vec![(workspace, "/appliance".to_owned())];
        maps.extend(toolchain.env.cargo_home().map(|home| (home, "/cargo".to_owned())));
        maps.push((toolchain.rustc.sysroot.clone(), "/rust".to_owned()));
        maps.push((self.build(install), "/target".to_owned()));
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
