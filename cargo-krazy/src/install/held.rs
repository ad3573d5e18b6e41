//! Locks that keep several runs on one machine from changing each other's programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::Appliance;
use crate::failure::Result;
use crate::shell::Shell;

/// Keeps other processes from changing binaries that [`install_all`](super::install_all) returned.
#[derive(Debug)]
pub(crate) struct Held {
    _target: File,
    pub(super) programs: Option<Shared>,
}

/// The lock of our own programs, which other appliances use, too: shared while they are read, exclusive while one is
/// installed.
#[derive(Debug)]
pub(super) struct Shared {
    file: File,
    directory: PathBuf,
}

impl Shared {
    /// Locks `directory`, which is made, against changes.
    pub(super) fn new(directory: &Path) -> anyhow::Result<Self> {
        let failed = || format!("failed to lock {}", directory.display());
        fs::create_dir_all(directory).with_context(failed)?;
        let file = File::create(directory.join(".programs-lock")).with_context(failed)?;
        file.lock_shared().with_context(failed)?;
        Ok(Shared { file, directory: directory.to_owned() })
    }

    /// Waits until nobody else reads, and calls `change`. The lock is given up for a moment, before and after.
    pub(super) fn exclusively<T>(&self, shell: Shell, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let failed = || format!("failed to lock {}", self.directory.display());
        self.file.unlock().with_context(failed)?;
        if let Err(fs::TryLockError::WouldBlock) = self.file.try_lock() {
            let directory = self.directory.display();
            shell.status("Blocking", format!("waiting for another cargo krazy in {directory}"));
            self.file.lock().with_context(failed)?;
        }
        let outcome = change()?;
        self.file.unlock().with_context(failed)?;
        self.file.lock_shared().with_context(failed)?;
        Ok(outcome)
    }
}

/// Takes the installs of the appliance's target directory for this process, as cargo does with its own.
pub(crate) fn hold(appliance: &Appliance, shell: Shell) -> anyhow::Result<Held> {
    Ok(Held { _target: lock(&appliance.target_directory.join("krazy"), shell)?, programs: None })
}

/// Locks `directory`, which is made, for this process.
fn lock(directory: &Path, shell: Shell) -> anyhow::Result<File> {
    let failed = || format!("failed to lock {}", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    let file = File::create(directory.join(".lock")).with_context(failed)?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        shell.status("Blocking", format!("waiting for another cargo krazy in {}", directory.display()));
        file.lock().with_context(failed)?;
    }
    Ok(file)
}
