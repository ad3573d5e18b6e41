//! A signed update bundle of an appliance. The same inputs give the same bytes.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{BundleManifest, PartKind};
use serde::Serialize;

use super::prepare::{DiskIds, Prepared, prepare};
use crate::bundle::store::{Store, squashfs_len};
use crate::bundle::{self, Bundle};
use crate::failure::Result;
use crate::output::Destination;
use crate::plan::Plan;
use crate::shell::Shell;

/// A bundle that was written to a file.
#[derive(Serialize)]
pub(crate) struct SavedBundle {
    /// The file.
    pub(crate) bundle: PathBuf,
    /// Its length.
    pub(crate) bytes: Bytes,
    name: String,
    version: String,
    board: String,
    build_id: String,
}

/// Builds the appliance of `plan`, and writes its bundle to `output` or to a file named after it in cargo's target
/// directory.
pub(crate) fn save(plan: &Plan, output: Option<&Path>, shell: Shell) -> Result<SavedBundle> {
    // Before anything is built.
    let output = output.map(Destination::file).transpose()?;
    let store = Store::of_user()?;
    let prepared = prepare(plan, DiskIds::Appliance, shell)?;
    let made = make(&prepared, &store)?;
    let manifest = &made.manifest;
    let output = output.unwrap_or_else(|| {
        let file = format!("{}-{}-{}.krazy", manifest.appliance, manifest.board, manifest.version);
        prepared.directory.join(file)
    });
    let bytes = bundle::save(&made, &store, &output)?;
    let BundleManifest { appliance, version, board, build_id, .. } = made.manifest;
    Ok(SavedBundle { bundle: output, bytes, name: appliance, version, board, build_id })
}

/// Makes and signs the bundle of what was `prepared`; its parts go into `store`.
pub(crate) fn make(prepared: &Prepared, store: &Store) -> Result<Bundle> {
    let composition = &prepared.composition;
    let root = store.add(PartKind::Root, |file| {
        prepared.write_root(BufWriter::with_capacity(1 << 20, &*file))?;
        // Behind the file system there is only padding.
        let truncated = squashfs_len(file, Bytes(0)).and_then(|len| file.set_len(len));
        Ok(truncated.context("failed to write the root")?)
    })?;
    let initramfs = store.add(PartKind::Initramfs, |file| {
        let mut out = prepared.write_initramfs(BufWriter::new(&*file))?;
        Ok(out.flush().context("failed to write the initramfs")?)
    })?;
    let mut parts = vec![store.add_file(PartKind::Kernel, &composition.kernel)?, initramfs];
    for file in &composition.board_files.of_slot {
        let reading = || format!("failed to read {}", file.content);
        parts.push(store.add(PartKind::BootFile(file.name.clone()), |out| {
            io::copy(&mut file.content.open().with_context(reading)?, out).with_context(reading)?;
            Ok(())
        })?);
    }
    parts.push(root);
    let manifest = composition.slot(parts.iter().map(|content| content.part.clone()).collect());
    bundle::sign(manifest, parts, &prepared.secrets)
}
