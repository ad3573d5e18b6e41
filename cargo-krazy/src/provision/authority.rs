//! The authority of an appliance, from which each of its devices has a certificate and a token of its own: who takes a
//! device apart learns nothing about the others.
//!
//! | in the appliance's `secrets/authority` | is |
//! |---|---|
//! | `cert.pem` | the authority's certificate, by which clients recognise devices; no secret |
//! | `key.pem` | its key, which signs the certificates of devices |
//! | `master` | 32 bytes in hexadecimal digits, from which the tokens of devices are derived |
//!
//! A device is known by a random id, which its certificate has as a DNS name. Its token is the HMAC-SHA-256 (RFC 2104) of
//! the id under the master secret: whoever has the appliance's directory reaches every device, also one that somebody
//! else made, and there is no list to keep.

use std::path::Path;

use anyhow::Context;
use krazy_boot::api::credentials::Token;
use krazy_boot::digest::Hex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ring::hmac;
use rustls_pki_types::CertificateDer;

use super::certificate::{self, TlsIdentity};
use super::rotation::Pair;
use super::{Secrets, random, store};

const DIRECTORY: &str = "authority";
const MASTER: &str = "master";

/// The end of the DNS name that holds a device's id. It cannot be a host's name (RFC 6761, section 6.4).
pub(crate) const ID_DOMAIN: &str = ".device.invalid";

/// A device's id: 16 random bytes.
pub(crate) type DeviceId = Hex<16>;

/// Makes certificates and tokens of devices. Has no `Debug`, so that it cannot end up in a message.
pub(crate) struct Authority {
    appliance: String,
    key: KeyPair,
    tokens: DeviceTokens,
}

/// Derives the tokens of devices.
#[derive(Clone)]
pub(crate) struct DeviceTokens([u8; 32]);

impl DeviceTokens {
    /// The token of the device `id`.
    pub(crate) fn of(&self, id: DeviceId) -> Token {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut bytes = [0; 32];
        // Both have 32 bytes.
        bytes.copy_from_slice(hmac::sign(&key, &[b"krazy device token\0", &id.0[..]].concat()).as_ref());
        Token::from_random(bytes)
    }
}

impl Authority {
    /// The authority of the appliance `name` in the directory of its secrets; makes it if there is none.
    pub(super) fn provision(directory: &Path, name: &str) -> anyhow::Result<Self> {
        if !directory.join(DIRECTORY).join(MASTER).exists() {
            let made = TlsIdentity::authority(name)?;
            let master = format!("{}\n", Hex(random::<32>()?));
            let files = [
                (store::CERTIFICATE, made.certificate.as_str()),
                (store::PRIVATE_KEY, made.private_key.as_str()),
                (MASTER, master.as_str()),
            ];
            // Another run may be faster: what counts is what is stored.
            store::write_directory(&directory.join(DIRECTORY), files)?;
        }
        let key = store::read_file(&directory.join(DIRECTORY).join(store::PRIVATE_KEY))?;
        let key = KeyPair::from_pem(&key).context("the authority's key cannot be read")?;
        let tokens = device_tokens(directory)?.context("the authority's master secret has gone again")?;
        Ok(Authority { appliance: name.to_owned(), key, tokens })
    }

    /// A new identity for a device.
    pub(crate) fn new_identity(&self) -> anyhow::Result<DeviceIdentity> {
        let id = Hex(random()?);
        let issuer = Issuer::new(params(&self.appliance)?, &self.key);
        let own_name = format!("{id}{ID_DOMAIN}");
        let pair = Pair::new(TlsIdentity::signed(&self.appliance, &own_name, &issuer)?);
        Ok(DeviceIdentity { id, pair, token: self.tokens.of(id) })
    }
}

/// What one device has and no other one.
pub(crate) struct DeviceIdentity {
    /// Its id.
    pub(crate) id: DeviceId,
    /// Its key and certificate.
    pub(crate) pair: Pair,
    /// Its admin token.
    pub(crate) token: Token,
}

/// The parameters of the authority's certificate.
pub(super) fn params(name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{name} devices"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// The authority's certificate, DER, in the directory of an appliance's secrets; nothing if it has no authority.
pub(super) fn certificate(directory: &Path) -> anyhow::Result<Option<CertificateDer<'static>>> {
    let pem = store::read_certificate(&directory.join(DIRECTORY))?;
    pem.map(|pem| certificate::parse(&pem)).transpose()
}

/// What derives the tokens of devices, in the directory of an appliance's secrets; nothing if it has no authority.
pub(super) fn device_tokens(directory: &Path) -> anyhow::Result<Option<DeviceTokens>> {
    let path = directory.join(DIRECTORY).join(MASTER);
    if !path.exists() {
        return Ok(None);
    }
    let master: Hex<32> = store::read_file(&path)?
        .trim_end()
        .parse()
        .with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Some(DeviceTokens(master.0)))
}

impl Secrets {
    /// The authority of the appliance; makes it for one that has none, as those of earlier versions.
    pub(crate) fn authority(&self, name: &str) -> anyhow::Result<Authority> {
        Authority::provision(&self.directory, name)
    }
}

#[cfg(test)]
mod tests {
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
    fn authority_is_made_once_and_each_identity_is_another() {
        let state = tempfile::tempdir().unwrap();
        let secrets = provision("weather", state.path()).unwrap();
        let identities = [(); 2].map(|()| secrets.authority("weather").unwrap().new_identity().unwrap());
        assert_ne!(identities[0].id, identities[1].id);
        let secrets = load("weather", state.path()).unwrap();
        let again = secrets.authority("weather").unwrap();
        for identity in &identities {
            assert_eq!(again.tokens.of(identity.id), identity.token);
        }
    }
}
