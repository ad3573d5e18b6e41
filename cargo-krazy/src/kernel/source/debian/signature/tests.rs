//! Judging signatures, Debian's own and ones that must not pass.

use std::time::Duration;

use pgp::packet::{SignatureConfig, Subpacket, SubpacketData};
use pgp::types::{Password, Timestamp};
use proptest::prelude::*;

use super::testing::{keyring, secret_key, signed, signed_for};
use super::*;

/// Debian 13.7's own file, as published.
const TRIXIE: &str = include_str!("../testdata/trixie-InRelease");
const IN_2027: Duration = Duration::from_secs(1_800_000_000);

fn judge(ring: &Keyring, file: &str, after: Duration) -> String {
    match ring.signed_text(file, UNIX_EPOCH + after) {
        Ok(text) => format!("good: {}", text.lines().next().unwrap_or_default()),
        Err(error) => error.to_string(),
    }
}

/// The same file, its signature claiming SHA-1. (rPGP does not make such a signature with a modern key.)
fn with_sha1(file: &str) -> String {
    let (message, _) = CleartextSignedMessage::from_string(file).unwrap();
    let original = &message.signatures()[0];
    let mut config = original.config().unwrap().clone();
    config.hash_alg = HashAlgorithm::Sha1;
    let value = original.signed_hash_value().unwrap();
    let signature = Signature::from_config(config, value, original.signature().unwrap().clone()).unwrap();
    let message = CleartextSignedMessage::new_many("Origin: Test\n", |_| Ok(vec![signature])).unwrap();
    message.to_armored_string(pgp::composed::ArmorOptions::default()).unwrap()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn debians_own_file_verifies_until_the_keys_expire() {
    let ring = Keyring::debian().unwrap();
    assert_eq!(ring.certificates.len(), 6);
    assert_eq!(judge(&ring, TRIXIE, IN_2027), "good: Origin: Debian");
    // The last of its three keys, trixie's automatic one, expires on 2035-03-28.
    assert_eq!(judge(&ring, TRIXIE, Duration::from_secs(2_050_000_000)), "good: Origin: Debian");
    let late = judge(&ring, TRIXIE, Duration::from_secs(2_060_000_000));
    for key in ["4CB50190207B4758A3F73A796ED0E7B82643E131", "B8E5F13176D2A7A75220028078DBA3BC47EF2265"] {
        assert!(late.contains(&format!("its key {key} has expired")), "{late}");
    }
    assert!(judge(&ring, TRIXIE, Duration::from_secs(1_700_000_000)).contains("is from the future"));
}

#[test]
fn one_changed_byte_is_seen() {
    let ring = Keyring::debian().unwrap();
    let tampered = TRIXIE.replacen("7778d3e3", "7778d3e4", 1);
    assert_ne!(tampered, TRIXIE);
    let why = judge(&ring, &tampered, IN_2027);
    assert!(why.contains("41587F7DB8C774BCCF131416762F67A0B2C39DE4 does not match the text"), "{why}");
    let addition = format!("Codename: forky\n{TRIXIE}");
    assert!(judge(&ring, &addition, IN_2027).starts_with("it is not a signed file"));
    assert!(judge(&ring, "Origin: Debian\n", IN_2027).starts_with("it is not a signed file"));
}

#[test]
fn signers_hashes_and_dates_matter() {
    let (key, other) = (secret_key(), secret_key());
    let ring = keyring(&key);
    let file = signed(&key, "Origin: Test\n- dashed\n");
    assert_eq!(judge(&ring, &file, now()), "good: Origin: Test");
    assert_eq!(ring.signed_text(&file, SystemTime::now()).unwrap(), "Origin: Test\r\n- dashed\r\n");
    assert_eq!(
        judge(&keyring(&other), &file, now()),
        "none of its signatures is by a key this program knows"
    );
    let weak = with_sha1(&file);
    assert!(
        judge(&ring, &weak, now()).ends_with("uses the weak Sha1 hash"),
        "{}",
        judge(&ring, &weak, now())
    );
    let brief = signed_for(&key, "Origin: Test\n", Some(60));
    assert_eq!(judge(&ring, &brief, now()), "good: Origin: Test");
    assert!(judge(&ring, &brief, now() + Duration::from_secs(61)).ends_with("has expired"));
}

#[test]
fn revoked_key_signs_no_more() {
    let key = secret_key();
    let file = signed(&key, "Origin: Test\n");
    let mut certificate = SignedPublicKey::from(key.clone());
    let mut config =
        SignatureConfig::v4(SignatureType::KeyRevocation, key.primary_key.algorithm(), HashAlgorithm::Sha256);
    for data in [
        SubpacketData::SignatureCreationTime(Timestamp::now()),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
    ] {
        config.hashed_subpackets.push(Subpacket::regular(data).unwrap());
    }
    let revocation = config.sign_key(&key.primary_key, &Password::empty(), &certificate.primary_key).unwrap();
    certificate.details.revocation_signatures.push(revocation);
    let ring = Keyring::new(vec![certificate]).unwrap();
    assert!(judge(&ring, &file, now()).ends_with("is revoked"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_never_panics(at in any::<proptest::sample::Index>(), with in "\\PC{0,3}") {
        let ring = Keyring { certificates: Vec::new() };
        let short = TRIXIE.lines().take(12).chain(TRIXIE.lines().skip_while(|l| *l != "-----BEGIN PGP SIGNATURE-----"));
        let mut file = short.collect::<Vec<_>>().join("\n");
        let at = at.index(file.len());
        if file.is_char_boundary(at) {
            file.replace_range(at..(at + 1).min(file.len()), &with);
        }
        let _ = ring.signed_text(&file, UNIX_EPOCH + IN_2027);
    }
}
