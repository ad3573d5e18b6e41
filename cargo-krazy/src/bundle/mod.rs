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

use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{BundleManifest, Part, Signed};

pub(crate) use file::{open, save};

use crate::failure::{Failure, Result};
use crate::provision::{Secrets, UpdateSigner};

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
    /// Returns the same manifest signed with `key`.
    pub(crate) fn signed_with(&self, key: &UpdateSigner) -> Result<Signed> {
        Ok(signed(self.signed.json.clone(), key)?)
    }

    /// Bytes of all parts together.
    pub(crate) fn size(&self) -> Bytes {
        Bytes(self.parts.iter().map(|content| content.part.size.0).sum())
    }
}

/// A bundle of `parts`, which `manifest` describes, signed with the update key of `secrets`. The same inputs give the
/// same bytes.
pub(crate) fn sign(manifest: BundleManifest, parts: Vec<Content>, secrets: &Secrets) -> Result<Bundle> {
    let json = manifest.to_json().map_err(Failure::other)?;
    let signed = signed(json, secrets.update_key())?;
    Ok(Bundle { manifest, signed, parts })
}

/// The manifest `json`, signed with `key`.
pub(crate) fn signed(json: Vec<u8>, key: &UpdateSigner) -> anyhow::Result<Signed> {
    let signature = key.sign(&Signed::message(&json))?;
    Ok(Signed { json, signature })
}

#[cfg(test)]
mod tests;
