//! Replacing the certificate of a running device.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use krazy_admind::config::Limits;
use krazy_boot::api::certificate::{CertificateStatus, TRIAL_SERVER_NAME};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustls_pki_types::CertificateDer;

use crate::device::{Device, client, problem, serve, tls, token};

const PATH: &str = "/api/v1/certificate";

/// A key and certificate in PEM, and the certificate.
struct Pair {
    pem: String,
    certificate: CertificateDer<'static>,
}

fn pair(last_year: i32) -> Pair {
    let key = KeyPair::generate().unwrap();
    let names = ["localhost", TRIAL_SERVER_NAME].map(str::to_owned);
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = date_time_ymd(last_year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
    Pair { pem, certificate: certificate.der().clone() }
}

/// A request of an admin to the server name `name`, trusting only `certificate`.
fn request(
    address: SocketAddr,
    certificate: &CertificateDer<'static>,
    name: &str,
    method: Method,
    path: &str,
) -> RequestBuilder {
    let client = client(address, tls(certificate), IpAddr::from([127, 0, 0, 1]));
    client.request(method, format!("https://{name}:{}{path}", address.port())).bearer_auth(token("admin"))
}

async fn confirm(address: SocketAddr, certificate: &CertificateDer<'static>, name: &str) -> Response {
    let confirm = format!("{PATH}/confirm");
    request(address, certificate, name, Method::POST, &confirm).send().await.unwrap()
}

/// Reads the status, trusting only `certificate`. Returns `None` if the device presents another one.
async fn status(address: SocketAddr, certificate: &CertificateDer<'static>) -> Option<CertificateStatus> {
    let response = request(address, certificate, "localhost", Method::GET, PATH).send().await.ok()?;
    Some(serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

async fn put(device: &Device, pem: impl Into<reqwest::Body>) -> Response {
    device.request("admin", Method::PUT, PATH).body(pem).send().await.unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn new_certificate_is_used_after_its_trial_is_confirmed() {
    let device = Device::start().await;
    let (address, old, new) = (device.address, device.certificate(), pair(9999));
    let before = status(address, &old).await.unwrap();
    let tried: CertificateStatus =
        serde_json::from_slice(&put(&device, new.pem.clone()).await.bytes().await.unwrap()).unwrap();
    assert_eq!(tried.sha256, before.sha256);
    assert!((1..=600).contains(&tried.trial.unwrap().remaining));

    // Clients that do not ask for the trial do not get it, and cannot confirm it.
    assert!(status(address, &new.certificate).await.is_none());
    let details = problem(confirm(address, &old, "localhost").await).await;
    assert_eq!((details.status, details.kind.as_str()), (409, "urn:krazy:not-now"));
    assert!(!device.path("data/krazy/tls/confirmed.pem").exists());

    let confirmed = confirm(address, &new.certificate, TRIAL_SERVER_NAME).await;
    assert_eq!(confirmed.status(), StatusCode::NO_CONTENT);
    assert!(status(address, &old).await.is_none());
    let after = status(address, &new.certificate).await.unwrap();
    assert_eq!((after.sha256, after.trial), (hash(&new), None));
    assert_eq!(after.not_after.as_deref(), Some("9999-01-01T00:00:00Z"));
    // Repeated, as by a client that lost the response.
    assert_eq!(confirm(address, &new.certificate, TRIAL_SERVER_NAME).await.status(), StatusCode::NO_CONTENT);

    let directory = device.path("data/krazy/tls");
    assert_eq!((mode(&directory.join("key.pem")), mode(&directory.join("cert.pem"))), (0o600, 0o644));
    assert!(!std::fs::read_to_string(directory.join("cert.pem")).unwrap().contains("PRIVATE"));
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 2);
    let again = serve(device.root.path(), Limits::default()).await;
    assert_eq!(status(again, &new.certificate).await.unwrap().sha256, hash(&new));
}

fn hash(pair: &Pair) -> krazy_boot::digest::Sha256Hash {
    use sha2::Digest;
    krazy_boot::digest::Hex(sha2::Sha256::digest(&pair.certificate).into())
}

#[tokio::test]
async fn unconfirmed_certificate_is_dropped() {
    let limits = Limits { certificate_trial: Duration::from_millis(1), ..Limits::default() };
    let device = Device::with_limits(limits).await;
    let new = pair(9999);
    assert_eq!(put(&device, new.pem.clone()).await.status(), StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let old = device.certificate();
    assert_eq!(status(device.address, &old).await.unwrap().trial, None);
    let late = request(device.address, &new.certificate, TRIAL_SERVER_NAME, Method::GET, PATH);
    assert!(late.send().await.is_err(), "the old certificate is presented again");

    // A restart during the trial.
    let device = Device::start().await;
    put(&device, new.pem).await;
    let again = serve(device.root.path(), Limits::default()).await;
    assert_eq!(status(again, &device.certificate()).await.unwrap().trial, None);
}

#[tokio::test]
async fn confirmed_certificate_survives_a_power_cut() {
    let device = Device::start().await;
    let new = pair(9999);
    let directory = device.path("data/krazy/tls");
    // As after the first write, with and without the old key.
    std::fs::write(directory.join("confirmed.pem"), &new.pem).unwrap();
    for cut in ["", "key.pem"] {
        let again = serve(device.root.path(), Limits::default()).await;
        assert_eq!(status(again, &new.certificate).await.unwrap().sha256, hash(&new));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2, "{cut}");
        std::fs::write(directory.join("confirmed.pem"), &new.pem).unwrap();
        std::fs::remove_file(directory.join("key.pem")).unwrap();
    }
    // An unusable one does not prevent the start.
    std::fs::write(directory.join("confirmed.pem"), "torn").unwrap();
    std::fs::write(directory.join("key.pem"), &new.pem).unwrap();
    let again = serve(device.root.path(), Limits::default()).await;
    assert!(status(again, &new.certificate).await.is_some());
}

#[tokio::test]
async fn unusable_certificates_are_rejected() {
    let device = Device::start().await;
    let [one, two] = [pair(9999), pair(9999)];
    let key = |pair: &Pair| pair.pem[..pair.pem.find("-----BEGIN CERTIFICATE").unwrap()].to_owned();
    let mixed = format!("{}{}", key(&one), &two.pem[key(&two).len()..]);
    for (pem, why) in [
        (mixed, "certificate and key do not work together"),
        (key(&one), "no certificate found"),
        (one.pem[key(&one).len()..].to_owned(), "the private key cannot be read"),
        (pair(2020).pem, "the certificate expired on 2020-01-01T00:00:00Z"),
        (format!("{}{}", one.pem, one.pem[key(&one).len()..].repeat(4)), "the chain has 5 certificates"),
        ("nonsense".to_owned(), "no certificate found"),
    ] {
        let details = problem(put(&device, pem).await).await;
        assert_eq!(details.kind, "urn:krazy:bad-request");
        assert!(details.detail.contains(why), "{why}: {}", details.detail);
    }
    let long = problem(put(&device, vec![b'-'; 70_000]).await).await;
    assert_eq!(long.kind, "urn:krazy:body-too-large");
    assert_eq!(status(device.address, &device.certificate()).await.unwrap().trial, None);
}

#[tokio::test]
async fn device_serves_with_an_expired_certificate() {
    let device = Device::start().await;
    let old = pair(2021);
    let directory = device.path("data/krazy/tls");
    std::fs::write(directory.join("key.pem"), &old.pem).unwrap();
    std::fs::write(directory.join("cert.pem"), &old.pem).unwrap();
    // This client checks dates, other than cargo krazy, whose own tests show that.
    let again = serve(device.root.path(), Limits::default()).await;
    let stream = tokio::net::TcpStream::connect(again).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls(&old.certificate)));
    let error = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}
