//! A key of our own, and files signed with it.

use pgp::composed::{ArmorOptions, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::packet::{SignatureConfig, Subpacket, SubpacketData};
use pgp::types::{Password, Timestamp};

use super::*;

/// A fresh signing key.
pub(crate) fn secret_key() -> SignedSecretKey {
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_sign(true)
        .can_certify(true)
        .primary_user_id("Archive <archive@test>".to_owned())
        .build()
        .unwrap()
        .generate(rand::thread_rng())
        .unwrap()
}

/// A ring with the public part of `key`.
pub(crate) fn keyring(key: &SignedSecretKey) -> Keyring {
    Keyring::new(vec![SignedPublicKey::from(key.clone())]).unwrap()
}

/// `text` signed in the clear.
pub(crate) fn signed(key: &SignedSecretKey, text: &str) -> String {
    signed_for(key, text, None)
}

/// The same with a lifetime in seconds of the signature.
pub(crate) fn signed_for(key: &SignedSecretKey, text: &str, lifetime: Option<u32>) -> String {
    let key = &key.primary_key;
    let mut config = SignatureConfig::v4(SignatureType::Text, key.algorithm(), HashAlgorithm::Sha256);
    let mut add = |data| config.hashed_subpackets.push(Subpacket::regular(data).unwrap());
    add(SubpacketData::SignatureCreationTime(Timestamp::now()));
    add(SubpacketData::IssuerFingerprint(key.fingerprint()));
    if let Some(seconds) = lifetime {
        add(SubpacketData::SignatureExpirationTime(pgp::types::Duration::from_secs(seconds)));
    }
    let message = CleartextSignedMessage::new(text, config, key, &Password::empty()).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}
