//! The signature of an update, checked with the device's update keys.

use std::path::Path;

use krazy_boot::api::credentials::{MAX_FILE, UPDATE_KEYS, UpdateKey};
use krazy_boot::api::update::KeyChange;
use krazy_boot::digest::Hex;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::{BundleManifest, Head, SIGNATURE_LEN};
use krazy_boot::update::engine;
use krazy_boot::update::refusal::Refusal;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::super::disk::Disk;
use super::super::{SIGNED_ONLY, credentials, durable_file};
use super::admission::refuse;
use crate::problem::{Kind, Problem};

/// The update keys of a device.
struct Keys(Vec<UpdateKey>);

impl Keys {
    /// Reads those of the device in `root`.
    fn read(root: &Path) -> Result<Self, Problem> {
        let path = credentials::directory(root).join(UPDATE_KEYS);
        let text = durable_file::read(&path, MAX_FILE as u64)
            .map_err(|error| Problem::from_io(&error, "the update keys, /data/krazy/update.pub"))?;
        let keys = UpdateKey::parse_file(&String::from_utf8_lossy(&text)).map_err(|error| {
            Problem::new(Kind::Internal, format!("the update keys in {UPDATE_KEYS} are not usable: {error}"))
        })?;
        Ok(Keys(keys))
    }

    /// Returns true if one of them has signed `message`.
    fn have_signed(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        self.0.iter().any(|key| UnparsedPublicKey::new(&ED25519, key.0).verify(message, signature).is_ok())
    }
}

/// Returns the update keys of the device in `root`.
pub(super) fn keys(root: &Path) -> Result<Vec<UpdateKey>, Problem> {
    Ok(Keys::read(root)?.0)
}

/// Replaces the update keys of the device in `root` by those in `json`, a [`KeyChange`] that a present key has signed.
pub(super) fn replace_keys(root: &Path, json: &[u8]) -> Result<(), Problem> {
    let wrong = |error: &dyn std::fmt::Display| {
        Problem::new(Kind::BadRequest, format!("not a change of the update keys: {error}"))
    };
    let KeyChange { keys, signature: Hex(signature) } =
        serde_json::from_slice(json).map_err(|error| wrong(&error))?;
    if !Keys::read(root)?.have_signed(&KeyChange::message(&keys), &signature) {
        return refuse(Refusal::Signature, "no update key of this device has signed the new ones");
    }
    let mut text = String::new();
    for key in UpdateKey::parse_file(&keys).map_err(|error| wrong(&error))? {
        text.push_str(&format!("{key}\n"));
    }
    durable_file::replace(&credentials::directory(root).join(UPDATE_KEYS), text.as_bytes(), 0o644)
        .map_err(|error| Problem::from_io(&error, "the update keys"))
}

/// Parses the head of a bundle, and checks that one of the device's keys signed it.
pub(super) fn read_head(root: &Path, bytes: &[u8]) -> Result<Head, Problem> {
    let keys = Keys::read(root)?;
    let mut rest = bytes;
    let head = Head::read(&mut rest, |message, signature| keys.have_signed(message, signature))
        .map_err(|error| Problem::from_bundle(&error))?;
    if !rest.is_empty() {
        return refuse(Refusal::Bundle, "the request holds more than the head of a bundle");
    }
    Ok(head)
}

/// Returns the record of `slot` on `disk`, if one of the device's keys signed it.
pub(super) fn verified_record(root: &Path, disk: &Disk, slot: Slot) -> Result<BundleManifest, Problem> {
    let signed = engine::read_signed(disk, slot).map_err(Problem::from_engine)?;
    let keys = Keys::read(root)?;
    let manifest = signed
        .and_then(|signed| signed.verified(|message, signature| keys.have_signed(message, signature)).ok());
    manifest.map_or_else(
        || {
            let text = format!(
                "slot {slot} holds no build that a key of this device has signed, and {SIGNED_ONLY}; push an update into it"
            );
            refuse(Refusal::Signature, text)
        },
        Ok,
    )
}
