//! The update bundle: one file, or the body of an upload. A format of this project.
//!
//! | bytes | content |
//! |---|---|
//! | 0 … 3 | magic `KZUB` |
//! | 4, 5 | format version, 1 |
//! | 6, 7 | 0 |
//! | 8 … 11 | length *m* of the manifest, at most 64 KiB |
//! | 12 … 75 | Ed25519 signature |
//! | 76 … | manifest: JSON, *m* bytes ([`BundleManifest`]) |
//! | 4 bytes | length *t* of the transport, at most 64 KiB |
//! | *t* bytes | transport: JSON (`Transport`) |
//! | the rest | one [stream](super::delta) per part, back to back in the manifest's order |
//!
//! The signature covers `SIGNED_DOMAIN` and the manifest's bytes as they are. The manifest describes the content of a
//! slot after the update, and not its transfer, so one signature serves whole uploads and those that copy from the active
//! slot. The transport is not signed: a wrong one costs a rejected upload, because the hash of every part is compared with
//! the manifest when it is on the disk.
//!
//! Nothing in a bundle belongs to one device or one slot, so one bundle serves a fleet: it has the parameters of the
//! command line, and the device adds its slot and its disk's PARTUUID ([`crate::boot::cmdline`]).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
#[cfg(feature = "std")]
use std::io;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Hash;
use crate::disk::size::Bytes;
use crate::disk::slot::boot_file;

#[cfg(feature = "std")]
mod head;

#[cfg(feature = "std")]
pub use self::head::{Head, MAX_HEAD, PartTransport, Transport};

/// The version of this format. Readers reject any other one.
pub const FORMAT: u16 = 1;

/// The version of the update protocol. A device rejects bundles that need a higher one.
pub const PROTOCOL: u32 = 1;

/// Limit of the manifest, and of the transport, in bytes.
pub(crate) const MAX_JSON: usize = 64 << 10;

/// Signed in front of the manifest (domain separation), so that the signature is not valid for anything else.
const SIGNED_DOMAIN: &[u8] = b"cargo krazy update bundle 1\0";

/// Limit of the number of parts.
const MAX_PARTS: usize = 256;

/// Limit of the name of a file on `/boot`, without the slot's prefix.
pub const MAX_NAME: usize = 64;

/// The length of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// The content of a slot after the update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// [`FORMAT`] of the writer.
    pub format: u16,
    /// The appliance's name.
    pub appliance: String,
    /// The board it was made for.
    pub board: String,
    /// The build id of the root's manifest.
    pub build_id: String,
    /// The version of the user's package.
    pub version: String,
    /// The lowest [`PROTOCOL`] that a device must support.
    pub protocol: u32,
    /// Parameters of the kernel command line, without those that make a slot boot its own root.
    pub cmdline: Vec<String>,
    /// Target features, by rustc's names, that the programs need beyond those of the board's every processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
    /// Kernel, initramfs, root and further files of the slot, in the order of their streams.
    pub parts: Vec<Part>,
}

/// One part of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Part {
    /// Its kind.
    pub kind: PartKind,
    /// Its length.
    pub size: Bytes,
    /// The hash of its content.
    pub sha256: Sha256Hash,
}

/// The kind of a part. In JSON `"kernel"`, `"initramfs"`, `"root"` or `{"boot-file": "NAME"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// The kernel image.
    Kernel,
    /// The initramfs.
    Initramfs,
    /// The root: a SquashFS image of the length in its superblock.
    Root,
    /// A further file of the slot on `/boot`, such as a device tree; its name without the slot's prefix.
    BootFile(String),
}

/// A manifest as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The bytes of the manifest.
    pub json: Vec<u8>,
    /// The signature over [`Signed::message`].
    pub signature: [u8; SIGNATURE_LEN],
}

/// A failure to make or read a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The head ends early, or cannot be read.
    #[cfg(feature = "std")]
    #[error("failed to read the head of the update bundle")]
    Read(#[source] io::Error),
    /// The file is no bundle.
    #[error("this is not an update bundle")]
    Magic,
    /// The bundle was written by a newer version.
    #[error("the update bundle has format {0}, this program reads {FORMAT}")]
    Format(u16),
    /// A part of the head exceeds its limit.
    #[error("the {what} of the update bundle has {len} bytes, at most {MAX_JSON} are allowed")]
    TooLong {
        /// `manifest` or `transport`.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// No trusted key has signed it.
    #[error("the signature of the update bundle is not valid")]
    Signature,
    /// A part of the head is not JSON of the expected shape.
    #[error("the {what} of the update bundle is damaged")]
    Json {
        /// `manifest` or `transport`.
        what: &'static str,
        /// The position and the defect.
        source: serde_json::Error,
    },
    /// The head contradicts itself or the rules for slots.
    #[error("the update bundle is invalid: {0}")]
    Content(String),
}

impl PartKind {
    /// Returns the name on `/boot` without the slot's prefix; `None` for the root, which has a partition.
    pub(crate) fn boot_name(&self) -> Option<&str> {
        match self {
            PartKind::Kernel => Some(boot_file::KERNEL),
            PartKind::Initramfs => Some(boot_file::INITRAMFS),
            PartKind::Root => None,
            PartKind::BootFile(name) => Some(name),
        }
    }
}

/// Prints `kernel`, `initramfs`, `root`, or a boot file's name.
impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PartKind::Kernel => "kernel",
            PartKind::Initramfs => "initramfs",
            PartKind::Root => "root",
            PartKind::BootFile(name) => name,
        })
    }
}

impl BundleManifest {
    /// Parses a manifest and checks that it describes a slot.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Header {
            format: u16,
        }
        let what = "manifest";
        if json.len() > MAX_JSON {
            return Err(BundleError::TooLong { what, len: json.len() });
        }
        let damaged = |source| BundleError::Json { what, source };
        let header: Header = serde_json::from_slice(json).map_err(damaged)?;
        if header.format != FORMAT {
            return Err(BundleError::Format(header.format));
        }
        let manifest: BundleManifest = serde_json::from_slice(json).map_err(damaged)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Returns the bytes to sign: JSON on one line, the same for equal manifests.
    pub fn to_json(&self) -> Result<Vec<u8>, BundleError> {
        self.check()?;
        to_json("manifest", self)
    }

    /// Returns the part of this kind.
    pub(crate) fn part(&self, kind: &PartKind) -> Option<&Part> {
        self.parts.iter().find(|part| part.kind == *kind)
    }

    fn check(&self) -> Result<(), BundleError> {
        let wrong = |text: String| Err(BundleError::Content(text));
        if self.parts.len() > MAX_PARTS {
            return wrong(format!("it has {} parts, at most {MAX_PARTS} are allowed", self.parts.len()));
        }
        for kind in [PartKind::Kernel, PartKind::Initramfs, PartKind::Root] {
            if self.part(&kind).is_none() {
                return wrong(format!("it has no {kind}"));
            }
        }
        for (n, part) in self.parts.iter().enumerate() {
            if part.size == Bytes(0) {
                return wrong(format!("{} is empty", part.kind));
            }
            // FAT does not distinguish `A` from `a`.
            let same = |other: &Part| match (part.kind.boot_name(), other.kind.boot_name()) {
                (Some(one), Some(two)) => one.eq_ignore_ascii_case(two),
                (one, two) => one == two,
            };
            if self.parts.iter().take(n).any(same) {
                return wrong(format!("{} occurs twice", part.kind));
            }
            if let PartKind::BootFile(name) = &part.kind {
                check_boot_name(name)?;
            }
        }
        Ok(())
    }
}

/// Checks that a name stays in its directory, and is not one that the device writes itself.
fn check_boot_name(name: &str) -> Result<(), BundleError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let own = [boot_file::CMDLINE, boot_file::LAUNCH, boot_file::RECORD, boot_file::SIGNATURE];
    let reserved = own.iter().any(|own| own.eq_ignore_ascii_case(name));
    if name.is_empty() || name.len() > MAX_NAME || name.ends_with('.') || !name.chars().all(plain) || reserved
    {
        return Err(BundleError::Content(format!("{name:?} is not the name of a boot file")));
    }
    Ok(())
}

impl Signed {
    /// Returns the manifest if `verify` finds the signature valid.
    pub fn verified(
        &self,
        verify: impl FnOnce(&[u8], &[u8; SIGNATURE_LEN]) -> bool,
    ) -> Result<BundleManifest, BundleError> {
        if !verify(&Signed::message(&self.json), &self.signature) {
            return Err(BundleError::Signature);
        }
        BundleManifest::from_json(&self.json)
    }

    /// Returns the message that the signature of a manifest covers.
    pub fn message(json: &[u8]) -> Vec<u8> {
        [SIGNED_DOMAIN, json].concat()
    }
}

fn to_json(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, BundleError> {
    let json = serde_json::to_vec(value).map_err(|source| BundleError::Json { what, source })?;
    if json.len() > MAX_JSON {
        return Err(BundleError::TooLong { what, len: json.len() });
    }
    Ok(json)
}

#[cfg(test)]
mod tests;
