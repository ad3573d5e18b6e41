//! The directory that `cargo krazy vendor DIR` fills, and the way to it: `[source.krazy-vendor]` in cargo's configuration.
//!
//! ```text
//! DIR/crates/NAME-VERSION/  a directory source of cargo: the crates under `install`, our own programs, all dependencies
//! DIR/git/NAME-HASH/        the git repositories under `install`, as cargo keeps them in CARGO_HOME/git/db
//! DIR/downloads/SHA256      the kernel, the firmware and zig, as they are downloaded
//! ```
//!
//! `cargo install --git` takes the crate itself from a repository, never from a directory source: that is why repositories
//! are kept whole (cargo 1.95).

use std::path::{Path, PathBuf};

use crate::download::{self, Expected};
use crate::failure::Result;
use crate::files::{copy_directory, io_failure, sorted_entries};

/// The name of the source.
pub(crate) const SOURCE: &str = "krazy-vendor";
/// The directory of crates.
pub(crate) const CRATES: &str = "crates";
/// The directory of git repositories.
pub(crate) const REPOSITORIES: &str = "git";
/// The directory of downloads.
pub(crate) const DOWNLOADS: &str = "downloads";

/// The next step where something is not on this machine, and must not be downloaded.
pub(crate) const HELP: &str =
    "run once without `--offline`, or bring it with `cargo krazy vendor DIR` from a machine with the network";

/// A directory that was vendored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vendored {
    directory: PathBuf,
    /// The file of cargo's configuration that names it.
    pub(crate) config: PathBuf,
}

impl Vendored {
    /// Returns the directory that the nearest configuration above `package`, or that of cargo's own home, names.
    pub(crate) fn find(package: &Path, cargo_home: Option<&Path>) -> Option<Self> {
        let above = package.ancestors().map(|ancestor| ancestor.join(".cargo"));
        above.chain(cargo_home.map(Path::to_owned)).find_map(|directory| {
            let mut files = ["config", "config.toml"].iter().map(|name| directory.join(name));
            files.find_map(|config| {
                // Cargo reads the path relative to the directory above that of the file.
                let crates = directory.parent()?.join(crates_of(&config)?);
                Some(Vendored { directory: crates.parent()?.to_owned(), config })
            })
        })
    }

    /// Returns the download with this SHA-256, verified, if it was vendored.
    ///
    /// # Errors
    /// If the file cannot be read or is not the expected one.
    pub(crate) fn download(&self, expected: &Expected) -> Result<Option<PathBuf>> {
        let file = self.directory.join(DOWNLOADS).join(&expected.sha256);
        if !file.is_file() {
            return Ok(None);
        }
        download::verify_file(&file, expected)?;
        Ok(Some(file))
    }

    /// Copies the git repositories that cargo's home lacks.
    pub(crate) fn supply_repositories(&self, cargo_home: &Path) -> Result<()> {
        let vendored = self.directory.join(REPOSITORIES);
        if !vendored.is_dir() {
            return Ok(());
        }
        let database = cargo_home.join("git/db");
        std::fs::create_dir_all(&database).map_err(io_failure("create", &database))?;
        for (name, path, metadata) in sorted_entries(&vendored)? {
            let repository = database.join(&name);
            if !metadata.is_dir() || repository.exists() {
                continue;
            }
            let new = tempfile::tempdir_in(&database).map_err(io_failure("write", &database))?;
            copy_directory(&path, new.path(), &[])?;
            std::fs::rename(new.path(), &repository).map_err(io_failure("write", &repository))?;
            // It has another name now, under which the guard must not remove it.
            let _renamed = new.keep();
        }
        Ok(())
    }
}

/// Returns the directory of vendored crates that a configuration file names.
pub(crate) fn crates_of(config: &Path) -> Option<PathBuf> {
    let table = std::fs::read_to_string(config).ok()?.parse::<toml::Table>().ok()?;
    Some(table.get("source")?.get(SOURCE)?.get("directory")?.as_str()?.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nearest_configuration_names_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let (package, home) = (root.join("ws/app"), root.join("home"));
        let text = |path: &str| format!("[source.krazy-vendor]\ndirectory = \"{path}\"\n");
        for (file, text) in [
            ("home/config.toml", text("/srv/brought/crates")),
            ("ws/.cargo/config.toml", text("vendor/crates")),
            ("ws/app/.cargo/config.toml", "[source.vendored]\ndirectory = \"other\"\n".to_owned()),
        ] {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let directory = |package: &Path| Vendored::find(package, Some(&home)).unwrap().directory;
        assert_eq!(directory(&package), root.join("ws/vendor"));
        assert_eq!(directory(Path::new("/")), Path::new("/srv/brought"));
        assert_eq!(Vendored::find(Path::new("/"), None), None);
    }

    #[test]
    fn damaged_download_is_named() {
        let root = tempfile::tempdir().unwrap();
        let vendored = Vendored { directory: root.path().to_owned(), config: PathBuf::new() };
        let sha256 = "ab".repeat(32);
        let expected = Expected { size: None, sha256: sha256.clone(), limit: 9 };
        assert_eq!(vendored.download(&expected).unwrap(), None);
        fs::create_dir(root.path().join(DOWNLOADS)).unwrap();
        fs::write(root.path().join(DOWNLOADS).join(&sha256), "x").unwrap();
        let error = vendored.download(&expected).unwrap_err().to_string();
        assert!(error.contains(&format!("downloads/{sha256}")), "{error}");
    }

    #[test]
    fn repositories_are_copied_to_cargos_home_once() {
        let root = tempfile::tempdir().unwrap();
        let vendored = Vendored { directory: root.path().join("vendor"), config: PathBuf::new() };
        let home = root.path().join("home");
        vendored.supply_repositories(&home).unwrap();
        assert!(!home.exists());
        let objects = root.path().join("vendor/git/clock-0123/objects");
        fs::create_dir_all(&objects).unwrap();
        fs::write(objects.join("pack"), "new").unwrap();
        vendored.supply_repositories(&home).unwrap();
        let copy = home.join("git/db/clock-0123/objects/pack");
        assert_eq!(fs::read_to_string(&copy).unwrap(), "new");
        fs::write(&copy, "own").unwrap();
        vendored.supply_repositories(&home).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), "own");
        assert_eq!(fs::read_dir(home.join("git/db")).unwrap().count(), 1);
    }
}
