//! The executable: its messages when it cannot start, and its memory.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, StatusCode};
use rustix::process::{Pid, Signal};

use krazy_boot::api::update::{Session, SessionState};
use krazy_init::control::SOCKET;

use crate::bundle::Bundle;
use crate::device::{Init, client, create, tls, token};
use crate::disk::file_system;

const BINARY: &str = env!("CARGO_BIN_EXE_krazy-admind");

#[test]
fn missing_credentials_are_named_with_their_origin() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("data")).unwrap();
    let run = || Command::new(BINARY).arg("--root").arg(root.path()).output().unwrap();
    let root_path = root.path().canonicalize().unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let file = |name: &str| root_path.join("data/krazy").join(name).display().to_string();
    let expected = format!(
        "failed to start: this device has no credentials: {}, {}, {} missing\nhelp: `cargo krazy image` puts them on /data",
        file("tls/cert.pem"),
        file("tls/key.pem"),
        file("tokens.json")
    );
    assert!(text.starts_with(&expected), "{text}");

    create(root.path());
    std::fs::remove_file(root.path().join("data/krazy/tokens.json")).unwrap();
    let text = String::from_utf8(run().stderr).unwrap();
    assert!(text.contains(&format!("no credentials: {} missing", file("tokens.json"))), "{text}");
    std::fs::write(root.path().join("data/krazy/tokens.json"), "{}").unwrap();
    let text = String::from_utf8(run().stderr).unwrap();
    assert!(
        text.contains(&format!("{} is not usable: the token file is damaged", file("tokens.json"))),
        "{text}"
    );
}

#[test]
fn certificate_of_another_key_is_rejected() {
    let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    create(one.path());
    create(two.path());
    let key = "data/krazy/tls/key.pem";
    std::fs::copy(one.path().join(key), two.path().join(key)).unwrap();
    let output = Command::new(BINARY).arg("--root").arg(two.path()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("certificate and key do not work together: "),
        "{text}"
    );
}

#[test]
fn invalid_arguments_exit_with_2() {
    let output = Command::new(BINARY).arg("--what").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "invalid option '--what'\nhelp: run `krazy-admind --help`\n");
}

/// A child process that is killed at the end of the test.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _exited = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Process {
    /// Starts the server on the device in `root`.
    fn serve(root: &Path) -> (Self, SocketAddr) {
        Self::serve_with(&[], root)
    }

    /// Starts the server with further options.
    pub fn serve_with(options: &[&str], root: &Path) -> (Self, SocketAddr) {
        let mut child = Command::new(BINARY)
            .args(["--listen", "127.0.0.1:0", "--no-mdns"])
            .args(options)
            .arg("--root")
            .arg(root)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let process = Process(child);
        // What the front cannot give up comes before, where the tests do not run as root.
        let served = (&mut log).lines().find_map(|line| {
            line.unwrap().strip_prefix("serving https on ").map(|address| address.parse().unwrap())
        });
        let address = served.unwrap();
        // A full pipe would block the server.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        (process, address)
    }

    /// Reads a field of /proc/PID/status in KiB, the sum of both processes.
    pub fn kib(&self, field: &str) -> u64 {
        self.kib_each(field).iter().sum()
    }

    /// Reads a field of /proc/PID/status in KiB, of the back and of its front.
    pub fn kib_each(&self, field: &str) -> Vec<u64> {
        let kib = |status: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
            value.trim().strip_suffix(" kB").unwrap().parse().unwrap()
        };
        let own = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let front = self.front().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap());
        [own].iter().chain(&front).map(|status| kib(status)).collect()
    }

    /// Returns the number of the child process, which faces the network.
    pub fn front(&self) -> Option<u32> {
        let parent = format!("PPid:\t{}\n", self.0.id());
        std::fs::read_dir("/proc").unwrap().find_map(|entry| {
            let pid: u32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.contains(&parent).then_some(pid)
        })
    }
}

/// Waits until `done` returns true.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn front_has_no_rights() {
    let root = tempfile::tempdir().unwrap();
    create(root.path());
    let (process, _) = Process::serve(root.path());
    let front = process.front().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{front}/status")).unwrap();
    let mut expected =
        vec!["Name:\tadmind-network", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"];
    if rustix::process::geteuid().is_root() {
        expected.extend([
            "Uid:\t7999\t7999\t7999\t7999",
            "Gid:\t7999\t7999\t7999\t7999",
            "Groups:\t \n",
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
        ]);
        let empty = std::fs::read_link(format!("/proc/{front}/root")).unwrap();
        assert_eq!(empty, root.path().canonicalize().unwrap().join("run/krazy/empty-root"));
        assert_eq!(std::fs::read_dir(empty).unwrap().count(), 0);
    }
    for line in expected {
        assert!(status.contains(line), "{line} not in {status}");
    }
    // Standard input and output, the socket that listens, the channel, and what the event loop needs.
    wait_until("the front has further descriptors", || {
        std::fs::read_dir(format!("/proc/{front}/fd")).unwrap().count() <= 10
    });
}

#[test]
fn each_process_ends_with_the_other() {
    let root = tempfile::tempdir().unwrap();
    create(root.path());
    let kill = |pid| rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    let (mut process, _) = Process::serve(root.path());
    kill(process.front().unwrap());
    let mut end = None;
    wait_until("the service goes on without its front", || {
        end = process.0.try_wait().unwrap();
        end.is_some()
    });
    assert_eq!(end.unwrap().code(), Some(1));

    let (process, _) = Process::serve(root.path());
    let front = process.front().unwrap();
    kill(process.0.id());
    wait_until("the front goes on without the service", || {
        let status = std::fs::read_to_string(format!("/proc/{front}/status"));
        status.is_err() || status.unwrap().contains("State:\tZ")
    });
}

#[tokio::test]
async fn large_upload_and_download_use_little_memory() {
    const CHUNKS: u64 = 2048;
    const CHUNK_LEN: usize = 64 * 1024;
    let root = tempfile::tempdir().unwrap();
    let certificate = create(root.path());
    let (process, address) = Process::serve(root.path());
    let client = client(address, tls(&certificate), IpAddr::from([127, 0, 0, 1]));
    let url = format!("https://localhost:{}/api/v1/files/data/big", address.port());
    let idle = process.kib("VmHWM");
    let chunk = Bytes::from(vec![0xa5; CHUNK_LEN]);
    let chunks = stream::iter((0..CHUNKS).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let request = client.put(&url).bearer_auth(token("admin")).body(Body::wrap_stream(chunks));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(std::fs::metadata(root.path().join("data/big")).unwrap().len(), CHUNKS * CHUNK_LEN as u64);
    let mut response = client.get(&url).bearer_auth(token("admin")).send().await.unwrap();
    let mut received = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        assert!(chunk.iter().all(|byte| *byte == 0xa5));
        received += chunk.len() as u64;
    }
    assert_eq!(received, CHUNKS * CHUNK_LEN as u64);
    let grown = process.kib("VmHWM") - idle;
    assert!(grown < 8 * 1024, "128 MiB used {grown} KiB of memory");
}

#[tokio::test]
async fn large_update_uses_little_memory() {
    const MIB: usize = 1 << 20;
    const SIZE: usize = 24;
    let root = tempfile::tempdir().unwrap();
    let certificate = create(root.path());
    Init::new(root.path()).listen(root.path().join(SOCKET.trim_start_matches('/')));
    let (process, address) = Process::serve(root.path());
    let client = client(address, tls(&certificate), IpAddr::from([127, 0, 0, 1]));
    let url = |path: &str| format!("https://localhost:{}/api/v1/update{path}", address.port());

    let mut content = file_system(MIB).repeat(SIZE);
    content[40..48].copy_from_slice(&((SIZE * MIB) as u64).to_le_bytes());
    let bundle = Bundle::of(&content, &[]);
    let idle = process.kib("VmHWM");
    let request = client.post(url("")).bearer_auth(token("admin")).body(bundle.head());
    let session: Session =
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let path = url(&format!("/{}?offset=0", session.id));
    let request = client.patch(path).bearer_auth(token("admin")).body(bundle.streams);
    let session: Session =
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(session.state, SessionState::Verified);
    let peak = process.kib("VmHWM");
    println!("{idle} KiB idle, {peak} KiB at most while {SIZE} MiB were written");
    assert!(peak - idle < 8 * 1024, "{SIZE} MiB used {} KiB of memory", peak - idle);
}
