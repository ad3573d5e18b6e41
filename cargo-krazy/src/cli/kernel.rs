//! `cargo krazy kernel`.

mod build;

use self::build::KernelBuildArgs;
use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::failure::Result;
use crate::ops::kernel;
use crate::shell::{MessageFormat, Shell};

/// Shows, fetches, updates and builds the kernels that images are made with
///
/// Krazy.lock beside the workspace's Cargo.lock names the Debian kernel that each board is built with; every build
/// takes that one until `update` changes it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy kernel list               the locked kernels, and those in this machine's cache
  cargo krazy kernel list --newest      the newest kernel at its source, too
  cargo krazy kernel fetch              download the kernel before going offline
  cargo krazy kernel update --dry-run   show the newest kernel
  cargo krazy kernel update             lock the newest kernel
  cargo krazy kernel build              a kernel of your own, everything built in")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the locked and the cached kernels
    List(ListArgs),
    /// Downloads the appliance's kernel into the cache; locks the newest if none is locked
    Fetch(BuildArgs),
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
struct UpdateArgs {
    /// Take a kernel that is older than the locked one
    #[arg(long)]
    allow_downgrade: bool,
    /// Only show the newest
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    build: BuildArgs,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        match self.action {
            Action::List(ListArgs { newest, build }) => {
                let list = kernel::list(&config::load(&build.resolve())?, newest, shell)?;
                match shell.format() {
                    MessageFormat::Human => shell.output(list.to_string()),
                    MessageFormat::Json => list.messages(shell),
                }
            }
            Action::Fetch(build) => kernel::fetch(&config::load(&build.resolve())?, shell),
            Action::Update(UpdateArgs { allow_downgrade, dry_run, build }) => {
                kernel::update(&config::load(&build.resolve())?, allow_downgrade, dry_run, shell)
            }
            Action::Build(args) => args.exec(shell),
        }
    }
}
