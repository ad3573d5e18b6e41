//! TLS identities: a P-256 key and a certificate, signed by itself or by the appliance's authority.
//!
//! P-256 and not Ed25519, because browsers do not accept Ed25519 certificates. Clients pin the certificate or its
//! authority, so nothing hangs on names or dates; they are filled in for browsers and for `curl --cacert`.

use anyhow::Context;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// A certificate and its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TlsIdentity {
    pub(super) certificate: String,
    pub(super) private_key: String,
}

impl TlsIdentity {
    /// A new key and certificate for the appliance `name`, which all its devices can have.
    pub(super) fn generate(name: &str) -> anyhow::Result<Self> {
        let (params, key) = (device(name, None)?, new_key()?);
        let certificate = params.self_signed(&key).context("failed to sign the TLS certificate")?;
        Ok(TlsIdentity { certificate: certificate.pem(), private_key: key.serialize_pem() })
    }

    /// A new key for one device of the appliance `name`, and its certificate with the DNS name `own`, signed by `issuer`.
    pub(super) fn signed(name: &str, own: &str, issuer: &Issuer<'_, &KeyPair>) -> anyhow::Result<Self> {
        let (params, key) = (device(name, Some(own))?, new_key()?);
        let certificate = params.signed_by(&key, issuer).context("failed to sign the TLS certificate")?;
        Ok(TlsIdentity { certificate: certificate.pem(), private_key: key.serialize_pem() })
    }

    /// Checks that both parse and belong together.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let der = self.certificate_der()?;
        let key = KeyPair::from_pem(&self.private_key).context("the TLS key cannot be read")?;
        if !holds_key(&der, &key) {
            anyhow::bail!("the TLS certificate belongs to another key");
        }
        Ok(())
    }

    /// The certificate in DER, as the TLS handshake carries it.
    pub(super) fn certificate_der(&self) -> anyhow::Result<CertificateDer<'static>> {
        parse(&self.certificate)
    }
}

fn new_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("failed to make a TLS key")
}

/// The parameters of a device's certificate.
///
/// Valid from 2020, so that a client whose clock is behind accepts it, to the end of 9999, which stands for
/// "does not expire" (RFC 5280, section 4.1.2.5): a device in a wall must stay reachable.
fn device(name: &str, own: Option<&str>) -> anyhow::Result<CertificateParams> {
    let names =
        [name.to_owned(), format!("{name}.local"), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    let names: Vec<_> = names.into_iter().chain(own.map(str::to_owned)).collect();
    let mut params = CertificateParams::new(names)
        .with_context(|| format!("failed to make a certificate for `{name}`"))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Returns true if `certificate` is of `key`: it holds the public key verbatim (RFC 5280, section 4.1.2.7).
pub(super) fn holds_key(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let public = key.public_key_raw();
    certificate.windows(public.len()).any(|window| window == public)
}

/// A certificate in PEM, in DER.
pub(super) fn parse(pem: &str) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).context("the TLS certificate cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_and_key_belong_together() {
        let (one, two) = (TlsIdentity::generate("one").unwrap(), TlsIdentity::generate("one").unwrap());
        one.check().unwrap();
        let mixed = TlsIdentity { private_key: two.private_key, ..one.clone() };
        assert_eq!(mixed.check().unwrap_err().to_string(), "the TLS certificate belongs to another key");
        let damaged = TlsIdentity { certificate: "-----BEGIN".into(), ..one };
        assert_eq!(damaged.check().unwrap_err().to_string(), "the TLS certificate cannot be read");
    }
}
