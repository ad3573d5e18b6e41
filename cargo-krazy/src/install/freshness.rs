//! The check that an installed crate is still what cargo would make, without running cargo.
//!
//! `cargo install` on an unchanged directory costs 0.05 to 0.3 s each. Instead the files that decide its outcome
//! are remembered: the sources that cargo's own dependency file lists, every Cargo.toml and Cargo.lock of the
//! local packages and above them, cargo's configuration, `rust-toolchain` files, and the paths where cargo
//! discovers targets by name. Whatever cannot be known this way makes the answer "ask cargo": a build script
//! that does not declare its inputs, or watches a directory; a workspace named from below; included
//! configuration; a file that changed while cargo ran.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cargo_metadata::Message;
use serde::{Deserialize, Serialize};

/// Lag of a file system's clock at most, in nanoseconds: Linux stamps files by the timer tick.
const CLOCK: u128 = 20_000_000;

/// The state of a file: length in bytes and time of change in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    bytes: u64,
    changed: u128,
}

impl Stamp {
    /// The stamp of `file`; `None` if it is not there or is not a file.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        let meta = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
        Some(Stamp { bytes: meta.len(), changed: nanoseconds(meta.modified().ok()?) })
    }
}

fn nanoseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// The files an installed path crate was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    /// Files, absent ones too: `None`.
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// Directories where cargo discovers binaries, and the names in them.
    // The name in records of earlier versions.
    #[serde(rename = "folders")]
    directories: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Inputs {
    /// Returns the inputs of the crate in `package` by cargo's messages, after a run that began at `began`.
    /// `None` when that cannot be told from files: then cargo has to be asked every time.
    pub(crate) fn gather(
        package: &Path,
        messages: &[Message],
        cargo_home: Option<&Path>,
        began: SystemTime,
    ) -> Option<Self> {
        let mut files = BTreeSet::new();
        let mut packages = BTreeSet::from([package.to_owned()]);
        for message in messages {
            match message {
                Message::CompilerArtifact(artifact) => {
                    if artifact.package_id.repr.starts_with("path+") {
                        packages.insert(artifact.manifest_path.parent()?.as_std_path().to_owned());
                    }
                    if let Some(executable) = &artifact.executable {
                        files.extend(listed(&executable.with_extension("d").into_std_path_buf())?);
                    }
                }
                Message::BuildScriptExecuted(script) if script.package_id.repr.starts_with("path+") => {
                    let output = script.out_dir.parent()?.join("output");
                    watches_files_only(&fs::read_to_string(output).ok()?).then_some(())?;
                }
                _ => {}
            }
        }
        let mut directories = BTreeMap::new();
        for directory in &packages {
            let manifest = fs::read_to_string(directory.join("Cargo.toml")).ok()?;
            let manifest: toml::Table = manifest.parse().ok()?;
            let above = manifest.get("package").and_then(|package| package.get("workspace"));
            above.is_none().then_some(())?;
            for name in ["build.rs", "src/main.rs", "src/lib.rs"] {
                files.insert(directory.join(name));
            }
            for ancestor in directory.ancestors() {
                files.extend(["Cargo.toml", "Cargo.lock"].map(|name| ancestor.join(name)));
            }
            let bins = directory.join("src/bin");
            let names = names_in(&bins);
            directories.insert(bins, names);
        }
        let homes = cargo_home.map(Path::to_owned);
        let configs = package.ancestors().map(|ancestor| ancestor.join(".cargo")).chain(homes);
        for config in configs.flat_map(|directory| ["config", "config.toml"].map(|name| directory.join(name)))
        {
            if let Ok(text) = fs::read_to_string(&config) {
                let table: toml::Table = text.parse().ok()?;
                (!table.contains_key("include") && !table.contains_key("paths")).then_some(())?;
            }
            files.insert(config);
        }
        for ancestor in package.ancestors() {
            files.extend(["rust-toolchain", "rust-toolchain.toml"].map(|name| ancestor.join(name)));
        }
        let stamped = |file: PathBuf| {
            let stamp = Stamp::of(&file);
            (file, stamp)
        };
        let files: BTreeMap<_, _> = files.into_iter().map(stamped).collect();
        let began = nanoseconds(began).saturating_sub(CLOCK);
        let changed_meanwhile = files.values().flatten().any(|stamp| stamp.changed >= began);
        (!changed_meanwhile).then_some(Inputs { files, directories })
    }

    /// Returns true if everything still is as it was.
    pub(crate) fn unchanged(&self) -> bool {
        self.files.iter().all(|(file, stamp)| Stamp::of(file) == *stamp)
            && self.directories.iter().all(|(directory, names)| names_in(directory) == *names)
    }
}

/// The files on the right of a dependency file as cargo writes it: one rule, spaces escaped by a backslash.
fn listed(dependency_file: &Path) -> Option<Vec<PathBuf>> {
    let text = fs::read_to_string(dependency_file).ok()?;
    let (_, right) = text.lines().next()?.split_once(": ")?;
    let mut files = Vec::new();
    let mut name = String::new();
    let mut letters = right.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&' ') => name.extend(letters.next()),
            ' ' => files.push(PathBuf::from(std::mem::take(&mut name))),
            other => name.push(other),
        }
    }
    files.push(PathBuf::from(name));
    files.retain(|file| !file.as_os_str().is_empty());
    // A directory, which cargo searches for the newest file, cannot be remembered by one stamp; an absent file makes
    // cargo build every time.
    files.iter().all(|file| file.is_absolute() && file.is_file()).then_some(files)
}

/// Returns true if a build script's output names the files or variables it depends on. Without any, cargo watches the
/// whole package. Variables are part of the key the caller compares.
fn watches_files_only(output: &str) -> bool {
    let directives = ["cargo:rerun-if-", "cargo::rerun-if-"];
    output.lines().any(|line| directives.iter().any(|directive| line.starts_with(directive)))
}

/// The names in a directory, of subdirectories those of `main.rs` in them; nothing if there is no directory.
fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let main = entry.path().join("main.rs").is_file().then(|| format!("{name}/main.rs"));
            [Some(name), main]
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_in(directory: &Path) {
        fs::create_dir_all(directory.join("src")).unwrap();
        fs::write(directory.join("Cargo.toml"), "[package]\nname = \"a\"\n").unwrap();
        fs::write(directory.join("src/main.rs"), "fn main() {}\n").unwrap();
    }

    fn later() -> SystemTime {
        SystemTime::now() + std::time::Duration::from_secs(60)
    }

    #[test]
    fn edits_and_new_places_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("ws/a");
        crate_in(&package);
        let gather = || Inputs::gather(&package, &[], None, later()).unwrap();
        for (place, text) in [
            ("ws/a/src/main.rs", "fn main() { }\n"),
            ("ws/a/src/bin/b.rs", "fn main() {}\n"),
            ("ws/a/src/bin/c/main.rs", "fn main() {}\n"),
            ("ws/a/build.rs", "fn main() {}\n"),
            ("ws/Cargo.lock", "\n"),
            ("ws/.cargo/config.toml", "[build]\n"),
            ("rust-toolchain.toml", "[toolchain]\n"),
        ] {
            let inputs = gather();
            assert!(inputs.unchanged(), "before {place}");
            let file = directory.path().join(place);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            assert!(!inputs.unchanged(), "after {place}");
        }
    }

    #[test]
    fn what_files_cannot_tell_is_left_to_cargo() {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("a");
        crate_in(&package);
        let before = SystemTime::now() - std::time::Duration::from_secs(60);
        assert_eq!(Inputs::gather(&package, &[], None, before), None);
        fs::create_dir_all(directory.path().join(".cargo")).unwrap();
        fs::write(directory.path().join(".cargo/config.toml"), "include = \"x.toml\"\n").unwrap();
        assert_eq!(Inputs::gather(&package, &[], None, later()), None);
        fs::write(directory.path().join(".cargo/config.toml"), "").unwrap();
        assert!(Inputs::gather(&package, &[], None, later()).is_some());
        fs::write(package.join("Cargo.toml"), "[package]\nname = \"a\"\nworkspace = \"../ws\"\n").unwrap();
        assert_eq!(Inputs::gather(&package, &[], None, later()), None);
    }

    #[test]
    fn dependency_files_are_read_as_cargo_writes_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app.d");
        let sources = ["my main.rs", "lib.rs"].map(|name| directory.path().join(name));
        sources.iter().for_each(|source| fs::write(source, "").unwrap());
        let escaped = sources.clone().map(|source| source.to_str().unwrap().replace(' ', "\\ "));
        fs::write(&file, format!("/t/app: {} {}\n", escaped[0], escaped[1])).unwrap();
        assert_eq!(listed(&file), Some(sources.to_vec()));
        fs::remove_file(&sources[1]).unwrap();
        assert_eq!(listed(&file), None, "an absent file");
        fs::write(&file, format!("/t/app: {}\n", directory.path().display())).unwrap();
        assert_eq!(listed(&file), None, "a watched directory");
        assert!(!watches_files_only("cargo:rustc-cfg=x\n"));
        assert!(watches_files_only("cargo::rerun-if-changed=build.rs\n"));
    }
}
