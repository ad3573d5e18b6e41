//! A device of one thread for tests: TLS with a certificate of its own, one request per connection.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use krazy_boot::api::credentials::Token;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::client::Client;
use super::target::Target;

/// Returns the bytes of the response to a request's head and body. Empty bytes hang up.
pub(crate) type Answer = Box<dyn Fn(&str, &[u8]) -> Vec<u8> + Send>;

/// The token that clients of these tests send.
pub(crate) fn token() -> Token {
    Token::from_random([0xab; 32])
}

/// A running device. Its thread ends with the test's process.
pub(crate) struct Device {
    pub(crate) target: Target,
    pub(crate) certificate: CertificateDer<'static>,
    /// Heads of the requests so far.
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

impl Device {
    pub(crate) fn start(answer: Answer) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["test".into()]).unwrap().self_signed(&key).unwrap();
        Self::start_as(&format!("{}{}", key.serialize_pem(), certificate.pem()), answer)
    }

    /// A device with the key and certificate in `pem`.
    pub(crate) fn start_as(pem: &str, answer: Answer) -> Self {
        Self::start_at("127.0.0.1:0", pem, answer)
    }

    /// The same, listening at `address`.
    pub(crate) fn start_at(address: &str, pem: &str, answer: Answer) -> Self {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let (config, heads) = (Arc::new(config), Arc::new(Mutex::new(Vec::new())));
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                if let Some((head, body)) = request(&mut stream) {
                    seen.lock().unwrap().push(head.clone());
                    // A client that hung up, or does not trust the certificate, gets no response.
                    let _gone = stream.write_all(&answer(&head, &body));
                    stream.conn.send_close_notify();
                    let _gone = stream.flush();
                }
            }
        });
        Device { target: Target { name: "test".into(), address, appliance: None }, certificate, heads }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(&self.certificate)
    }

    pub(crate) fn client_with(&self, certificate: &CertificateDer<'_>) -> Client {
        Client::with(&self.target, "weather", std::slice::from_ref(certificate), &token()).unwrap()
    }
}

fn request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end);
    while body.len() < length {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => body.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
    Some((head, body))
}

/// An answer with this status line and body.
pub(crate) fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
