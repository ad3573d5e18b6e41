//! Bytes and rate of a push, beside nginx, which receives the same bytes over the same kind of TLS, on the same machine
//! in the same run, and writes them to a file on the same disk. Both negotiate TLS_AES_256_GCM_SHA384.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::boot::{libraries, median, peer};
use crate::device::noise;
use crate::fixture::Package;
use crate::guest::{BOOT_LIMIT, Guest, exchange, free_port};
use crate::krazy::Krazy;
use crate::process::succeed;

/// Full pushes and PUTs; they take turns, so that a noisy machine disturbs both.
const ROUNDS: usize = 3;

/// Bytes that make the root large and do not compress.
const BALLAST: usize = 100 << 20;

/// The ports in the guest: nginx, and what syncs what nginx has written.
const PORTS: [u16; 2] = [9443, 9444];

/// The service: it starts nginx, syncs its file on request, and `LINE` is the line that changes.
const MAIN: &str = r#"
fn main() {
    println!("LINE");
    std::thread::spawn(|| {
        for client in std::net::TcpListener::bind("0.0.0.0:9444").unwrap().incoming() {
            std::fs::File::open("/data/ballast").unwrap().sync_all().unwrap();
            std::io::Write::write_all(&mut client.unwrap(), b"synced").unwrap();
        }
    });
    let nginx = std::process::Command::new("/usr/sbin/nginx")
        .args(["-p", "/data", "-e", "stderr", "-c", "/etc/nginx.conf"]).status();
    println!("nginx ended: {nginx:?}");
}
"#;

const METADATA: &str = r#"[package.metadata.krazy]
size = "2 GiB"
[package.metadata.krazy.service.unit]
user = "root"
sandbox = false
"#;

const NGINX: &str = "daemon off;
master_process off;
user root root;
pid /data/nginx.pid;
events {}
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path /data/body;
    proxy_temp_path /data/proxy;
    fastcgi_temp_path /data/fastcgi;
    uwsgi_temp_path /data/uwsgi;
    scgi_temp_path /data/scgi;
    server {
        listen 9443 ssl;
        ssl_certificate /etc/cert.pem;
        ssl_certificate_key /etc/key.pem;
        ssl_protocols TLSv1.3;
        root /data;
        location / { dav_methods PUT; }
    }
}
";

/// Prints the figures.
pub fn print() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let package = package(directory)?;
    let image = directory.join("unit.img");
    succeed(
        krazy.command(["image", "-q", "--manifest-path"])?.arg(package.manifest()).arg("-o").arg(&image),
    )?;
    let ports = [free_port()?, free_port()?];
    let mut command = krazy.command(["run-qemu"])?;
    for (port, guest) in ports.iter().zip(PORTS) {
        command.args(["--publish", &format!("{port}:{guest}")]);
    }
    command.arg("--image");
    let mut guest = Guest::start({
        command.arg(&image);
        command
    })?;
    guest.wait_for("serving https", BOOT_LIMIT)?;
    // nginx runs as soon as it closes a connection without TLS.
    exchange(ports[0], b"x\r\n\r\n", BOOT_LIMIT)?;

    let idle = memory(&krazy)?;
    let (mut pushed, mut written, mut put) = (Vec::new(), Vec::new(), Vec::new());
    let mut full = 0;
    for round in 0..ROUNDS {
        let bundle = bundle(&krazy, &package, round as u64 + 2)?;
        let sent = push_whole(&krazy, &bundle)?;
        let line = guest.wait_for("read back in ", BOOT_LIMIT)?;
        let (_, read_back) = line.trim_end().rsplit_once("read back in ").context("no time")?;
        let read_back: f64 = read_back.trim_end_matches(" s").parse()?;
        full = sent.bytes;
        pushed.push(full as f64 / sent.seconds);
        written.push(full as f64 / (sent.seconds - read_back));
        put.push(put_to_nginx(ports, &package.directory.join("ballast"))?);
    }
    // Not timed: the request itself takes time, too.
    let bundle = bundle(&krazy, &package, 0)?;
    let busy = memory_during(&krazy, || push_whole(&krazy, &bundle))?;
    fs::write(package.directory.join("ballast"), noise(1, BALLAST))?;
    fs::write(package.directory.join("src/main.rs"), MAIN.replace("LINE", "another line"))?;
    let small = push(&krazy, &package)?;

    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let (pushed, written, put) = (median(pushed), median(written), median(put));
    println!("a root with {} MiB that do not compress, medians of {ROUNDS} rounds", BALLAST >> 20);
    println!("  full push, written and read back   {:>8.2} MiB/s", mib(pushed));
    println!("  full push, until it is written     {:>8.2} MiB/s", mib(written));
    println!("  PUT over TLS to nginx, synced      {:>8.2} MiB/s", mib(put));
    println!("  full push / nginx                  {:>8.2}         (goal: ≥ 0.80)", pushed / put);
    println!("  bytes of a full push               {:>8.2} MiB", mib(full as f64));
    println!("  bytes when one line has changed    {:>8.2} MiB", mib(small.bytes as f64));
    println!(
        "  of a full push                     {:>8.2} %       (goal: ≤ 3 %)",
        100.0 * small.bytes as f64 / full as f64
    );
    println!("  resident, idle                     {:>8.2} MiB     (goal: ≤ 6 MiB)", mib(idle as f64));
    println!("  resident, during a full push       {:>8.2} MiB     (goal: ≤ 12 MiB)", mib(busy as f64));
    Ok(())
}

/// The appliance: its service, and nginx as Debian has it.
fn package(directory: &Path) -> Result<Package> {
    let mut metadata = format!("{METADATA}\n[package.metadata.krazy.files]\n");
    let mut add = |destination: &str, source: &Path| {
        metadata.push_str(&format!("{destination:?} = {source:?}\n"));
    };
    let nginx = peer("nginx", "nginx")?;
    for library in libraries(&nginx)? {
        add(library.to_str().context("a path that is not UTF-8")?, &library);
    }
    add("/usr/sbin/nginx", &nginx);
    for (destination, name) in [
        ("/etc/ballast", "ballast"),
        ("/etc/nginx.conf", "nginx.conf"),
        ("/etc/cert.pem", "cert.pem"),
        ("/etc/key.pem", "key.pem"),
        ("/etc/passwd", "passwd"),
        ("/etc/group", "group"),
    ] {
        add(destination, Path::new(name));
    }
    let package = Package::new(directory, "unit", &MAIN.replace("LINE", "a line"), &metadata)?;
    let at = |name: &str| package.directory.join(name);
    fs::write(at("ballast"), noise(1, BALLAST))?;
    fs::write(at("nginx.conf"), NGINX)?;
    fs::write(at("passwd"), "root:x:0:0::/:/\n")?;
    fs::write(at("group"), "root:x:0:\n")?;
    // The same kind of key as the device's own.
    let mut openssl = Command::new(peer("openssl", "openssl")?);
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=unit", "-days", "10", "-keyout"]).arg(at("key.pem"));
    succeed(openssl.arg("-out").arg(at("cert.pem")))?;
    Ok(package)
}

/// The bytes and time of a push.
struct Sent {
    bytes: u64,
    /// From the first byte to the device's report that it has read back everything.
    seconds: f64,
}

/// A bundle of the appliance with other ballast.
fn bundle(krazy: &Krazy, package: &Package, seed: u64) -> Result<PathBuf> {
    fs::write(package.directory.join("ballast"), noise(seed, BALLAST))?;
    let bundle = krazy.directory.path().join("unit.krazy");
    let mut command = krazy.command(["bundle", "-q", "--manifest-path"])?;
    succeed(command.arg(package.manifest()).arg("-o").arg(&bundle))?;
    Ok(bundle)
}

/// Fills the inactive slot, without arming it.
fn push(krazy: &Krazy, package: &Package) -> Result<Sent> {
    sent(staging(krazy)?.arg("--manifest-path").arg(package.manifest()))
}

/// The same by a host without the device's present root: the root is sent as a whole.
fn push_whole(krazy: &Krazy, bundle: &Path) -> Result<Sent> {
    let nothing = krazy.directory.path().join("nothing");
    let sent = sent(staging(krazy)?.env("KRAZY_CACHE_DIR", &nothing).arg("--bundle").arg(bundle))?;
    ensure!(sent.bytes > BALLAST as u64, "only {} bytes were sent", sent.bytes);
    fs::remove_dir_all(nothing)?;
    Ok(sent)
}

fn staging(krazy: &Krazy) -> Result<Command> {
    krazy.command(["push", "qemu", "--stage", "--force", "--message-format", "json"])
}

fn sent(command: &mut Command) -> Result<Sent> {
    let output = succeed(command)?;
    let text = String::from_utf8(output.stdout)?;
    let message: Value = serde_json::from_str(text.lines().last().context("no message")?)?;
    ensure!(message["outcome"] == "staged", "not staged: {message}");
    Ok(Sent {
        bytes: message["sent"].as_u64().context("no number of bytes")?,
        seconds: message["seconds"].as_f64().context("no time")?,
    })
}

/// Bytes in a second, until they are on the disk.
fn put_to_nginx([port, sync]: [u16; 2], file: &Path) -> Result<f64> {
    let mut curl = Command::new(peer("curl", "curl")?);
    curl.args(["--fail", "--silent", "--show-error", "--insecure", "--upload-file"]).arg(file);
    let begin = Instant::now();
    succeed(curl.arg(format!("https://127.0.0.1:{port}/ballast")))?;
    ensure!(exchange(sync, b"", BOOT_LIMIT)? == b"synced", "not synced");
    Ok(fs::metadata(file)?.len() as f64 / begin.elapsed().as_secs_f64())
}

/// The most that krazy-admind occupies while `work` goes on.
fn memory_during<T: Send>(krazy: &Krazy, work: impl FnOnce() -> Result<T> + Send) -> Result<u64> {
    thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut most = 0;
        while !work.is_finished() {
            most = most.max(memory(krazy)?);
        }
        work.join().map_err(|_| anyhow!("the push panicked"))??;
        Ok(most)
    })
}

/// Returns the resident memory of krazy-admind in bytes.
fn memory(krazy: &Krazy) -> Result<u64> {
    let output = krazy.succeed(["ps", "qemu", "--message-format", "json"])?;
    let text = String::from_utf8(output.stdout)?;
    let services = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let admind = services.iter().find(|service| service["name"] == "krazy-admind");
    admind.and_then(|admind| admind["rss"].as_u64()).context("no memory of krazy-admind")
}
