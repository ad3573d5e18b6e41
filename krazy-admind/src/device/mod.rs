//! The device itself: its files, its disk, and the update of its slots.
//!
//! Everything here needs the rights of root, and [`Device`] is the only way to it: handlers of requests open no file and
//! no disk. Paths, options and bodies go in, plain data and [`Problem`]s come out.

mod credentials;
mod data;
mod disk;
mod durable_file;
mod files;
mod flash;
mod system;
mod update;

pub(crate) use credentials::CredentialStore;
pub(crate) use files::{Files, Location};
pub(crate) use flash::FlashTarget;
pub(crate) use update::Updates;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use krazy_boot::api::data::{DataReport, DataSource};
use krazy_boot::api::status::{Memory, Space};
use krazy_boot::disk::selector::SelectorCopies;
use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::Manifest;
use krazy_boot::update::history::Attempt;

use crate::config::Policy;
use crate::control::Control;
use crate::problem::Problem;
use crate::task::blocking;

/// The reason of a refusal, in words and with its key.
const SIGNED_ONLY: &str =
    "this device takes signed updates only (`admind = { signed-only = true }` of its build)";

/// The device whose root directory is `root`.
pub(crate) struct Device {
    root: PathBuf,
    control: Control,
    files: Files,
    updates: Arc<Updates>,
    signed_only: bool,
}

/// Facts that change while the device runs.
pub(crate) struct Facts {
    pub(crate) memory: Memory,
    /// The space of `/data`.
    pub(crate) data: Space,
    /// The last update or switch that was armed.
    pub(crate) last_attempt: Option<Attempt>,
}

impl Device {
    /// The device in `root`, a path without symbolic links. An update without data for `update_idle` is dropped. With
    /// `policy.signed_only` nothing else than an update changes what it starts.
    pub(crate) fn new(root: PathBuf, control: Control, update_idle: Duration, policy: Policy) -> Self {
        let signed_only = policy.signed_only;
        Device {
            files: Files::new(root.clone(), signed_only),
            updates: Arc::new(Updates::new(root.clone(), control.clone(), update_idle, policy)),
            control,
            root,
            signed_only,
        }
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn updates(&self) -> &Arc<Updates> {
        &self.updates
    }

    /// Reads the current [`Facts`].
    pub(crate) async fn facts(&self) -> Result<Facts, Problem> {
        let root = self.root.clone();
        blocking(move || {
            Ok(Facts {
                memory: system::read_memory(&root)?,
                data: system::data_space(&root)?,
                last_attempt: update::last_attempt(&root),
            })
        })
        .await
    }

    /// Reads the condition of `/data`, which init mounted from `source`.
    pub(crate) async fn data_report(&self, source: Option<DataSource>) -> Result<DataReport, Problem> {
        let root = self.root.clone();
        blocking(move || data::report(&root, source)).await
    }

    /// Reads the manifest of the running root.
    pub(crate) async fn manifest(&self) -> Result<Manifest, Problem> {
        let root = self.root.clone();
        blocking(move || system::read_manifest(&root)).await
    }

    /// Reads the running slot from the kernel command line, without asking init.
    pub(crate) async fn running_slot(&self) -> Result<Option<Slot>, Problem> {
        let root = self.root.clone();
        blocking(move || Ok(system::running_slot(&root))).await
    }

    /// Reads the boot selector from `disk`, a block device.
    pub(crate) async fn selector(&self, disk: String) -> Result<SelectorCopies, Problem> {
        let path = self.root.join(disk.trim_start_matches('/'));
        blocking(move || {
            let mut file = File::open(path).map_err(|error| Problem::from_io(&error, &disk))?;
            Ok(SelectorCopies::read(&mut file))
        })
        .await
    }
}
