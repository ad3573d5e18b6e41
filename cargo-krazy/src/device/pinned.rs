//! TLS with the certificate that the appliance was provisioned with, or one of a few during a rotation.
//!
//! The certificate must equal the one from the state directory, byte for byte, and the device must prove that it has
//! its key. Authorities, names and dates are not checked: the address of a device varies, its clock may be wrong, and a
//! device that was off for years must still be reachable.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

/// SHA-256 of a certificate in DER.
pub(crate) type Fingerprint = [u8; 32];

/// The fingerprint of `certificate`.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// The last certificate that was rejected.
pub(crate) type RejectedCertificate = Arc<Mutex<Option<Fingerprint>>>;

/// Takes the fingerprint of the last rejected certificate.
pub(crate) fn take(rejected: &RejectedCertificate) -> Option<Fingerprint> {
    rejected.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Returns TLS that accepts only certificates with the fingerprints `pinned`, and stores others in `rejected`.
pub(crate) fn config(
    pinned: Vec<Fingerprint>,
    rejected: RejectedCertificate,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { pinned, rejected, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // There is one request at a time, and the windows of HTTP/2 would slow uploads down.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    pinned: Vec<Fingerprint>,
    rejected: RejectedCertificate,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = fingerprint(end_entity);
        if self.pinned.contains(&found) {
            return Ok(ServerCertVerified::assertion());
        }
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Err(rustls::Error::General("the certificate is not the pinned one".to_owned()))
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
        let verifier = Pinned {
            pinned: vec![fingerprint(&expired), fingerprint(&future)],
            rejected: RejectedCertificate::default(),
            provider: Arc::new(ring::default_provider()),
        };
        let verify = |certificate| {
            let name = ServerName::try_from("10.0.0.5").unwrap();
            verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
        };
        assert!(verify(&expired).is_ok() && verify(&future).is_ok());
        assert!(verify(&other).is_err());
        assert_eq!(take(&verifier.rejected), Some(fingerprint(&other)));
    }
}
