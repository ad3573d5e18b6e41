//! Every binary of an appliance, through `cargo install --root`.
//!
//! Below `TARGET/krazy`, where `TARGET` is cargo's target directory:
//!
//! | directory | what |
//! |---|---|
//! | `build` | the target directory that the user's workspace and registry crates share, so that a dependency is compiled once. Not `TARGET` itself: flags differ from the user's own builds, which would undo each other's work |
//! | `build-HASH` | the same for each other workspace and each git repository, see [`layout`] |
//! | `install/NAME-HASH` | one root per entry, its `bin` directory and `krazy.json`, what it was made from; made anew when anything differs, so nothing stale stays |
//! | `toolchain/TRIPLE` | wrappers around the C compiler |
//!
//! The same inputs give the same bytes in any directory: the directories of this machine are mapped to fixed names,
//! lock files are honoured, and what a requirement resolved to is held in Krazy.lock. A path *dependency*
//! outside its workspace is the exception: cargo hashes its absolute path into symbol names.

mod cargo_lock;
mod command;
mod elf;
mod environment;
mod error;
mod freshness;
mod git;
mod layout;
mod names;
mod record;
mod run;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_util::ProcessBuilder;
use serde::{Deserialize, Serialize};

use self::command::Paths;
use self::error::InstallError;
use self::layout::Layout;
use self::record::Record;
use self::run::Outcome;
use crate::config::{Appliance, Install, OWN_INIT, Source};
use crate::failure::Result;
use crate::interrupt;
use crate::lock_file::LockFile;
use crate::shell::Shell;
use crate::toolchain::{StdSource, Toolchain};

/// Everything an appliance's partitions get from crates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// The binaries for `/bin`, in the order of the appliance's list. Names are unique.
    pub(crate) bins: Vec<Installed>,
    /// krazy-init, for the initramfs.
    pub(crate) first_stage: Installed,
    /// The name of the binary that becomes `/bin/init`.
    pub(crate) init: String,
}

impl Installation {
    /// Returns the binary that becomes `/bin/init`: one of `bins`, or the first stage.
    pub(crate) fn init(&self) -> &Installed {
        self.bins.iter().find(|one| one.bin == self.init).unwrap_or(&self.first_stage)
    }
}

/// One binary, ready for `/bin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Installed {
    /// The name of the entry it comes from.
    pub(crate) install: String,
    /// Its name.
    pub(crate) bin: String,
    /// Its path on this machine.
    pub(crate) path: PathBuf,
    /// The package.
    pub(crate) package: String,
    /// The package's version.
    pub(crate) version: String,
    /// The origin of the package, without this machine's directories: `registry+URL`, `git+URL#COMMIT` or `path`.
    pub(crate) source: String,
    /// SHA-256 of the file, in hex.
    pub(crate) sha256: String,
    /// Its length.
    pub(crate) bytes: u64,
}

impl std::fmt::Display for Installed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` v{}", self.package, self.version)
    }
}

/// Installs everything `appliance` lists, in its order. What has not changed is not touched, and cargo not run.
/// Call [`hold`] first.
///
/// # Errors
/// `Exit::Build` for a crate that does not install, a binary that cannot run on the board, or a name that is
/// there twice; `Exit::MissingTool` for a missing compiler; `Exit::Fetch` when something cannot be
/// downloaded; `Exit::Config` when no binary is the init.
pub(crate) fn install_all(
    appliance: &Appliance,
    toolchain: &Toolchain,
    shell: Shell,
) -> Result<Installation> {
    let layout = Layout::of(appliance);
    let mut lock = LockFile::load(&appliance.workspace_root)?;
    let mut perform = |install| {
        let job = Job { install, toolchain, layout: &layout, appliance, shell };
        job.perform(&mut lock).map_err(|failure| match &install.key[..] {
            [] => failure,
            key => {
                let key: Vec<&str> = key.iter().map(String::as_str).collect();
                appliance.origins.locate(&[&key], failure)
            }
        })
    };
    let mut bins = Vec::new();
    for install in &appliance.installs {
        bins.extend(perform(install)?);
        names::check_unique(&bins, &appliance.init)?;
    }
    if appliance.init != OWN_INIT {
        names::check_init(&bins, &appliance.init)?;
    }
    let first_stage = perform(&appliance.first_stage)?
        .into_iter()
        .next()
        .with_context(|| format!("{} installed nothing", appliance.first_stage.name))?;
    Ok(Installation { bins, first_stage, init: appliance.init.clone() })
}

/// Takes the installs of the appliance's target directory for this process, as cargo does with its own. While the
/// file is open, no other process changes binaries that [`install_all`] returned.
pub(crate) fn hold(appliance: &Appliance, shell: Shell) -> anyhow::Result<File> {
    let krazy = &Layout::of(appliance).krazy;
    let failed = || format!("failed to lock {}", krazy.display());
    fs::create_dir_all(krazy).with_context(failed)?;
    let file = File::create(krazy.join(".lock")).with_context(failed)?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        shell.status("Blocking", format!("waiting for another cargo krazy in {}", krazy.display()));
        file.lock().with_context(failed)?;
    }
    Ok(file)
}

/// One entry to install.
struct Job<'a> {
    install: &'a Install,
    toolchain: &'a Toolchain,
    layout: &'a Layout,
    appliance: &'a Appliance,
    shell: Shell,
}

impl Job<'_> {
    fn perform(&self, lock: &mut LockFile) -> Result<Vec<Installed>> {
        let Job { install, toolchain, layout, .. } = self;
        if let Source::Path { path } = &install.source
            && !path.join("Cargo.toml").is_file()
        {
            return Err(InstallError::NoCrate { name: install.name.clone(), path: path.clone() }.into());
        }
        if let Source::Path { path } = &install.source
            && self.appliance.locked
            && !cargo_lock::is_there(path)
        {
            return Err(self.not_locked("has no Cargo.lock".to_owned()).into());
        }
        let pin = lock.pin(&install.source).map(str::to_owned);
        if self.appliance.locked && pin.is_none() && LockFile::needs_pin(&install.source) {
            return Err(self.not_locked(format!("is not in {}", lock.path().display())).into());
        }
        let paths = layout.paths(install, toolchain);
        let codegen = toolchain.codegen(&layout.remaps(install, toolchain))?;
        let key = |pin: Option<&str>| record::key(install, pin, toolchain, &codegen);
        if let Some(record) = Record::read(&paths.root)
            && record.holds(&key(pin.as_deref()))
        {
            return Ok(record.installed);
        }

        let maps = layout.prefix_maps(install, toolchain);
        let wrappers = layout.krazy.join("toolchain").join(&toolchain.triple);
        let settings = toolchain.cargo_settings(&codegen, &maps, &wrappers)?;
        remove(&paths.root)?;
        let command =
            |offline: bool| command::command(install, pin.as_deref(), &paths, toolchain, &settings, offline);
        let outcome = self.run(command, &paths)?;
        if !outcome.status.success() {
            let offline = self.appliance.offline;
            return Err(error::classify(install, &outcome.stderr, toolchain, offline).into());
        }
        let installed = record::inspect(install, &paths.root, &toolchain.triple)?;
        let mut held = pin;
        if let Some(resolved) = installed.first().and_then(record::resolved) {
            lock.set_pin(&install.source, &resolved)?;
            held = lock.pin(&install.source).map(str::to_owned);
        }
        let inputs = match &install.source {
            Source::Path { path } => {
                let home = toolchain.env.cargo_home();
                freshness::Inputs::gather(path, &outcome.messages, home.as_deref(), outcome.began)
            }
            Source::Registry { .. } | Source::Git { .. } => Some(freshness::Inputs::default()),
        };
        Record::new(key(held.as_deref()), installed.clone(), inputs).write(&paths.root)?;
        Ok(installed)
    }

    /// The failure of an install that `--locked` forbids, because of the `missing` lock.
    fn not_locked(&self, missing: String) -> InstallError {
        InstallError::NotLocked { package: error::describe(self.install), missing }
    }

    /// Runs the command, given whether it is offline, with what has to come before it or, in rare cases, twice.
    fn run(&self, command: impl Fn(bool) -> ProcessBuilder, paths: &Paths) -> Result<Outcome> {
        let Job { install, toolchain, appliance, shell, .. } = *self;
        let run = |offline: bool| -> Result<Outcome> {
            let outcome = run::run(&command(offline), &toolchain.env, shell)?;
            interrupt::check()?;
            Ok(outcome)
        };
        let offline = appliance.offline;
        match &install.source {
            Source::Path { path } if install.locked => {
                let refreshed = cargo_lock::refresh(path, toolchain, appliance.locked, offline, shell)?;
                interrupt::check()?;
                if !refreshed.status.success() {
                    return Ok(refreshed);
                }
                // Now everything is there, and `cargo install` need not ask the registry whether a version was
                // withdrawn, which it would: an edit builds without the network, as with `cargo build`. What
                // `-Zbuild-std` needs is not part of the lock file.
                run(offline || toolchain.std != StdSource::BuildStd)
            }
            Source::Path { .. } => run(offline),
            Source::Registry { .. } | Source::Git { .. } => {
                let mut outcome = run(offline)?;
                let mut offline = offline;
                if !outcome.status.success() && !offline && error::is_network(&outcome.stderr) {
                    shell.warn("the network failed: trying with what was downloaded before");
                    offline = true;
                    let second = run(offline)?;
                    if !second.status.success() {
                        return Ok(outcome);
                    }
                    outcome = second;
                }
                let git = matches!(install.source, Source::Git { .. });
                if git && git::forget_fresh(&paths.build, &outcome.messages)? {
                    outcome = run(offline)?;
                }
                Ok(outcome)
            }
        }
    }
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
