//! The comparison of an existing image with its inputs: one that was made from the same need not be made again.
//!
//! A stamp lies beside the image and holds a digest of all inputs and the image's length and time of change.
//! Inputs that can be large are represented like cargo does it: by path, length and time of change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use krazy_boot::image::tree::{Content, Node, Tree};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::image::Composition;
use crate::plan::Plan;
use krazy_boot::digest::hex;

/// The fate of `/data` when there is an image of the same appliance already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Data {
    /// It is made new, so that the same inputs give the same bytes.
    New,
    /// It is taken over from the old image, if that has the same layout and identity.
    Kept,
}

/// A digest of everything an image is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(String);

#[derive(Serialize, Deserialize, PartialEq)]
struct Record {
    inputs: String,
    data: Data,
    len: u64,
    changed: (i64, i64),
    inode: u64,
}

impl Stamp {
    /// The stamp of an image of `composition`. Reads no contents of files, only their metadata.
    pub(crate) fn of(composition: &Composition, plan: &Plan, epoch: u64) -> Result<Self> {
        let mut digest = Fields(Sha256::new());
        // The writers belong to the inputs, and they change with this program.
        let program = std::env::current_exe().context("failed to find this program's own file")?;
        // One that was replaced while it runs no longer has a path, but Linux still has its metadata.
        let program = if program.exists() { program } else { PathBuf::from("/proc/self/exe") };
        digest.content(&Content::File(program))?;
        digest.bytes(&epoch.to_le_bytes());
        digest.bytes(&serde_json::to_vec(&plan.layout)?);
        digest.bytes(&plan.appliance.compression_level.to_le_bytes());
        digest.bytes(&composition.manifest.to_json());
        digest.bytes(composition.cmdline.as_str().as_bytes());
        digest.content(&Content::File(composition.kernel.clone()))?;
        for file in composition.board_files.of_slot.iter().chain(&composition.board_files.shared) {
            digest.bytes(file.name.as_bytes());
            digest.content(&file.content)?;
        }
        for tree in [&composition.root, &composition.initramfs, &composition.data] {
            digest.tree(tree)?;
        }
        Ok(Stamp(hex(&digest.0.finalize())))
    }

    /// Returns true if `image` was made from the same inputs. With [`Data::New`] it must also be as it was made, with
    /// [`Data::Kept`] a guest may have written to it.
    pub(crate) fn matches(&self, stamps: &Path, image: &Path, data: Data) -> bool {
        // A stamp that cannot be read is as good as none: the image is made again.
        let Ok(bytes) = fs::read(file_for(stamps, image)) else { return false };
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return false };
        let Ok(now) = self.record(image, record.data) else { return false };
        match data {
            Data::New => now == record && record.data == Data::New,
            Data::Kept => now.inputs == record.inputs && now.len == record.len,
        }
    }

    /// Records that `image` was made from these inputs.
    pub(crate) fn save(&self, stamps: &Path, image: &Path, data: Data) -> Result<()> {
        let file = file_for(stamps, image);
        let write = || -> Result<()> {
            fs::create_dir_all(stamps)?;
            Ok(fs::write(&file, serde_json::to_vec(&self.record(image, data)?)?)?)
        };
        write().with_context(|| format!("failed to write {}", file.display()))
    }

    fn record(&self, image: &Path, data: Data) -> Result<Record> {
        let metadata = fs::metadata(image)?;
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Record { inputs: self.0.clone(), data, len: metadata.len(), changed, inode: metadata.ino() })
    }
}

/// Returns true if the image at `image` was written to since it was made, as a machine does that runs from it.
pub(crate) fn was_written(stamps: &Path, image: &Path) -> bool {
    let record =
        || -> Option<Record> { serde_json::from_slice(&fs::read(file_for(stamps, image)).ok()?).ok() };
    let changed = |record: &Record| {
        fs::metadata(image).is_ok_and(|now| {
            (now.ino(), now.len()) == (record.inode, record.len)
                && (now.mtime(), now.mtime_nsec()) != record.changed
        })
    };
    record().as_ref().is_some_and(changed)
}

/// One stamp per image file, whatever its name.
fn file_for(stamps: &Path, image: &Path) -> PathBuf {
    let absolute = std::path::absolute(image).unwrap_or_else(|_| image.to_owned());
    let digest = Sha256::digest(absolute.as_os_str().as_encoded_bytes());
    stamps.join(format!("{}.json", hex(&digest[..8])))
}

/// A hash over fields whose ends are part of it.
struct Fields(Sha256);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn tree(&mut self, tree: &Tree) -> Result<()> {
        for (path, entry) in tree.iter() {
            self.bytes(path.as_str().as_bytes());
            self.0.update(entry.mode.to_le_bytes());
            self.0.update(entry.uid.to_le_bytes());
            self.0.update(entry.gid.to_le_bytes());
            match &entry.node {
                Node::File(content) => self.content(content)?,
                other => self.bytes(format!("{other:?}").as_bytes()),
            }
        }
        self.bytes(b"end of tree");
        Ok(())
    }

    fn content(&mut self, content: &Content) -> Result<()> {
        match content {
            Content::Bytes(bytes) => self.bytes(bytes),
            Content::File(path) => {
                let metadata =
                    fs::metadata(path).with_context(|| format!("failed to look at {}", path.display()))?;
                self.bytes(path.as_os_str().as_encoded_bytes());
                for number in [metadata.len() as i64, metadata.mtime(), metadata.mtime_nsec()] {
                    self.0.update(number.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}
