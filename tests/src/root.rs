//! The root of an image, unpacked and packed with foreign tools: for roots that `cargo krazy` would not make.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::disk::{extract, partitions};
use crate::process::succeed;
use crate::setup::judges;

/// The manifest's path in the root.
const MANIFEST: &str = "etc/krazy/manifest.json";

/// Slot A's root as a directory.
#[derive(Debug)]
pub struct Root {
    /// The directory.
    pub directory: PathBuf,
}

impl Root {
    /// Unpacks the root of `image` into `directory`, which is created.
    pub fn unpack(image: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (_, table) = partitions(image)?;
        let file = extract(image, table[1], directory, "old.squashfs")?;
        let root = directory.join("root");
        succeed(judges::command("unsquashfs")?.args(["-no-progress", "-d"]).arg(&root).arg(&file))?;
        fs::remove_file(file)?;
        Ok(Root { directory: root })
    }

    /// Packs it into root A of `image`.
    pub fn pack(&self, image: &Path) -> Result<()> {
        let file = self.directory.with_extension("squashfs");
        let options =
            ["-noappend", "-no-progress", "-quiet", "-all-root", "-comp", "zstd", "-Xcompression-level", "1"];
        succeed(judges::command("mksquashfs")?.arg(&self.directory).arg(&file).args(options))?;
        let partition = partitions(image)?.1[1];
        ensure!(fs::metadata(&file)?.len() <= partition.len, "the new root is too large");
        let mut disk = OpenOptions::new().write(true).open(image)?;
        disk.seek(SeekFrom::Start(partition.start))?;
        io::copy(&mut File::open(&file)?, &mut disk)?;
        Ok(())
    }

    /// Its manifest.
    pub fn manifest(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.directory.join(MANIFEST))?)?)
    }

    /// Replaces the manifest.
    pub fn set_manifest(&self, manifest: &Value) -> Result<()> {
        Ok(fs::write(self.directory.join(MANIFEST), serde_json::to_vec(manifest)?)?)
    }
}

/// Returns the service `name` of a manifest.
pub fn service(manifest: &Value, name: &str) -> Result<Value> {
    let services = manifest["services"].as_array().context("a manifest has services")?;
    services
        .iter()
        .find(|service| service["name"] == name)
        .cloned()
        .with_context(|| format!("no service {name}"))
}
