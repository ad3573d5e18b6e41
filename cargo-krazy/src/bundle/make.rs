//! From what was built to a signed bundle. The same inputs give the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::size::Bytes;
use krazy_boot::image::window::Window;
use krazy_boot::update::bundle::{BundleManifest, FORMAT, PROTOCOL, PartKind, SIGNATURE_LEN, Signed};

use super::store::Store;
use super::{Bundle, Content};
use crate::build::Recipe;
use crate::provision::Secrets;

/// Where a SquashFS superblock tells the length: `bytes_used`, a little-endian u64.
const BYTES_USED: u64 = 40;

/// Makes and signs the bundle of `recipe`; its parts go into `store`.
pub fn make(recipe: &Recipe, store: &Store) -> Result<Bundle> {
    let composition = &recipe.composition;
    let root = store.add(PartKind::Root, |file| {
        recipe.write_root(BufWriter::with_capacity(1 << 20, &*file))?;
        // Behind the file system there is only padding.
        Ok(file.set_len(used(file, Bytes(0))?)?)
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
    sign(manifest, parts, &recipe.secrets)
}

/// Keeps the root that begins at `root` of the disk `image`: devices that run it can copy from it.
pub fn keep_root(image: &File, root: Extent) -> Result<()> {
    Store::of_user()?.add(PartKind::Root, |out| {
        let mut part = Window::of(image, root).take(used(image, root.start.bytes())?);
        io::copy(&mut part, out).context("failed to copy the root")?;
        Ok(())
    })?;
    Ok(())
}

/// The length of the SquashFS at `start` of `file`.
fn used(file: &File, start: Bytes) -> io::Result<u64> {
    let mut used = [0; 8];
    file.read_exact_at(&mut used, start.0 + BYTES_USED)?;
    Ok(u64::from_le_bytes(used))
}

/// A bundle of `parts`, which `manifest` describes, signed by `secrets`' update key.
pub(super) fn sign(manifest: BundleManifest, parts: Vec<Content>, secrets: &Secrets) -> Result<Bundle> {
    let json = manifest.to_json()?;
    let signature = secrets.sign_update(&Signed::message(&json))?;
    let signature: [u8; SIGNATURE_LEN] =
        signature.try_into().ok().context("an Ed25519 signature has 64 bytes")?;
    Ok(Bundle { manifest, signed: Signed { json, signature }, parts })
}

impl Bundle {
    /// The bytes of all parts together.
    pub fn size(&self) -> Bytes {
        Bytes(self.parts.iter().map(|content| content.part.size.0).sum())
    }
}

/// All bytes of `file`.
pub(super) fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
