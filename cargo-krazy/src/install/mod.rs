//! Every binary of an appliance, through `cargo install --root`.
//!
//! Below `TARGET/krazy`, where `TARGET` is cargo's target directory:
//!
//! | directory | what |
//! |---|---|
//! | `build-HASH` | the target directory that the user's workspace and registry crates share, so that a dependency is compiled once; another one for each other workspace, git repository and C compiler, see [`layout`]. Not `TARGET` itself: flags differ from the user's own builds, which would undo each other's work |
//! | `install/NAME-HASH` | one root per entry, its `bin` directory and `krazy.json`, what it was made from; made anew when anything differs, so nothing stale stays |
//! | `toolchain/TRIPLE` | wrappers around the C compiler |
//!
//! Our own programs are in `CACHE/programs` instead, with the same directories: every appliance of the user has the same.
//!
//! The same inputs give the same bytes in any directory: the directories of this machine are mapped to fixed names,
//! lock files are honoured, and what a requirement resolved to is held in Krazy.lock. A path *dependency*
//! outside its workspace is the exception: cargo hashes its absolute path into symbol names.

mod cargo_lock;
mod command;
pub(crate) mod elf;
mod environment;
mod error;
mod freshness;
mod git;
mod held;
mod job;
mod layout;
mod names;
mod record;
mod run;
#[cfg(test)]
mod tests;
mod vendor;

use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use self::held::Shared;
pub(crate) use self::held::{Held, hold};
use self::job::Job;
use self::layout::Layout;
pub(crate) use self::vendor::vendor;
use crate::config::{Appliance, Install, OWN_INIT};
use crate::failure::{Failure, Result};
use crate::lock_file::LockFile;
use crate::shell::Shell;
use crate::toolchain::Toolchain;

/// Everything an appliance's partitions get from crates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// The binaries for `/bin`, in the order of the appliance's list. Names are unique.
    pub(crate) bins: Vec<Installed>,
    /// krazy-init, for the initramfs.
    pub(crate) first_stage: Installed,
    /// The name of the binary that becomes `/bin/init`.
    pub(crate) init: String,
    /// Target features that the user's programs need beyond those of the board's every processor.
    pub(crate) instructions: Vec<String>,
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

/// Resolves `install` anew and installs it; the lock file then holds the outcome. Call [`hold`] first.
///
/// # Errors
/// As [`install_all`]; then the lock file is as it was.
pub(crate) fn renew(
    appliance: &Appliance,
    install: &Install,
    toolchain: &Toolchain,
    shell: Shell,
) -> Result<()> {
    let layout = Layout::of(appliance, &toolchain.env);
    let mut lock_file = LockFile::load(&appliance.workspace_root)?;
    let job = Job { install, toolchain, layout: &layout, appliance, programs: None, shell };
    job.renew(&mut lock_file).map_err(|failure| located(appliance, install, failure))
}

/// Returns the failure of `install` with the position of its entry; our own programs have none.
fn located(appliance: &Appliance, install: &Install, failure: Failure) -> Failure {
    let key: Vec<&str> = install.key.iter().map(String::as_str).collect();
    if key.is_empty() { failure } else { appliance.origins.locate(&[&key], failure) }
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
    held: &mut Held,
    shell: Shell,
) -> Result<Installation> {
    let layout = Layout::of(appliance, &toolchain.env);
    let mut lock_file = LockFile::load(&appliance.workspace_root)?;
    let instructions = toolchain.instructions(&toolchain.codegen(&[], false)?)?;
    if !instructions.is_empty() {
        shell.warn(format!(
            "the flags of cargo's configuration compile programs for a processor with {}; a device without them refuses the \
             update",
            instructions.join(", ")
        ));
    }
    let programs = &*held.programs.insert(Shared::new(&layout.programs)?);
    let mut perform = |install: &Install| {
        let programs = install.ours.then_some(programs);
        let job = Job { install, toolchain, layout: &layout, appliance, programs, shell };
        job.perform(&mut lock_file).map_err(|failure| located(appliance, install, failure))
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
    // While one of our programs was installed, another process may have replaced one that was there before.
    for install in appliance.installs.iter().filter(|install| install.ours) {
        for installed in perform(install)? {
            if let Some(bin) = bins.iter_mut().find(|bin| bin.bin == installed.bin) {
                *bin = installed;
            }
        }
    }
    Ok(Installation { bins, first_stage, init: appliance.init.clone(), instructions })
}
