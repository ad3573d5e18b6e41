//! `cargo krazy kernel`.

mod build;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use serde::Serialize;

use self::build::KernelBuildArgs;
use crate::cli::build_args::BuildArgs;
use crate::config::{self, Appliance, KernelSource};
use crate::failure::{Exit, Failure};
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::firmware::BootFirmware;
use crate::kernel::source::cache::KernelCache;
use crate::kernel::source::debian::{self, Request};
use crate::kernel::source::{self, CachedKernel, Change, Inventory, LockedEntry, Update};
use crate::lock_file::LockFile;
use crate::shell::{MessageFormat, Shell};

/// Shows, fetches, updates and builds the kernels that images are made with
///
/// Krazy.lock beside the workspace's Cargo.lock says which Debian kernel each board is built with; every build takes
/// that one until `update` changes it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy kernel list               what is locked, and what is in this machine's cache
  cargo krazy kernel list --newest      and whether there is a newer one
  cargo krazy kernel fetch              bring the kernel here before going offline
  cargo krazy kernel update --dry-run   is there a newer one?
  cargo krazy kernel update             lock the newest
  cargo krazy kernel build              a kernel of your own, everything built in")]
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
    /// Builds a kernel from upstream source, with everything the board needs built in
    Build(KernelBuildArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Ask the source of the appliance's kernel for a newer one, too
    #[arg(long)]
    newest: bool,
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
            Action::Build(args) => args.exec(shell),
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
        let lock = LockFile::load(&appliance.workspace_root)?;
        let cache = KernelCache::of_user()?;
        let inventory = Inventory::new(&appliance.kernel, appliance.board, &lock, &cache, SystemTime::now())?;
        let newest = if self.newest { Newest::ask(&appliance, &lock, shell)? } else { Vec::new() };
        if shell.format() == MessageFormat::Human {
            shell.output(inventory.to_string())?;
            let lines: String = newest.iter().map(|newest| format!("  {newest}\n")).collect();
            return match newest.is_empty() {
                true => Ok(()),
                false => shell.output(format!("\nNewest at its source\n{lines}")),
            };
        }
        for entry in &inventory.locked {
            shell.message(&Locked { reason: "kernel-locked", entry })?;
        }
        for bundle in &inventory.cached {
            shell.message(&Cached { reason: "kernel-cached", bundle })?;
        }
        newest.iter().try_for_each(|newest| newest.message(false, shell))
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
        let bundle = source::of_appliance(&appliance, shell)?;
        source::firmware_of_appliance(&appliance, shell)?;
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

/// What the source of an appliance's kernel, or of its board's firmware, has, compared with what is locked.
struct Newest {
    update: Update,
}

impl Newest {
    /// The kernel, then the firmware; what has one or neither gives as many.
    fn ask(appliance: &Appliance, lock: &LockFile, shell: Shell) -> Result<Vec<Self>> {
        let kernel = match &appliance.kernel {
            KernelSource::Debian { package, suite, mirror } => {
                Some(Request { package, suite, mirror: mirror.as_deref() })
            }
            KernelSource::Url { .. } | KernelSource::Path(_) => None,
        };
        let firmware = source::firmware_request(appliance.board);
        if kernel.is_none() && firmware.is_none() {
            return Err(no_versions(&appliance.kernel).into());
        }
        if appliance.offline {
            let message = "the newest kernel is known only to its source, and --offline forbids to ask it";
            return Err(Failure::new(Exit::Usage, message).help("run it without --offline").into());
        }
        let board = appliance.board;
        let kernel = kernel.map(|request| debian::newest::<KernelBundle>(request, board, shell));
        let firmware = firmware.map(|request| debian::newest::<BootFirmware>(request, board, shell));
        let newest = kernel.into_iter().chain(firmware);
        newest.map(|newest| Ok(Newest { update: Update::new(lock, newest?) })).collect()
    }

    fn message(&self, written: bool, shell: Shell) -> Result<()> {
        shell.message(&Updated { reason: "kernel-update", update: &self.update, written })
    }
}

impl fmt::Display for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let new = &self.update.new;
        write!(f, "{} of Debian {} for {}: {}", new.package, new.suite, new.board, self.update)
    }
}

impl UpdateArgs {
    fn exec(self, shell: Shell) -> Result<()> {
        let UpdateArgs { build, dry_run, allow_downgrade } = self;
        let appliance = config::load(&build.resolve())?;
        let mut lock = LockFile::load(&appliance.workspace_root)?.frozen(appliance.locked);
        for newest in Newest::ask(&appliance, &lock, shell)? {
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
