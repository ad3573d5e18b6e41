//! One entry of the list: looked up in its record, or installed by cargo.

use std::fs;
use std::path::Path;

use anyhow::Context;
use cargo_util::ProcessBuilder;

use super::command::{self, Paths};
use super::error::{self, InstallError};
use super::held::Shared;
use super::layout::Layout;
use super::record::{self, Record};
use super::run::{self, Errors, Outcome};
use super::{Installed, cargo_lock, freshness, git};
use crate::config::{Appliance, Install, Source};
use crate::failure::Result;
use crate::interrupt;
use crate::lock_file::LockFile;
use crate::shell::Shell;
use crate::toolchain::{Codegen, StdSource, Supplied, Toolchain};

/// One entry to install.
pub(super) struct Job<'a> {
    pub(super) install: &'a Install,
    pub(super) toolchain: &'a Toolchain,
    pub(super) layout: &'a Layout,
    pub(super) appliance: &'a Appliance,
    /// The lock of our own programs, for one of them.
    pub(super) programs: Option<&'a Shared>,
    pub(super) shell: Shell,
}

impl Job<'_> {
    /// Returns the binaries of the entry, made if anything has changed.
    pub(super) fn perform(&self, lock: &mut LockFile) -> Result<Vec<Installed>> {
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
        // Without the directories of this machine, whose names do not show in the binaries.
        let codegen = toolchain.codegen(&[], install.ours)?;
        let root = layout.root(install, toolchain);
        let fresh = || {
            let record = Record::read(&root)?;
            record
                .holds(&record::key(install, pin.as_deref(), toolchain, &codegen))
                .then_some(record.installed)
        };
        if let Some(installed) = fresh() {
            return Ok(installed);
        }
        let mut make = || self.make(pin.clone(), &codegen, lock);
        match self.programs {
            None => make(),
            // Another process may have made it while we waited.
            Some(programs) => programs.exclusively(self.shell, || fresh().map_or_else(make, Ok)),
        }
    }

    /// Makes its root anew from the newest version or commit that it allows.
    pub(super) fn renew(&self, lock: &mut LockFile) -> Result<()> {
        let codegen = self.toolchain.codegen(&[], self.install.ours)?;
        self.make(None, &codegen, lock).map(drop)
    }

    /// Makes its root anew. The codegen is the one of its record.
    fn make(&self, pin: Option<String>, codegen: &Codegen, lock: &mut LockFile) -> Result<Vec<Installed>> {
        let Job { install, toolchain, layout, .. } = self;
        let paths = layout.paths(install, toolchain);
        remove(&paths.root)?;
        let outcome = self.build(pin.as_deref(), &paths)?;
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
        let key = record::key(install, held.as_deref(), toolchain, codegen);
        Record::new(key, installed.clone(), inputs).write(&paths.root)?;
        Ok(installed)
    }

    /// Runs cargo; if that shows that a C compiler or a C++ library is missing, gets it and runs cargo again.
    fn build(&self, pin: Option<&str>, paths: &Paths) -> Result<Outcome> {
        let Job { install, toolchain, layout, appliance, shell, .. } = *self;
        let codegen = toolchain.codegen(&layout.remaps(install, toolchain), install.ours)?;
        let maps = layout.prefix_maps(install, toolchain);
        let wrappers = layout.place(install).join("toolchain").join(&toolchain.triple);
        loop {
            let settings = toolchain.cargo_settings(&codegen, &maps, &wrappers)?;
            let command =
                |offline: bool| command::command(install, pin, paths, toolchain, &settings, offline);
            let outcome = self.run(command, paths)?;
            let success = outcome.status.success();
            let supplied = toolchain.supply(&outcome.stderr, success, &wrappers, appliance.offline, shell);
            let supplied = supplied.inspect_err(|_| outcome.show_held());
            match supplied? {
                Supplied::Nothing => {
                    outcome.show_held();
                    return Ok(outcome);
                }
                // A build script has looked for a compiler and done without: cargo would not run it again.
                Supplied::Compiler if success => remove(&paths.build)?,
                Supplied::Compiler | Supplied::CxxLibrary => {}
            }
        }
    }

    /// The failure of an install that `--locked` forbids, because of the `missing` lock.
    fn not_locked(&self, missing: String) -> InstallError {
        InstallError::NotLocked { package: error::describe(self.install), missing }
    }

    /// Runs the command, given whether it is offline, with what has to come before it or, in rare cases, twice.
    fn run(&self, command: impl Fn(bool) -> ProcessBuilder, paths: &Paths) -> Result<Outcome> {
        let Job { install, toolchain, appliance, shell, .. } = *self;
        let run = |offline: bool| -> Result<Outcome> {
            let errors = if toolchain.can_supply() { Errors::Hold } else { Errors::Show };
            let outcome = run::run(&command(offline), &toolchain.env, errors, shell)?;
            interrupt::check()?;
            Ok(outcome)
        };
        let offline = appliance.offline;
        match &install.source {
            Source::Path { path } if install.locked => {
                let refreshed =
                    cargo_lock::refresh(path, &paths.configs, toolchain, appliance.locked, offline, shell)?;
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
                if let (Source::Git { .. }, Some(vendored), Some(home)) =
                    (&install.source, toolchain.vendored(), toolchain.env.cargo_home())
                {
                    vendored.supply_repositories(&home)?;
                }
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
                    // With another build directory than ours its fingerprints would still be there.
                    if !git::fresh(&outcome.messages).is_empty() {
                        return Err(InstallError::Reused { package: error::describe(install) }.into());
                    }
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
