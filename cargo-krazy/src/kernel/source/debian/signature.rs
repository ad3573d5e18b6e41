//! Signatures of the Debian archive on `InRelease` files.
//!
//! The archive's public keys are part of the program, so no mirror and no network needs to be trusted. One
//! good signature is enough (an archive signs with its old and its new key for years); it is good if it is
//! made over this text with a strong hash by a key of ours that is neither expired nor revoked, not in the
//! future, and not expired itself. rPGP checks the mathematics, everything else is checked here.

mod error;

use std::time::{SystemTime, UNIX_EPOCH};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, VerifyingKey};

pub(crate) use self::error::{Flaw, SignatureError};

/// Debian 12 and 13: stable release, archive and security keys, from the package `debian-archive-keyring`.
const DEBIAN_KEYS: [&[u8]; 6] = [
    include_bytes!("keys/debian-archive-bookworm-stable.gpg"),
    include_bytes!("keys/debian-archive-bookworm-automatic.gpg"),
    include_bytes!("keys/debian-archive-bookworm-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-trixie-stable.gpg"),
    include_bytes!("keys/debian-archive-trixie-automatic.gpg"),
    include_bytes!("keys/debian-archive-trixie-security-automatic.gpg"),
];
/// Seconds a signer's clock may be ahead of ours.
const CLOCK_SKEW: u64 = 24 * 3600;
/// Signatures looked at; trixie's file has three.
const MOST_SIGNATURES: usize = 32;

/// Keys that may sign an archive.
#[derive(Debug)]
pub(crate) struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// The keys of the Debian archive.
    pub(crate) fn debian() -> Result<Self, SignatureError> {
        let mut certificates = Vec::new();
        for bytes in DEBIAN_KEYS {
            for certificate in SignedPublicKey::from_bytes_many(bytes).map_err(SignatureError::Key)? {
                certificates.push(certificate.map_err(SignatureError::Key)?);
            }
        }
        Keyring::new(certificates)
    }

    /// A ring of these certificates. Their own signatures over their parts are verified here. Those by other keys, which
    /// Debian's certificates carry too, are dropped: they cannot be verified, so they could claim anything.
    pub(crate) fn new(mut certificates: Vec<SignedPublicKey>) -> Result<Self, SignatureError> {
        for certificate in &mut certificates {
            for user in &mut certificate.details.users {
                user.signatures.retain(|signature| is_by(signature, &certificate.primary_key));
            }
            certificate.details.users.retain(|user| !user.signatures.is_empty());
            certificate.verify_bindings().map_err(SignatureError::Key)?;
        }
        Ok(Keyring { certificates })
    }

    /// The text that `file` signs in the clear, if one signature is good at `now`.
    ///
    /// Line ends come out as CR LF, trailing white space is gone; nothing outside of the signed part is
    /// returned.
    pub(crate) fn signed_text(&self, file: &str, now: SystemTime) -> Result<String, SignatureError> {
        let (message, _) = CleartextSignedMessage::from_string(file).map_err(SignatureError::Unsigned)?;
        let text = message.signed_text();
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut flaws = Vec::new();
        for signature in message.signatures().iter().take(MOST_SIGNATURES) {
            for certificate in &self.certificates {
                match check(signature, certificate, text.as_bytes(), now) {
                    None => {}
                    Some(Ok(())) => return Ok(text),
                    Some(Err(flaw)) => flaws.push(flaw),
                }
            }
        }
        Err(if flaws.is_empty() { SignatureError::UnknownSigner } else { SignatureError::Invalid(flaws) })
    }
}

/// Judges a signature by a key of `certificate`; `None` if it is by another.
fn check(
    signature: &Signature,
    certificate: &SignedPublicKey,
    text: &[u8],
    now: u64,
) -> Option<Result<(), Flaw>> {
    let primary = &certificate.primary_key;
    if is_by(signature, primary) {
        return Some(check_with(signature, primary, primary_expiry(certificate), certificate, text, now));
    }
    let subkey = certificate.public_subkeys.iter().find(|subkey| is_by(signature, &subkey.key))?;
    if is_revoked(subkey) {
        return Some(Err(Flaw::Revoked(fingerprint(&subkey.key))));
    }
    if !subkey.signatures.iter().any(|binding| binding.key_flags().sign()) {
        return Some(Err(Flaw::NotForSigning(fingerprint(&subkey.key))));
    }
    let expiry = earlier(primary_expiry(certificate), subkey_expiry(subkey));
    Some(check_with(signature, &subkey.key, expiry, certificate, text, now))
}

fn check_with(
    signature: &Signature,
    key: &impl VerifyingKey,
    expiry: Option<u64>,
    certificate: &SignedPublicKey,
    text: &[u8],
    now: u64,
) -> Result<(), Flaw> {
    let by = fingerprint(key);
    if !certificate.details.revocation_signatures.is_empty() {
        return Err(Flaw::Revoked(by));
    }
    if let Some(expiry) = expiry
        && expiry <= now
    {
        return Err(Flaw::ExpiredKey(by));
    }
    if signature.typ() != Some(SignatureType::Text) && signature.typ() != Some(SignatureType::Binary) {
        return Err(Flaw::NotOverFile(by));
    }
    match signature.hash_alg() {
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512) => {}
        hash => return Err(Flaw::Hash { key: by, hash }),
    }
    let Some(created) = signature.created().map(|time| u64::from(time.as_secs())) else {
        return Err(Flaw::NoDate(by));
    };
    if created > now + CLOCK_SKEW {
        return Err(Flaw::Future(by));
    }
    if created < u64::from(key.created_at().as_secs()) {
        return Err(Flaw::BeforeKey(by));
    }
    let lifetime = signature.signature_expiration_time().map_or(0, |time| u64::from(time.as_secs()));
    if lifetime > 0 && created + lifetime <= now {
        return Err(Flaw::Expired(by));
    }
    signature.verify(key, text).map_err(|_| Flaw::OtherText(by))
}

fn is_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().into_iter().any(|id| *id == key.legacy_key_id())
    } else {
        fingerprints.into_iter().any(|fingerprint| *fingerprint == key.fingerprint())
    }
}

fn is_revoked(subkey: &SignedPublicSubKey) -> bool {
    subkey.signatures.iter().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation))
}

/// The second the primary key expires at, from the newest signature that may say so.
fn primary_expiry(certificate: &SignedPublicKey) -> Option<u64> {
    let details = &certificate.details;
    let of_users = details.users.iter().flat_map(|user| &user.signatures);
    let newest = of_users.chain(&details.direct_signatures).max_by_key(|signature| signature.created())?;
    expiry(newest, &certificate.primary_key)
}

fn subkey_expiry(subkey: &SignedPublicSubKey) -> Option<u64> {
    let newest = subkey.signatures.iter().max_by_key(|signature| signature.created())?;
    expiry(newest, &subkey.key)
}

fn expiry(signature: &Signature, key: &impl KeyDetails) -> Option<u64> {
    let lifetime = u64::from(signature.key_expiration_time()?.as_secs());
    (lifetime > 0).then(|| u64::from(key.created_at().as_secs()) + lifetime)
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
