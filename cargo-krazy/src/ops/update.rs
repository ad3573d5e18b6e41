//! The newest versions and commits of an appliance's crates, in place of those that Krazy.lock holds.

use std::path::Path;

use serde::Serialize;

use crate::config::{Appliance, Install};
use crate::failure::{Exit, Explain, Result};
use crate::install;
use crate::lock_file::LockFile;
use crate::ops::prepare::make_directory;
use crate::plan::Plan;
use crate::shell::Shell;
use crate::toolchain::Toolchain;

/// A request that cannot be carried out.
#[derive(Debug, thiserror::Error)]
enum UpdateError {
    /// There is no such entry that is held.
    #[error("`{name}` is no entry that Krazy.lock holds at a version or commit")]
    Unknown {
        /// The name.
        name: String,
        /// The entries that could be named.
        known: Vec<String>,
    },
    /// The network is needed, or a change of the lock file.
    #[error("an update needs the network and changes Krazy.lock, but {option} was given")]
    Forbidden {
        /// The option.
        option: &'static str,
    },
}

impl Explain for UpdateError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        match self {
            UpdateError::Unknown { known, .. } if known.is_empty() => Some(
                "crates of a `path` have no version to hold; `cargo update` is for their dependencies"
                    .to_owned(),
            ),
            UpdateError::Unknown { known, .. } => Some(format!("the entries are `{}`", known.join("`, `"))),
            UpdateError::Forbidden { option } => Some(format!("run it without {option}")),
        }
    }
}

/// A step from one version or commit to another.
#[derive(Debug, Serialize)]
struct Updated<'a> {
    name: &'a str,
    /// `null` if nothing was held before.
    from: Option<&'a str>,
    to: &'a str,
}

/// Resolves the entries `names` anew, or all, and installs them.
pub(crate) fn update(plan: &Plan, names: &[String], shell: Shell) -> Result<()> {
    let appliance = &plan.appliance;
    for (given, option) in [(appliance.offline, "--offline"), (appliance.locked, "--locked")] {
        if given {
            return Err(UpdateError::Forbidden { option }.into());
        }
    }
    let entries = entries(appliance);
    if let Some(name) = names.iter().find(|name| !entries.iter().any(|entry| entry.name == **name)) {
        let known = entries.iter().map(|entry| entry.name.clone()).collect();
        return Err(UpdateError::Unknown { name: name.clone(), known }.into());
    }
    let chosen: Vec<&Install> =
        entries.into_iter().filter(|entry| names.is_empty() || names.contains(&entry.name)).collect();
    let before = LockFile::load(&appliance.workspace_root)?;
    let directory = make_directory(plan)?;
    let package = appliance.manifest_path.parent().unwrap_or(Path::new("."));
    let toolchain = Toolchain::ready(appliance.board, package, &directory, shell, appliance.offline)?;
    let _held = install::hold(appliance, shell)?;
    for entry in chosen {
        install::renew(appliance, entry, &toolchain, shell)?;
        let after = LockFile::load(&appliance.workspace_root)?;
        let (from, to) = (before.pin(&entry.source), after.pin(&entry.source).unwrap_or_default());
        match from {
            Some(from) if from == to => shell.status("Unchanged", format!("{} at {to}", entry.name)),
            Some(from) => shell.status("Updated", format!("{} from {from} to {to}", entry.name)),
            None => shell.status("Locked", format!("{} at {to}", entry.name)),
        }
        shell.message("update", &Updated { name: &entry.name, from, to })?;
    }
    Ok(())
}

/// The entries that a lock file holds; our own programs have the version of this one.
fn entries(appliance: &Appliance) -> Vec<&Install> {
    let held = |entry: &&Install| LockFile::needs_pin(&entry.source) && !entry.ours;
    appliance.installs.iter().filter(held).collect()
}
