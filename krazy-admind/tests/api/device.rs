//! A device in a temporary directory: credentials, a few files, and a fake init that speaks the real protocol.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use krazy_admind::Server;
use krazy_admind::config::{Config, Limits, Policy};
use krazy_boot::api::certificate::TRIAL_SERVER_NAME;
use krazy_boot::api::credentials::{HashedToken, Role, Scope, Token, TokenFile};
use krazy_boot::api::problem::{MEDIA_TYPE, ProblemDetails};
use krazy_boot::manifest::{DISK_FORMAT, FORMAT, Kernel, Manifest, Program};
use krazy_init::control::{
    BootInfo, Command, ErrorKind, LogLine, LogStream, Reply, Request, Response, SOCKET, ServiceStatus,
};
use reqwest::{Client, Method, RequestBuilder};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bundle::{SEED, update_key};
use crate::disk;

/// A running server with its device.
pub struct Device {
    pub root: tempfile::TempDir,
    pub address: SocketAddr,
    pub init: Arc<Init>,
    certificate: CertificateDer<'static>,
}

/// The fake init.
pub struct Init {
    /// The commands it received.
    pub commands: Mutex<Vec<Command>>,
    /// New log lines of its services.
    pub lines: broadcast::Sender<LogLine>,
    /// Its reply to [`Command::Boot`].
    pub boot: Mutex<BootInfo>,
    /// If set, it refuses to arm the other slot with this reason.
    pub slot_incomplete: Mutex<Option<String>>,
    root: PathBuf,
}

/// Returns the token with this name. The device accepts `admin`, `viewer` and `root`, which has the scope whole-tree.
pub fn token(name: &str) -> String {
    secret(name).reveal()
}

fn secret(name: &str) -> Token {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Token::from_random(bytes)
}

/// Returns the stored form of the token with this name.
pub fn stored_token(name: &str, role: Role, scopes: Vec<Scope>) -> Vec<u8> {
    serde_json::to_vec(&HashedToken::new(name, role, scopes, &secret(name), [2; 16])).unwrap()
}

/// Creates the files of a device in `root`. Returns its certificate.
pub fn create(root: &Path) -> CertificateDer<'static> {
    for directory in ["data/krazy/tls", "tmp", "proc", "etc/krazy", "run/krazy", "run/log", "dev"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(root.join("data/krazy/tls/cert.pem"), certificate.pem()).unwrap();
    fs::write(root.join("data/krazy/tls/key.pem"), key.serialize_pem()).unwrap();
    let hashed = |name, role, scopes| HashedToken::new(name, role, scopes, &secret(name), [1; 16]);
    let tokens = TokenFile::new(vec![
        hashed("admin", Role::Admin, Vec::new()),
        hashed("viewer", Role::Viewer, vec![Scope::WholeTree]),
        hashed("root", Role::Admin, vec![Scope::WholeTree]),
    ]);
    fs::write(root.join("data/krazy/tokens.json"), tokens.unwrap().to_json().unwrap()).unwrap();
    fs::write(root.join("proc/meminfo"), "MemTotal: 2048 kB\nMemAvailable: 1024 kB\n").unwrap();
    fs::write(root.join("proc/cmdline"), "krazy.slot=b console=ttyS0\n").unwrap();
    fs::write(root.join("etc/krazy/manifest.json"), manifest().to_json()).unwrap();
    fs::write(root.join("run/log/web.log"), "first\nsecond\nthird\n").unwrap();
    fs::write(root.join("tmp/private"), "not a log").unwrap();
    fs::write(root.join("data/krazy/update.pub"), format!("{}\n", update_key(SEED))).unwrap();
    disk::create(root);
    certificate.der().clone()
}

fn manifest() -> Manifest {
    let program = Program {
        package: "krazy-init".into(),
        version: "0.1.0".into(),
        source: "path".into(),
        sha256: "00".repeat(32),
    };
    Manifest {
        format: FORMAT,
        disk_format: DISK_FORMAT,
        name: "weather".into(),
        version: "1.2.3".into(),
        board: "x86_64".into(),
        build_id: "11".repeat(32),
        hostname: "weather".into(),
        kernel: Kernel { release: "6.12".into(), origin: "debian".into(), sha256: "22".repeat(32) },
        init: program,
        services: Vec::new(),
        boot_writable: false,
        modules: Vec::new(),
        network: Default::default(),
        hosts: Default::default(),
        instructions: Vec::new(),
        sysctl: Default::default(),
    }
}

impl Device {
    pub async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        let device = Self::without_init(limits).await;
        device.init.clone().listen(device.path(SOCKET.trim_start_matches('/')));
        device
    }

    pub async fn without_init(limits: Limits) -> Self {
        let root = tempfile::tempdir().unwrap();
        let certificate = create(root.path());
        let address = serve(root.path(), limits).await;
        let init = Init::new(root.path());
        Device { root, address, init, certificate }
    }

    /// Returns the host path of `path` on the device.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// The certificate that it was created with.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// A client at address `from` that trusts only this device's certificate.
    pub fn client_from(&self, from: [u8; 4]) -> Client {
        client(self.address, tls(&self.certificate), from.into())
    }

    /// A request with the token named `who`; an empty name sends no credential.
    pub fn request(&self, who: &str, method: Method, path: &str) -> RequestBuilder {
        let request = self.client_from([127, 0, 0, 1]).request(method, self.url(path));
        if who.is_empty() { request } else { request.bearer_auth(token(who)) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub async fn get(&self, who: &str, path: &str) -> reqwest::Response {
        self.request(who, Method::GET, path).send().await.unwrap()
    }

    /// Opens a TLS connection for raw HTTP/1.1.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_with(b"http/1.1").await
    }

    /// Opens a TLS connection for another protocol.
    pub async fn connect_with(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut config = tls(&self.certificate);
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }
}

/// Starts a server on the device in `root`, as after a restart.
pub async fn serve(root: &Path, limits: Limits) -> SocketAddr {
    serve_config(Config { limits, ..config(root) }).await
}

/// The configuration of a server on the device in `root`.
pub fn config(root: &Path) -> Config {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let (tls12, announce) = (false, false);
    let (policy, limits) = (Policy::default(), Limits::default());
    Config { listen, root: root.to_owned(), tls12, announce, policy, limits }
}

/// Starts a server.
pub async fn serve_config(config: Config) -> SocketAddr {
    let server = Server::bind(config).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run());
    address
}

pub fn tls(certificate: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

pub fn client(address: SocketAddr, tls: ClientConfig, from: IpAddr) -> Client {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .resolve("localhost", address)
        .resolve(TRIAL_SERVER_NAME, address)
        .local_address(from)
        .build()
        .unwrap()
}

/// Parses a problem. Panics if `response` is not one, or if its status differs from the one in the body.
pub async fn problem(response: reqwest::Response) -> ProblemDetails {
    assert_eq!(response.headers()["content-type"], MEDIA_TYPE);
    let status = response.status().as_u16();
    let details: ProblemDetails = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(details.status, status);
    assert!(
        details.kind.starts_with("urn:krazy:") && !details.title.is_empty() && !details.detail.is_empty()
    );
    details
}

impl Init {
    /// The init of the device in `root`.
    pub fn new(root: &Path) -> Arc<Self> {
        Arc::new(Init {
            commands: Mutex::default(),
            lines: broadcast::channel(16).0,
            boot: Mutex::new(boot()),
            slot_incomplete: Mutex::default(),
            root: root.to_owned(),
        })
    }

    pub fn listen(self: Arc<Self>, socket: PathBuf) {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&self).serve(stream));
            }
        });
    }

    async fn serve(self: Arc<Self>, stream: UnixStream) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await.unwrap() > 0 {
            let command = Request::from_line(&line).unwrap().command;
            line.clear();
            self.commands.lock().unwrap().push(command.clone());
            let mut lines = self.lines.subscribe();
            stream.write_all(&self.reply(&command).to_line()).await.unwrap();
            if matches!(command, Command::Logs { follow: true, .. }) {
                loop {
                    tokio::select! {
                        new = lines.recv() => {
                            let line = Response::ok(Reply::Line(new.unwrap())).to_line();
                            if stream.write_all(&line).await.is_err() { return }
                        }
                        // Nothing but the end of the connection may come.
                        end = stream.read_until(b'\n', &mut line) => {
                            assert_eq!(end.unwrap(), 0);
                            // Records the disconnect for the test.
                            self.commands.lock().unwrap().push(Command::List);
                            return;
                        }
                    }
                }
            }
        }
    }
}

impl Init {
    fn reply(&self, command: &Command) -> Response {
        match command {
            Command::Boot => Response::ok(Reply::Boot(Box::new(self.boot.lock().unwrap().clone()))),
            Command::RemountBoot { writable } => {
                self.boot.lock().unwrap().boot_writable = Some(*writable);
                if !writable {
                    disk::sync_boot(&self.root);
                }
                Response::ok(Reply::Done)
            }
            Command::Arm { slot, .. } | Command::Switch { slot } => {
                if let Some(why) = self.slot_incomplete.lock().unwrap().as_ref() {
                    return Response::error(ErrorKind::SlotIncomplete, why);
                }
                self.boot.lock().unwrap().armed = Some(*slot);
                Response::ok(Reply::Done)
            }
            Command::Disarm => {
                self.boot.lock().unwrap().armed = None;
                Response::ok(Reply::Done)
            }
            other => reply(other),
        }
    }
}

fn reply(command: &Command) -> Response {
    let line = |text: &str| LogLine { stream: LogStream::Out, text: text.into() };
    match command {
        Command::List => Response::ok(Reply::Services(vec![service("web"), service("<b>")])),
        Command::Status { service: name }
        | Command::Start { service: name }
        | Command::Stop { service: name }
        | Command::Restart { service: name }
        | Command::Signal { service: name, .. }
        | Command::Logs { service: name, .. }
            if name != "web" =>
        {
            Response::error(ErrorKind::NoSuchService, format!("there is no service `{name}`"))
        }
        Command::Status { .. } => Response::ok(Reply::Service(Box::new(service("web")))),
        Command::Signal { signal, .. } if signal == "USR1" => {
            Response::error(ErrorKind::NotNow, "`web` does not run")
        }
        Command::Logs { lines, .. } => {
            let all = ["first", "second", "third"];
            let skip = all.len().saturating_sub(*lines as usize);
            Response::ok(Reply::Log(all[skip..].iter().copied().map(line).collect()))
        }
        _ => Response::ok(Reply::Done),
    }
}

// From JSON, as on the wire: these tests need not follow when init adds fields with defaults.
fn boot() -> BootInfo {
    serde_json::from_value(serde_json::json!({
        "name": "weather", "version": "1.2.3", "board": "x86_64", "build_id": "11".repeat(32),
        "hostname": "weather", "kernel": "6.12.1", "init": "0.1.0", "slot": "a", "disk": "/dev/vda",
        "trial": null, "uptime": 61, "stable": true, "degraded": ["the <clock> was not set"],
        "milestones": { "network": true, "clock": false, "data": true }, "boot_writable": false,
    }))
    .unwrap()
}

fn service(name: &str) -> ServiceStatus {
    serde_json::from_value(serde_json::json!({
        "name": name, "state": "running", "pid": 17, "uid": 1000, "rss": 1 << 20, "uptime": 60, "restarts": 1,
        "last_exit": { "code": 3 }, "next_start_ms": null, "required": true, "stable": true,
    }))
    .unwrap()
}
