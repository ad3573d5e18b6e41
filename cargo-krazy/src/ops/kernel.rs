//! The kernels that images are made with: listed, fetched, updated.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use crate::config::{Appliance, KernelSource};
use crate::failure::{Exit, Explain, Result};
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::firmware::BootFirmware;
use crate::kernel::source::cache::KernelCache;
use crate::kernel::source::debian::{self, Request};
use crate::kernel::source::{self, Change, Inventory, Update};
use crate::lock_file::LockFile;
use crate::shell::Shell;

/// Locked and cached kernels, and the newest ones if they were asked for.
pub(crate) struct KernelList {
    inventory: Inventory,
    newest: Vec<Newest>,
}

/// A kernel that was fetched.
#[derive(Serialize)]
struct Fetched<'a> {
    board: &'a str,
    release: &'a str,
    origin: &'a str,
    /// The kernel image.
    image: &'a Path,
    /// SHA-256 of the image.
    sha256: &'a str,
}

/// The newest kernel, or firmware of the board, at its source, compared with the locked one.
struct Newest {
    update: Update,
}

#[derive(Serialize)]
struct Updated<'a> {
    #[serde(flatten)]
    update: &'a Update,
    /// Set when the lock file was changed.
    written: bool,
}

/// An update that cannot be looked up.
#[derive(Debug, thiserror::Error)]
enum KernelError {
    #[error("the newest kernel is known only to its source, and --offline forbids to ask it")]
    Offline,
    #[error("the kernel is {0}, which has no newer versions to look up")]
    NoVersions(KernelSource),
}

impl Explain for KernelError {
    fn exit(&self) -> Exit {
        match self {
            KernelError::Offline => Exit::Usage,
            KernelError::NoVersions(_) => Exit::Config,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            KernelError::Offline => "run it without --offline",
            KernelError::NoVersions(KernelSource::Url { .. }) => {
                "to change it, set `url` and `sha256` of the kernel in Cargo.toml"
            }
            KernelError::NoVersions(KernelSource::Path(_)) => {
                "replace what is there, and the next build takes it"
            }
            KernelError::NoVersions(KernelSource::Debian { .. }) => "run `cargo krazy kernel fetch`",
        };
        Some(help.to_owned())
    }
}

/// Lists the kernels of the workspace and of this machine's cache; with `newest`, asks the source for a newer one.
pub(crate) fn list(appliance: &Appliance, newest: bool, shell: Shell) -> Result<KernelList> {
    let lock = LockFile::load(&appliance.workspace_root)?;
    let cache = KernelCache::of_user()?;
    let inventory = Inventory::new(&appliance.kernel, appliance.board, &lock, &cache, SystemTime::now())?;
    let newest = if newest { ask_newest(appliance, &lock, shell)? } else { Vec::new() };
    Ok(KernelList { inventory, newest })
}

impl KernelList {
    /// Writes the list for programs.
    pub(crate) fn messages(&self, shell: Shell) -> Result<()> {
        let Inventory { locked, cached, .. } = &self.inventory;
        locked.iter().try_for_each(|entry| shell.message("kernel-locked", entry))?;
        cached.iter().try_for_each(|bundle| shell.message("kernel-cached", bundle))?;
        self.newest.iter().try_for_each(|newest| newest.message(false, shell))
    }
}

impl fmt::Display for KernelList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inventory.fmt(f)?;
        if !self.newest.is_empty() {
            writeln!(f, "\nNewest at its source")?;
        }
        self.newest.iter().try_for_each(|newest| writeln!(f, "  {newest}"))
    }
}

/// Brings the kernel of `appliance`, and its board's firmware, into the cache.
pub(crate) fn fetch(appliance: &Appliance, shell: Shell) -> Result<()> {
    let bundle = source::of_appliance(appliance, shell)?;
    source::firmware_of_appliance(appliance, shell)?;
    let board = appliance.board.name;
    shell.status("Cached", format!("{} for {board}: {}", bundle.release, bundle.origin));
    let KernelBundle { release, origin, image, sha256, .. } = &bundle;
    shell.message("kernel-fetched", &Fetched { board, release, origin, image, sha256 })
}

/// Locks the newest kernel, and firmware, of the appliance's source; with `dry_run`, only reports it.
pub(crate) fn update(
    appliance: &Appliance,
    allow_downgrade: bool,
    dry_run: bool,
    shell: Shell,
) -> Result<()> {
    let mut lock = LockFile::load(&appliance.workspace_root)?.frozen(appliance.locked);
    for newest in ask_newest(appliance, &lock, shell)? {
        let update = &newest.update;
        let written = !dry_run && update.change != Change::None;
        if written {
            update.write(&mut lock, allow_downgrade)?;
        }
        let verb = match update.change {
            Change::None => "Unchanged",
            _ if !written => "Available",
            Change::First => "Locking",
            Change::Older => "Downgrading",
            Change::Newer | Change::Replaced => "Updating",
        };
        shell.status(verb, newest.to_string());
        newest.message(written, shell)?;
    }
    Ok(())
}

/// Returns the newest kernel, then the newest firmware, of those that the appliance takes from a series of versions.
fn ask_newest(appliance: &Appliance, lock: &LockFile, shell: Shell) -> Result<Vec<Newest>> {
    let kernel = match &appliance.kernel {
        KernelSource::Debian { package, suite, mirror } => {
            Some(Request { package, suite, mirror: mirror.as_deref() })
        }
        KernelSource::Url { .. } | KernelSource::Path(_) => None,
    };
    let firmware = source::firmware_request(appliance.board);
    if kernel.is_none() && firmware.is_none() {
        return Err(KernelError::NoVersions(appliance.kernel.clone()).into());
    }
    if appliance.offline {
        return Err(KernelError::Offline.into());
    }
    let board = appliance.board;
    let kernel = kernel.map(|request| debian::newest::<KernelBundle>(request, board, shell));
    let firmware = firmware.map(|request| debian::newest::<BootFirmware>(request, board, shell));
    let newest = kernel.into_iter().chain(firmware);
    newest.map(|newest| Ok(Newest { update: Update::new(lock, newest?) })).collect()
}

impl Newest {
    fn message(&self, written: bool, shell: Shell) -> Result<()> {
        shell.message("kernel-update", &Updated { update: &self.update, written })
    }
}

impl fmt::Display for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let new = &self.update.new;
        write!(f, "{} of Debian {} for {}: {}", new.package, new.suite, new.board, self.update)
    }
}
