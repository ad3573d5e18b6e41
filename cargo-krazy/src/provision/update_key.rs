//! The keys that sign updates.

use anyhow::Context;
use krazy_boot::api::credentials::UpdateKey;
use krazy_boot::update::bundle::SIGNATURE_LEN;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};

/// An Ed25519 key pair (RFC 8032) that signs updates. Has no `Debug`, so that it cannot end up in a message.
pub(crate) struct UpdateSigner(KeyPair);

impl UpdateSigner {
    pub(super) fn generate() -> anyhow::Result<Self> {
        Ok(UpdateSigner(KeyPair::generate_for(&PKCS_ED25519).context("failed to make an update key")?))
    }

    /// Reads PKCS #8 in PEM.
    pub(super) fn from_pem(pem: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::from_pem_and_sign_algo(pem, &PKCS_ED25519);
        Ok(UpdateSigner(pair.context("the update key cannot be read")?))
    }

    pub(super) fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// PKCS #8 in DER, the same bytes as in the file.
    pub(super) fn to_der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// The public key, which devices have.
    pub(crate) fn public(&self) -> anyhow::Result<UpdateKey> {
        let key = self.0.public_key_raw().try_into();
        Ok(UpdateKey(key.context("an Ed25519 public key has 32 bytes")?))
    }

    /// Signs `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> anyhow::Result<[u8; SIGNATURE_LEN]> {
        let signature = self.0.sign(message).context("failed to sign the update")?;
        signature.try_into().ok().context("an Ed25519 signature has 64 bytes")
    }
}
