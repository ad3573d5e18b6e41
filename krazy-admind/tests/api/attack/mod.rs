//! Attacks on the executable. During each one an owner asks for the status over and over, from an address that the server
//! does not know, as after a restart; at its end the server has used no more than [`MAX_GROWTH_KIB`] of
//! further memory.
//!
//! `KRAZY_LONG=1` lets each attack last thirty times as long.

mod bodies;
mod connections;
mod downgrade;
mod frames;
mod paths;
mod smuggling;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use krazy_init::control::SOCKET;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::device::{Init, client, create, tls, token};
use crate::process::Process;

/// The memory that an attack may add (VmHWM, in KiB). With the 3 MiB of an idle server in a release
/// build, that is less than 12 MiB.
const MAX_GROWTH_KIB: u64 = 8 * 1024;
/// The time within which an owner gets the status.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Requests of the owner during an attack.
const MIN_REQUESTS: u32 = 3;
/// The time after which an attack ends although the owner was not served.
const MAX_ATTACK: Duration = Duration::from_secs(20);
/// Pause between two requests of the owner.
const OWNER_INTERVAL: Duration = Duration::from_millis(50);

/// The executable under attack.
pub struct Target {
    pub address: SocketAddr,
    pub init: Arc<Init>,
    root: tempfile::TempDir,
    certificate: CertificateDer<'static>,
    process: Process,
    idle_kib: u64,
    end: Arc<AtomicBool>,
    requests: Arc<AtomicU32>,
    owner: Option<JoinHandle<Vec<Option<Duration>>>>,
}

/// The duration of an attack: `usual`, or thirty times that.
pub fn duration(usual: Duration) -> Duration {
    if long() { usual * 30 } else { usual }
}

/// Returns true in the longer mode.
pub fn long() -> bool {
    std::env::var_os("KRAZY_LONG").is_some_and(|value| value == "1")
}

impl Target {
    /// Starts the server and its owner.
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let certificate = create(root.path());
        let init = Init::new(root.path());
        let (process, address) = Process::serve_with(&[], root.path());
        let idle_kib = process.kib("VmHWM");
        let (end, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let owner = {
            let (init, certificate) = (Arc::clone(&init), certificate.clone());
            let (end, requests) = (Arc::clone(&end), Arc::clone(&requests));
            let socket = root.path().join(SOCKET.trim_start_matches('/'));
            // On a thread of its own, so that the attack does not delay it here.
            std::thread::spawn(move || own(init, socket, address, certificate, &end, &requests))
        };
        Target { address, init, root, certificate, process, idle_kib, end, requests, owner: Some(owner) }
    }

    /// Returns the host path of `path` on the device.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Opens a TCP connection from the address `from`.
    pub async fn tcp(&self, from: [u8; 4]) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::from(from), 0))?;
        socket.connect(self.address).await
    }

    /// Opens a TLS connection for the protocol `alpn`.
    pub async fn tls(&self, from: [u8; 4], alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = tls(&self.certificate);
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp(from).await?).await
    }

    /// Sends the bytes of one HTTP/1.1 connection, and returns all that comes back until it ends, at most for `wait`.
    pub async fn exchange(&self, from: [u8; 4], request: &[u8], wait: Duration) -> String {
        let mut stream = self.tls(from, b"http/1.1").await.unwrap();
        let mut received = Vec::new();
        let talk = async {
            // The server may close before it has read everything.
            let _sent = stream.write_all(request).await;
            let _flushed = stream.flush().await;
            // Nor does it always close with TLS's message.
            let _end = stream.read_to_end(&mut received).await;
        };
        let _in_time = tokio::time::timeout(wait, talk).await;
        String::from_utf8_lossy(&received).into_owned()
    }

    /// Ends the attack called `name`, and judges it.
    #[allow(clippy::print_stdout, reason = "figures for people")]
    pub fn survived(mut self, name: &str) {
        self.end.store(true, Ordering::Relaxed);
        let waits = self.owner.take().unwrap().join().unwrap();
        let grown = self.process.kib("VmHWM") - self.idle_kib;
        let served = waits.iter().flatten().filter(|wait| **wait <= MAX_WAIT).count();
        let slowest = waits.iter().flatten().max();
        println!(
            "{name}: owner served {served} of {} times, slowest {slowest:?}; {} KiB idle, {grown} KiB more at most",
            waits.len(),
            self.idle_kib
        );
        // Built without optimization, on a busy host, the server may be late for some.
        assert!(served > 0 && served * 4 >= waits.len(), "{name}: {waits:?}");
        assert!(grown <= MAX_GROWTH_KIB, "{name}: {grown} KiB of memory");
    }
}

/// Serves as init, and asks for the status until `end`. Returns the time that each response took; `None` for an error.
fn own(
    init: Arc<Init>,
    socket: PathBuf,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    end: &AtomicBool,
    requests: &AtomicU32,
) -> Vec<Option<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        init.listen(socket);
        let url = format!("https://localhost:{}/api/v1/status", address.port());
        let mut waits = Vec::new();
        let mut ask = async || {
            // Never from the same address, which would be known by then.
            let n = waits.len() as u16;
            let [high, low] = n.to_be_bytes();
            let owner = client(address, tls(&certificate), [127, 99, high, low.max(1)].into());
            let start = Instant::now();
            let request = owner.get(&url).bearer_auth(token("viewer")).timeout(Duration::from_secs(10));
            let response = request.send().await.ok().filter(|response| response.status().is_success());
            waits.push(response.map(|_| start.elapsed()));
            requests.fetch_add(1, Ordering::Relaxed);
        };
        ask().await;
        while !end.load(Ordering::Relaxed) {
            tokio::time::sleep(OWNER_INTERVAL).await;
            ask().await;
        }
        waits
    })
}

impl Target {
    /// Runs `copies` of `attack`, from at most 30 addresses, again and again, until `usual` is over and the owner has asked
    /// [`MIN_REQUESTS`] times.
    pub async fn attack<F>(&self, copies: u8, usual: Duration, attack: impl Fn([u8; 4]) -> F)
    where
        F: Future<Output = std::io::Result<()>>,
    {
        let attack = &attack;
        let copies = (0..copies).map(|n| async move {
            loop {
                // The server ends what it does not accept.
                let _ended = attack([127, 0, 5, n % 30 + 1]).await;
                tokio::task::yield_now().await;
            }
        });
        let start = Instant::now();
        let over = async {
            while start.elapsed() < duration(usual)
                || self.requests.load(Ordering::Relaxed) < MIN_REQUESTS && start.elapsed() < MAX_ATTACK
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! { _ = futures_util::future::join_all(copies) => {}, () = over => {} }
    }
}
