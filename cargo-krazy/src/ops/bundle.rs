//! From what was built to a signed bundle. The same inputs give the same bytes.

use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{BundleManifest, FORMAT, PROTOCOL, PartKind};

use super::image::Recipe;
use crate::bundle::store::{Store, squashfs_len};
use crate::bundle::{self, Bundle};

/// Makes and signs the bundle of `recipe`; its parts go into `store`.
pub fn make(recipe: &Recipe, store: &Store) -> Result<Bundle> {
    let composition = &recipe.composition;
    let root = store.add(PartKind::Root, |file| {
        recipe.write_root(BufWriter::with_capacity(1 << 20, &*file))?;
        // Behind the file system there is only padding.
        Ok(file.set_len(squashfs_len(file, Bytes(0))?)?)
    })?;
    let initramfs = store.add(PartKind::Initramfs, |file| {
        recipe.write_initramfs(BufWriter::new(&*file))?.flush().context("failed to write the initramfs")
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
    let manifest = BundleManifest {
        format: FORMAT,
        appliance: composition.manifest.name.clone(),
        board: composition.manifest.board.clone(),
        build_id: composition.manifest.build_id.clone(),
        version: composition.manifest.version.clone(),
        protocol: PROTOCOL,
        cmdline: composition.parameters.clone(),
        parts: parts.iter().map(|content| content.part.clone()).collect(),
    };
    bundle::sign(manifest, parts, &recipe.secrets)
}
