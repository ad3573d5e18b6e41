//! A kernel ready for use: a directory in the cache, and what is known about it.
//!
//! ```text
//! bundle.json   vmlinuz   config?   modules.json   lib/modules/RELEASE/kernel/…/X.ko   dtbs/?   firmware/?
//! ```
//!
//! # A bundle of one's own
//!
//! A `path` or `url` source is a Debian kernel package (`.deb`), or a directory or tar archive (plain, zstd, xz) of
//! this layout, of which only the image must be there:
//!
//! ```text
//! vmlinuz                          bzImage (x86) or Image (arm64)
//! config                           the configuration it was built with
//! lib/modules/RELEASE/kernel/…     modules, plain or compressed with xz or zstd
//! lib/modules/RELEASE/modules.builtin
//! dtbs/VENDOR/BOARD.dtb            device trees
//! firmware/…                       as in /lib/firmware
//! ```
//!
//! That is what `make install`, `modules_install` and `dtbs_install` make, with the image renamed. A kernel
//! image alone, with everything built in, works as well.

pub(crate) mod archive;
mod error;
pub(crate) mod firmware;
pub(crate) mod image;
pub(crate) mod unpack;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::files::io_failure;
use crate::kernel::bundle::unpack::Unpacked;
use crate::kernel::index::ModuleIndex;
use crate::kernel::index::modinfo::Module;

/// Raised whenever what is unpacked, or how it is stored, changes; an older bundle is made anew.
const FORMAT: u32 = 1;
/// The file that makes a directory a bundle; written last.
pub(super) const DESCRIPTION: &str = "bundle.json";
const INDEX: &str = "modules.json";

/// A kernel image with its modules, device trees and firmware, all on this machine.
#[derive(Clone, Debug)]
pub(crate) struct KernelBundle {
    /// The release as `uname -r` prints it.
    pub(crate) release: String,
    /// Its origin, to be shown.
    pub(crate) origin: String,
    /// The kernel image: a bzImage on x86, an `Image` on arm64.
    pub(crate) image: PathBuf,
    /// SHA-256 of the image, in hex.
    pub(crate) sha256: String,
    /// `lib/modules/RELEASE`, with uncompressed modules below `kernel/`; may be empty.
    pub(crate) modules_dir: PathBuf,
    /// Device trees, in directories by vendor.
    pub(crate) dtbs_dir: Option<PathBuf>,
    index: PathBuf,
}

/// `bundle.json`.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    release: String,
    origin: String,
    image_sha256: String,
    /// Identifies the state of its source, where that can change; see `kernel::source::cache`.
    fingerprint: Option<String>,
}

impl Description {
    /// Reads that of `directory`, unless there is none or another version of this program made it.
    fn read(directory: &Path) -> Result<Option<Self>> {
        let file = directory.join(DESCRIPTION);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_failure("read", &file)(error)),
        };
        Ok(serde_json::from_slice(&bytes).ok().filter(|read: &Description| read.format == FORMAT))
    }
}

impl KernelBundle {
    /// Release and origin of the bundle in `directory`, whatever it was made of.
    pub(super) fn identity(directory: &Path) -> Result<Option<(String, String)>> {
        Ok(Description::read(directory)?.map(|description| (description.release, description.origin)))
    }

    /// The modules, read from the stored index.
    pub(crate) fn modules(&self) -> Result<ModuleIndex> {
        ModuleIndex::load(&self.index)
    }

    /// The uncompressed file of `module`, with its signature if it has one.
    pub(crate) fn module_file(&self, module: &Module) -> PathBuf {
        self.modules_dir.join(&module.path)
    }

    /// Returns the path of a module or a table such as `modules.dep` in an image, without a leading `/`.
    pub(crate) fn path_in_image(&self, path: &str) -> String {
        format!("lib/modules/{}/{path}", self.release)
    }

    /// Completes the unpacked `directory` with its index and description.
    pub(super) fn describe(
        directory: &Path,
        unpacked: &Unpacked,
        origin: &str,
        fingerprint: Option<&str>,
    ) -> Result<()> {
        unpacked.index.save(&directory.join(INDEX))?;
        let modules_dir = directory.join("lib/modules").join(&unpacked.release);
        std::fs::create_dir_all(&modules_dir).map_err(io_failure("create", &modules_dir))?;
        let description = Description {
            format: FORMAT,
            release: unpacked.release.clone(),
            origin: origin.to_owned(),
            image_sha256: unpacked.image_sha256.clone(),
            fingerprint: fingerprint.map(str::to_owned),
        };
        let file = directory.join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(&description).map_err(Failure::other)?;
        std::fs::write(&file, text).map_err(io_failure("write", &file))
    }

    /// Returns the bundle in `directory`; `None` if there is none, or if another version of this program made it, or
    /// if its source had another fingerprint.
    pub(super) fn open(directory: &Path, fingerprint: Option<&str>) -> Result<Option<Self>> {
        let Some(description) = Description::read(directory)? else { return Ok(None) };
        if description.fingerprint.as_deref() != fingerprint {
            return Ok(None);
        }
        Ok(Some(KernelBundle {
            image: directory.join("vmlinuz"),
            sha256: description.image_sha256,
            modules_dir: directory.join("lib/modules").join(&description.release),
            dtbs_dir: Some(directory.join("dtbs")).filter(|path| path.exists()),
            index: directory.join(INDEX),
            release: description.release,
            origin: description.origin,
        }))
    }
}
