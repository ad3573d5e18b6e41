//! TLS with the certificate that the appliance was provisioned with, or one of a few during a rotation, or one that the
//! appliance's authority gave to the device.
//!
//! A pinned certificate must equal one from the state directory, byte for byte; the device's own must be signed by the
//! authority, and tells the device's id. The device must prove that it has the key. Hosts' names and dates are not checked:
//! the address of a device varies, its clock may be wrong, and a device that was off for years must still be reachable.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::provision::{DeviceId, ID_DOMAIN};

/// A time within the validity of certificates that authorities make: dates do not count.
const TIME: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_893_456_000));

/// SHA-256 of a certificate in DER.
pub(crate) type Fingerprint = [u8; 32];

/// The fingerprint of `certificate`.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// The certificates that are accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// These.
    pub(crate) pinned: Vec<Fingerprint>,
    /// Those of devices that this authority signed.
    pub(crate) authority: Option<CertificateDer<'static>>,
}

/// The last certificate that a device presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// One that was rejected.
    Rejected(Fingerprint),
    /// One that all devices of the appliance share.
    Shared(Fingerprint),
    /// That of the device with this id.
    Own(Fingerprint, DeviceId),
}

/// The place of the last [`Presented`].
pub(crate) type Notes = Arc<Mutex<Option<Presented>>>;

/// Takes what is noted.
pub(crate) fn take(notes: &Notes) -> Option<Presented> {
    notes.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Returns TLS that accepts only certificates as in `accepted`, and notes them.
pub(crate) fn config(accepted: Accepted, notes: Notes) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier { accepted, notes, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // There is one request at a time, and the windows of HTTP/2 would slow uploads down.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl Accepted {
    pub(crate) fn examine(&self, certificate: &CertificateDer<'_>) -> Presented {
        let found = fingerprint(certificate);
        if self.pinned.contains(&found) {
            return Presented::Shared(found);
        }
        let id = self.authority.as_ref().and_then(|authority| id_signed_by(authority, certificate));
        id.map_or(Presented::Rejected(found), |id| Presented::Own(found, id))
    }
}

/// Returns the id in `certificate`, if `authority` itself signed it.
fn id_signed_by(authority: &CertificateDer<'_>, certificate: &CertificateDer<'_>) -> Option<DeviceId> {
    let anchor = anchor_from_trusted_cert(authority).ok()?;
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let (usage, algorithms) = (KeyUsage::server_auth(), &[webpki::ring::ECDSA_P256_SHA256]);
    certificate.verify_for_usage(algorithms, &[anchor], &[], TIME, usage, None, None).ok()?;
    let mut ids = certificate.valid_dns_names().filter_map(|name| name.strip_suffix(ID_DOMAIN));
    let id = ids.next()?.parse().ok()?;
    ids.next().is_none().then_some(id)
}

#[derive(Debug)]
struct Verifier {
    accepted: Accepted,
    notes: Notes,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = self.accepted.examine(end_entity);
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented);
        match presented {
            Presented::Shared(_) | Presented::Own(..) => Ok(ServerCertVerified::assertion()),
            Presented::Rejected(_) => {
                Err(rustls::Error::General("the certificate is not one of the appliance".to_owned()))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::provision;

    fn accepted(pinned: Vec<Fingerprint>) -> Accepted {
        Accepted { pinned, authority: None }
    }

    #[test]
    fn pinned_certificate_is_accepted_whatever_its_dates() {
        let certificate = |first, last| {
            let mut params = CertificateParams::new(vec!["device".into()]).unwrap();
            params.not_before = date_time_ymd(first, 1, 1);
            params.not_after = date_time_ymd(last, 1, 1);
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
        };
        let [expired, future, other] =
            [certificate(1990, 1991), certificate(4000, 4001), certificate(1990, 4000)];
        let verifier = Verifier {
            accepted: accepted(vec![fingerprint(&expired), fingerprint(&future)]),
            notes: Notes::default(),
            provider: Arc::new(ring::default_provider()),
        };
        let verify = |certificate| {
            let name = ServerName::try_from("10.0.0.5").unwrap();
            verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
        };
        assert!(verify(&expired).is_ok() && verify(&future).is_ok());
        assert_eq!(take(&verifier.notes), Some(Presented::Shared(fingerprint(&future))));
        assert!(verify(&other).is_err());
        assert_eq!(take(&verifier.notes), Some(Presented::Rejected(fingerprint(&other))));
    }

    #[test]
    fn devices_are_recognised_by_their_authority_alone() {
        let state = tempfile::tempdir().unwrap();
        let [weather, other] = ["weather", "other"].map(|name| {
            let secrets = provision::provision(name, state.path()).unwrap();
            let authority = secrets.authority().unwrap();
            let certificate = provision::authority_certificate(name, state.path()).unwrap().unwrap();
            (authority, certificate)
        });
        let accepted = Accepted { pinned: Vec::new(), authority: Some(weather.1.clone()) };
        for _ in 0..2 {
            let identity = weather.0.new_identity("weather").unwrap();
            let certificate = identity.pair.certificate().unwrap();
            let presented = Presented::Own(fingerprint(&certificate), identity.id);
            assert_eq!(accepted.examine(&certificate), presented);
        }
        // Neither another appliance's device, nor the authority itself, nor who calls itself one of the devices.
        let foreign = other.0.new_identity("other").unwrap();
        let names = vec![format!("{}{ID_DOMAIN}", foreign.id)];
        let params = CertificateParams::new(names).unwrap();
        let impostor = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        for certificate in [foreign.pair.certificate().unwrap(), weather.1.clone(), impostor] {
            assert_eq!(accepted.examine(&certificate), Presented::Rejected(fingerprint(&certificate)));
        }
    }
}
