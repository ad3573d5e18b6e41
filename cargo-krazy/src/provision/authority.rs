//! The authority of an appliance, from which each of its devices has a certificate and a token of its own: who takes a
//! device apart learns nothing about the others.
//!
//! The authority's key, and the secret behind the tokens, are derived from the appliance's first update key (HMAC-SHA-256,
//! RFC 2104, as a pseudo-random function): every copy of the appliance's directory and every backup has the same authority,
//! also one that was made before there were authorities. A random one could be lost with the machine that made it, and all
//! devices with it.
//!
//! A device is known by a random id, which its certificate has as a DNS name, and from which its token is derived. So there
//! is no list of devices to keep.

use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::api::credentials::Token;
use krazy_boot::digest::Hex;
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ring::hmac;
use rustls_pki_types::CertificateDer;

use super::certificate::{self, TlsIdentity};
use super::error::SecretsError;
use super::exchange::UPDATE_KEYS;
use super::rotation::Pair;
use super::update_key::UpdateSigner;
use super::{Secrets, random, store};
use crate::failure::Failure;

/// The certificate of the authority, for who has no other file of the appliance. It is no secret.
pub(super) const CERTIFICATE: &str = "authority.pem";

/// The end of the DNS name that holds a device's id. It cannot be a host's name (RFC 6761, section 6.4).
pub(crate) const ID_DOMAIN: &str = ".device.invalid";

/// A device's id: 16 random bytes.
pub(crate) type DeviceId = Hex<16>;

/// Makes certificates and tokens of devices. Has no `Debug`, so that it cannot end up in a message.
pub(crate) struct Authority {
    key: KeyPair,
    tokens: DeviceTokens,
}

/// The credentials that one device has and no other one.
pub(crate) struct DeviceIdentity {
    /// Its id.
    pub(crate) id: DeviceId,
    /// Its key and certificate.
    pub(crate) pair: Pair,
    /// Its admin token.
    pub(crate) token: Token,
}

/// Derives the tokens of devices.
#[derive(Clone)]
pub(crate) struct DeviceTokens([u8; 32]);

impl DeviceTokens {
    /// The token of the device `id`.
    pub(crate) fn of(&self, id: DeviceId) -> Token {
        Token::from_random(derived(&self.0, &[b"krazy device token\0", &id.0[..]].concat()))
    }
}

impl Authority {
    fn derive(first: &UpdateSigner) -> anyhow::Result<Self> {
        let secret = first.to_der();
        // One of four thousand million numbers is no key of the curve.
        let mut candidates =
            (0..=u8::MAX).map(|count| derived(&secret, &[b"krazy authority key\0", &[count][..]].concat()));
        let key = candidates.find_map(|bytes| p256::SecretKey::from_slice(&bytes).ok());
        let pem = key.context("no key can be derived")?.to_pkcs8_pem(LineEnding::LF)?;
        let key = KeyPair::from_pem(&pem).context("the authority's key cannot be used")?;
        Ok(Authority { key, tokens: DeviceTokens(derived(&secret, b"krazy device tokens\0")) })
    }

    /// The authority of the appliance whose secrets are in `directory`; nothing if its update key is not there.
    pub(super) fn find(directory: &Path) -> anyhow::Result<Option<Self>> {
        if !directory.join(store::UPDATE_KEY).exists() {
            return Ok(None);
        }
        let first = match UPDATE_KEYS.former(directory)?.pop() {
            Some(former) => former,
            None => store::read_file(&directory.join(store::UPDATE_KEY))?,
        };
        let authority = Self::derive(&UpdateSigner::from_pem(&first)?)?;
        match store::read_certificate(&directory.join(CERTIFICATE))? {
            Some(pem) if !certificate::holds_key(&certificate::parse(&pem)?, &authority.key) => {
                let (directory, why) = (
                    directory.to_owned(),
                    format!(
                        "`{CERTIFICATE}` is of another first update key; \
                     `former-update-keys.pem`, which holds that after a rotation, is missing or another appliance's"
                    ),
                );
                Err(Failure::from(SecretsError::Damaged { directory, why }).into())
            }
            _ => Ok(Some(authority)),
        }
    }

    /// Stores its certificate in `directory`, if it is not there: for others, and to notice another first key.
    pub(super) fn store_certificate(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        let path = directory.join(CERTIFICATE);
        if !path.exists() {
            store::write_file(&path, &self.certificate_pem()?)?;
        }
        Ok(path)
    }

    /// Its certificate, PEM. It is another one at every call, which recognises the same devices.
    pub(super) fn certificate_pem(&self) -> anyhow::Result<String> {
        let made = params()?.self_signed(&self.key).context("failed to sign the authority's certificate")?;
        Ok(made.pem())
    }

    /// The token of the device `id`.
    pub(crate) fn token(&self, id: DeviceId) -> Token {
        self.tokens.of(id)
    }

    /// The derivation of tokens for devices.
    pub(super) fn into_tokens(self) -> DeviceTokens {
        self.tokens
    }

    /// A new identity for a device of the appliance `name`.
    pub(crate) fn new_identity(&self, name: &str) -> anyhow::Result<DeviceIdentity> {
        let id = Hex(random()?);
        let issuer = Issuer::new(params()?, &self.key);
        let pair = Pair::new(TlsIdentity::signed(name, &format!("{id}{ID_DOMAIN}"), &issuer)?);
        Ok(DeviceIdentity { id, pair, token: self.tokens.of(id) })
    }
}

fn derived(secret: &[u8], label: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut bytes = [0; 32];
    // Both have 32 bytes.
    bytes.copy_from_slice(hmac::sign(&key, label).as_ref());
    bytes
}

/// The parameters of an authority's certificate. They are without the appliance's name, which may change.
fn params() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "devices of a cargo krazy appliance");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// The authority's certificate, DER, for the secrets in `directory`: derived, or that of [`CERTIFICATE`]; nothing if neither
/// is there.
pub(super) fn certificate(directory: &Path) -> anyhow::Result<Option<CertificateDer<'static>>> {
    let pem = match Authority::find(directory)? {
        Some(authority) => Some(authority.certificate_pem()?),
        None => store::read_certificate(&directory.join(CERTIFICATE))?,
    };
    pem.map(|pem| certificate::parse(&pem)).transpose()
}

impl Secrets {
    /// The authority of the appliance. Its certificate is stored, if it was not.
    pub(crate) fn authority(&self) -> anyhow::Result<Authority> {
        let authority = Authority::find(&self.directory)?.context("the appliance's update key has gone")?;
        authority.store_certificate(&self.directory)?;
        Ok(authority)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::provision::{load, provision};

    #[test]
    fn tokens_are_derived_by_hmac() {
        let tokens = DeviceTokens([0x0b; 32]);
        let id = Hex([1; 16]);
        // printf 'krazy device token\0' and 16 times \x01, through `openssl mac -digest SHA256 -macopt hexkey:0b… HMAC`.
        assert_eq!(
            tokens.of(id).reveal(),
            "krz_eeba7c0077bf01b456bb997b410e67ea3accb6db04484b07563e94849ef948b5"
        );
        assert_ne!(tokens.of(Hex([2; 16])), tokens.of(id));
        assert_ne!(DeviceTokens([0x0c; 32]).of(id), tokens.of(id));
    }

    #[test]
    fn every_copy_has_the_same_authority_also_after_the_update_key_was_exchanged() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secrets = provision("weather", one.path()).unwrap();
        let copy = two.path().join("weather/secrets");
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        let copied = std::process::Command::new("cp").arg("-a").arg(&secrets.directory).arg(&copy).status();
        assert!(copied.unwrap().success());
        for _ in 0..3 {
            let here = load("weather", one.path()).unwrap().authority().unwrap();
            let there = load("weather", two.path()).unwrap().authority().unwrap();
            assert_eq!(here.key.public_key_raw(), there.key.public_key_raw());
            let id = here.new_identity("weather").unwrap().id;
            assert_eq!(here.token(id), there.token(id));
            let secrets = load("weather", one.path()).unwrap();
            secrets.make_next_update_key().unwrap();
            secrets.adopt_next_update_key().unwrap();
        }
        // A copy without the first key does not make another authority.
        let path = secrets.directory.join("former-update-keys.pem");
        let former = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = load("weather", one.path()).unwrap().authority().err().unwrap();
        assert!(format!("{error:#}").contains("`former-update-keys.pem`"), "{error:#}");
        fs::write(&path, former).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let other = provision("other", one.path()).unwrap().authority().unwrap();
        assert_ne!(other.token(Hex([1; 16])), secrets.authority().unwrap().token(Hex([1; 16])));
    }
}
