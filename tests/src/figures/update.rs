//! What a push costs, and how fast it is beside nginx, which takes the same bytes over the same kind of TLS, on the same
//! machine in the same run, and writes them to a file on the same disk.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::boot::{libraries, median, peer};
use crate::device::noise;
use crate::disk::succeed;
use crate::fixture::Package;
use crate::guest::{BOOT_LIMIT, Guest, exchange, free_port};
use crate::krazy::Krazy;

/// Full pushes and PUTs; they take turns, so that a noisy machine disturbs both.
const ROUNDS: usize = 3;

/// What makes the root large: it does not compress.
const BALLAST: usize = 100 << 20;

/// The port of nginx in the guest.
const PORT: u16 = 9443;

/// The service: it starts nginx, and `LINE` is the line that changes.
const MAIN: &str = r#"
fn main() {
    println!("LINE");
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
    let folder = krazy.folder.path();
    let package = package(folder)?;
    let image = folder.join("unit.img");
    succeed(
        krazy.command(["image", "-q", "--manifest-path"])?.arg(package.manifest()).arg("-o").arg(&image),
    )?;
    let port = free_port()?;
    let mut command = krazy.command(["run-qemu", "--publish", &format!("{port}:{PORT}"), "--image"])?;
    let mut guest = Guest::start({
        command.arg(&image);
        command
    })?;
    guest.wait_for("serving https", BOOT_LIMIT)?;
    // nginx is there when it hangs up on what is not TLS.
    exchange(port, b"x\r\n\r\n", BOOT_LIMIT)?;

    let idle = memory(&krazy)?;
    let mut busy = idle;
    let (mut pushed, mut put) = (Vec::new(), Vec::new());
    let mut full = 0;
    for round in 0..ROUNDS {
        let ballast = package.folder.join("ballast");
        fs::write(&ballast, noise(round as u64 + 2, BALLAST))?;
        let sent = push(&krazy, &package)?;
        busy = busy.max(memory(&krazy)?);
        pushed.push(sent.bytes as f64 / sent.seconds);
        full = sent.bytes;
        put.push(put_to_nginx(port, &ballast)?);
    }
    fs::write(package.folder.join("ballast"), noise(1, BALLAST))?;
    fs::write(package.folder.join("src/main.rs"), MAIN.replace("LINE", "another line"))?;
    let small = push(&krazy, &package)?;

    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let (pushed, put) = (median(pushed), median(put));
    println!("a root with {} MiB that do not compress, medians of {ROUNDS} rounds", BALLAST >> 20);
    println!("  full push, written and read back   {:>8.2} MiB/s", mib(pushed));
    println!("  PUT over TLS to nginx, written     {:>8.2} MiB/s", mib(put));
    println!("  full push / nginx                  {:>8.2}         (goal: ≥ 0.80)", pushed / put);
    println!("  bytes of a full push               {:>8.2} MiB", mib(full as f64));
    println!("  bytes when one line has changed    {:>8.2} MiB", mib(small.bytes as f64));
    println!(
        "  of a full push                     {:>8.2} %       (goal: ≤ 3 %)",
        100.0 * small.bytes as f64 / full as f64
    );
    println!("  resident, idle                     {:>8.2} MiB     (goal: ≤ 6 MiB)", mib(idle as f64));
    println!(
        "  resident, after {ROUNDS} full pushes      {:>8.2} MiB     (goal: ≤ 12 MiB)",
        mib(busy as f64)
    );
    Ok(())
}

/// The appliance: its service, and nginx as Debian has it.
fn package(folder: &Path) -> Result<Package> {
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
    let package = Package::new(folder, "unit", &MAIN.replace("LINE", "a line"), &metadata)?;
    let at = |name: &str| package.folder.join(name);
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

/// What a push sent.
struct Sent {
    bytes: u64,
    /// From the first byte to the device's word that it has read back all.
    seconds: f64,
}

/// Fills the slot that does not run, and leaves it at that.
fn push(krazy: &Krazy, package: &Package) -> Result<Sent> {
    let mut command = krazy.command(["push", "qemu", "--stage", "--force", "--message-format", "json"])?;
    let output = succeed(command.arg("--manifest-path").arg(package.manifest()))?;
    let text = String::from_utf8(output.stdout)?;
    let message: Value = serde_json::from_str(text.lines().last().context("no message")?)?;
    ensure!(message["outcome"] == "staged", "not staged: {message}");
    Ok(Sent {
        bytes: message["sent"].as_u64().context("no number of bytes")?,
        seconds: message["seconds"].as_f64().context("no time")?,
    })
}

/// Bytes in a second.
fn put_to_nginx(port: u16, file: &Path) -> Result<f64> {
    let mut curl = Command::new(peer("curl", "curl")?);
    curl.args(["--fail", "--silent", "--show-error", "--insecure", "--upload-file"]).arg(file);
    let begin = Instant::now();
    succeed(curl.arg(format!("https://127.0.0.1:{port}/ballast")))?;
    Ok(fs::metadata(file)?.len() as f64 / begin.elapsed().as_secs_f64())
}

/// What krazy-admind occupies, in bytes.
fn memory(krazy: &Krazy) -> Result<u64> {
    let output = krazy.succeed(["ps", "qemu", "--message-format", "json"])?;
    let text = String::from_utf8(output.stdout)?;
    let services = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let admind = services.iter().find(|service| service["name"] == "krazy-admind");
    admind.and_then(|admind| admind["rss"].as_u64()).context("no memory of krazy-admind")
}
