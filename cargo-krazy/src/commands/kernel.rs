//! `cargo krazy kernel`.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use serde::Serialize;

use crate::cli::BuildArgs;
use crate::config::{self, KernelSource};
use crate::failure::{Exit, Failure};
use crate::kernel::{
    self, CachedKernel, Change, DebianRequest, Inventory, KernelCache, KernelLock, LockedEntry, Update,
};
use crate::shell::{MessageFormat, Shell};

/// Shows, fetches and updates the kernels that images are made with
///
/// Krazy.lock beside the workspace's Cargo.lock says which Debian kernel each board is built with; every build takes
/// that one until `update` changes it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy kernel list               what is locked, and what is in this machine's cache
  cargo krazy kernel fetch              bring the kernel here before going offline
  cargo krazy kernel update --dry-run   is there a newer one?
  cargo krazy kernel update             lock the newest")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows what is locked and what is cached
    List(ListArgs),
    /// Brings the appliance's kernel into the cache; locks the newest if none is locked
    Fetch(FetchArgs),
    /// Locks the newest kernel of the appliance's source
    Update(UpdateArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Debug, clap::Args)]
struct FetchArgs {
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Debug, clap::Args)]
struct UpdateArgs {
    /// Take a kernel that is older than the locked one
    #[arg(long)]
    allow_downgrade: bool,
    /// Only tell what is newest
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> Result<()> {
        match self.action {
            Action::List(args) => args.exec(shell),
            Action::Fetch(args) => args.exec(shell),
            Action::Update(args) => args.exec(shell),
        }
    }
}

#[derive(Serialize)]
struct Locked<'a> {
    reason: &'static str,
    #[serde(flatten)]
    entry: &'a LockedEntry,
}

#[derive(Serialize)]
struct Cached<'a> {
    reason: &'static str,
    #[serde(flatten)]
    bundle: &'a CachedKernel,
}

impl ListArgs {
    fn exec(self, shell: Shell) -> Result<()> {
        let appliance = config::load(&self.build.resolve())?;
        let lock = KernelLock::load(&appliance.workspace_root)?;
        let cache = KernelCache::of_user()?;
        let inventory = Inventory::new(&appliance.kernel, appliance.board, &lock, &cache, SystemTime::now())?;
        if shell.format() == MessageFormat::Human {
            return shell.output(inventory.to_string());
        }
        for entry in &inventory.locked {
            shell.message(&Locked { reason: "kernel-locked", entry })?;
        }
        for bundle in &inventory.cached {
            shell.message(&Cached { reason: "kernel-cached", bundle })?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Fetched<'a> {
    reason: &'static str,
    board: &'a str,
    release: &'a str,
    origin: &'a str,
    /// The kernel image.
    image: &'a Path,
    /// SHA-256 of the image.
    sha256: &'a str,
}

impl FetchArgs {
    fn exec(self, shell: Shell) -> Result<()> {
        let appliance = config::load(&self.build.resolve())?;
        let bundle = kernel::of_appliance(&appliance, shell)?;
        let board = appliance.board.name;
        shell.status("Cached", format!("{} for {board}: {}", bundle.release, bundle.origin));
        shell.message(&Fetched {
            reason: "kernel-fetched",
            board,
            release: &bundle.release,
            origin: &bundle.origin,
            image: &bundle.image,
            sha256: &bundle.sha256,
        })
    }
}

#[derive(Serialize)]
struct Updated<'a> {
    reason: &'static str,
    #[serde(flatten)]
    update: &'a Update,
    /// Whether the lock file was changed.
    written: bool,
}

impl UpdateArgs {
    fn exec(self, shell: Shell) -> Result<()> {
        let appliance = config::load(&self.build.resolve())?;
        let KernelSource::Debian { package, suite, mirror } = &appliance.kernel else {
            return Err(no_versions(&appliance.kernel).into());
        };
        if appliance.offline {
            let message = "the newest kernel is known only to its source, and --offline forbids to ask it";
            return Err(Failure::new(Exit::Usage, message).help("run it without --offline").into());
        }
        let mut lock = KernelLock::load(&appliance.workspace_root)?.frozen(appliance.locked);
        let request = DebianRequest { package, suite, mirror: mirror.as_deref() };
        let update = Update::new(&lock, kernel::newest_debian(request, appliance.board, shell)?);
        let written = !self.dry_run && update.change != Change::None;
        if written {
            update.write(&mut lock, self.allow_downgrade)?;
        }
        let verb = match update.change {
            Change::None => "Unchanged",
            _ if !written => "Available",
            Change::First => "Locking",
            Change::Older => "Downgrading",
            Change::Newer | Change::Replaced => "Updating",
        };
        shell.status(verb, format!("{package} of Debian {suite} for {}: {update}", appliance.board.name));
        shell.message(&Updated { reason: "kernel-update", update: &update, written })
    }
}

/// The error for a source that is one kernel and not a series of them.
fn no_versions(source: &KernelSource) -> Failure {
    let help = match source {
        KernelSource::Url { .. } => "to change it, set `url` and `sha256` of the kernel in Cargo.toml",
        KernelSource::Path(_) => "replace what is there, and the next build takes it",
        KernelSource::Debian { .. } => "run `cargo krazy kernel fetch`",
    };
    Failure::new(Exit::Config, format!("the kernel is {source}, which has no newer versions to look up"))
        .help(help)
}
