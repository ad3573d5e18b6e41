//! Update bundles on the host: signed, saved to a file, read from one, and encoded for transfer to a device.
//!
//! A bundle in use is a signed manifest and its parts as files of the [`store`], named by their hashes. [`transfer`]
//! finds the parts that a device runs already in the store, too, so that only differences are sent.

mod file;
pub(crate) mod store;
pub(crate) mod transfer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{BundleManifest, Part, SIGNATURE_LEN, Signed};

pub(crate) use file::{open, save};

use crate::failure::{Failure, Result};
use crate::provision::Secrets;

/// A signed description of a slot's content, and that content.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The content of the slot.
    pub(crate) manifest: BundleManifest,
    /// The same as it was signed.
    pub(crate) signed: Signed,
    /// The parts in the manifest's order.
    pub(crate) parts: Vec<Content>,
}

/// A part and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Its entry in the manifest.
    pub(crate) part: Part,
    /// Its bytes; nobody changes them.
    pub(crate) file: Arc<File>,
    /// Their path, for messages.
    pub(crate) path: PathBuf,
}

impl Bundle {
    /// Bytes of all parts together.
    pub(crate) fn size(&self) -> Bytes {
        Bytes(self.parts.iter().map(|content| content.part.size.0).sum())
    }
}

/// A bundle of `parts`, which `manifest` describes, signed with the update key of `secrets`. The same inputs give the
/// same bytes.
pub(crate) fn sign(manifest: BundleManifest, parts: Vec<Content>, secrets: &Secrets) -> Result<Bundle> {
    let json = manifest.to_json().map_err(Failure::other)?;
    let signature = secrets.sign_update(&Signed::message(&json))?;
    let signature: [u8; SIGNATURE_LEN] =
        signature.try_into().ok().context("an Ed25519 signature has 64 bytes")?;
    Ok(Bundle { manifest, signed: Signed { json, signature }, parts })
}

#[cfg(test)]
mod tests;
