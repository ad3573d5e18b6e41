//! Files: the areas that clients may use, and transfers that are complete or have no effect.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use krazy_admind::config::Limits;
use reqwest::{Body, Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::device::{Device, problem, token};

async fn send(device: &Device, who: &str, method: Method, path: &str) -> reqwest::Response {
    device.request(who, method, path).send().await.unwrap()
}

async fn put(device: &Device, path: &str, content: impl Into<Body>) -> reqwest::Response {
    device.request("admin", Method::PUT, path).body(content).send().await.unwrap()
}

#[tokio::test]
async fn files_are_written_read_listed_and_removed() {
    let device = Device::start().await;
    let dir = "/api/v1/directories/data/web";
    assert_eq!(send(&device, "admin", Method::PUT, dir).await.status(), StatusCode::CREATED);
    assert_eq!(send(&device, "admin", Method::PUT, dir).await.status(), StatusCode::NO_CONTENT);
    let file = "/api/v1/files/data/web/a%20b";
    assert_eq!(put(&device, file, "one").await.status(), StatusCode::CREATED);
    assert_eq!(put(&device, file, "three").await.status(), StatusCode::NO_CONTENT);
    let read = device.get("admin", file).await;
    assert_eq!(read.headers()["content-length"], "5");
    assert_eq!(read.headers()["content-disposition"], "attachment");
    assert_eq!(read.text().await.unwrap(), "three");
    let head = send(&device, "admin", Method::HEAD, file).await;
    assert_eq!((head.status(), head.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "5"));

    let listing: Value =
        serde_json::from_slice(&device.get("admin", dir).await.bytes().await.unwrap()).unwrap();
    assert_eq!(listing["path"], "/data/web");
    assert_eq!(listing["truncated"], false);
    let [entry] = listing["entries"].as_array().unwrap().as_slice() else { panic!("{listing}") };
    assert_eq!((&entry["name"], &entry["path"]), (&"a b".into(), &"/data/web/a%20b".into()));
    assert_eq!((&entry["type"], &entry["size"], &entry["mode"]), (&"file".into(), &5.into(), &"0644".into()));

    let details = problem(send(&device, "admin", Method::DELETE, dir).await).await;
    assert_eq!((details.status, details.kind.as_str()), (409, "urn:krazy:not-empty"));
    assert_eq!(send(&device, "admin", Method::DELETE, file).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(problem(device.get("admin", file).await).await.detail, "/data/web/a b does not exist");
    assert_eq!(send(&device, "admin", Method::DELETE, dir).await.status(), StatusCode::NO_CONTENT);
    assert!(!device.path("data/web").exists());
}

#[tokio::test]
async fn recursive_removal_does_not_follow_links() {
    let device = Device::start().await;
    fs::create_dir_all(device.path("data/web/a/b")).unwrap();
    fs::write(device.path("data/keep"), "kept").unwrap();
    symlink("../..", device.path("data/web/a/up")).unwrap();
    symlink("../keep", device.path("data/web/link")).unwrap();
    let path = "/api/v1/directories/data/web?recursive=true";
    assert_eq!(send(&device, "admin", Method::DELETE, path).await.status(), StatusCode::NO_CONTENT);
    assert!(!device.path("data/web").exists());
    assert_eq!(fs::read_to_string(device.path("data/keep")).unwrap(), "kept");
    let details =
        problem(send(&device, "admin", Method::DELETE, "/api/v1/directories/data?recursive=true").await)
            .await;
    assert_eq!(
        (details.kind.as_str(), details.detail.as_str()),
        ("urn:krazy:outside-tree", "/data itself cannot be changed")
    );
}

#[tokio::test]
async fn no_path_or_link_leads_out_of_the_area() {
    let device = Device::start().await;
    fs::write(device.path("secret"), "secret").unwrap();
    symlink(device.path("secret"), device.path("data/absolute")).unwrap();
    symlink("../secret", device.path("data/relative")).unwrap();
    symlink("..", device.path("data/up")).unwrap();
    symlink("krazy", device.path("data/keys")).unwrap();
    symlink("../../tmp/private", device.path("run/log/x.log")).unwrap();
    for path in [
        "data/absolute",
        "data/relative",
        "data/up/secret",
        "secret",
        "etc/krazy/manifest.json",
        "tmp/private",
        "tmp/x.log",
        "data/krazy/tls/key.pem",
        "data/krazy/tokens.json",
        "data/keys/tokens.json",
    ] {
        let details = problem(device.get("admin", &format!("/api/v1/files/{path}")).await).await;
        assert_eq!((details.status, details.kind.as_str()), (403, "urn:krazy:outside-tree"), "{path}");
        if path != "data/absolute" && path != "data/relative" {
            let details = problem(put(&device, &format!("/api/v1/files/{path}"), "mine").await).await;
            assert_eq!(details.kind, "urn:krazy:outside-tree", "{path}");
        }
    }
    for path in ["data/krazy", "data/keys", "data/up", ""] {
        let details = problem(device.get("admin", &format!("/api/v1/directories/{path}")).await).await;
        assert_eq!(details.kind, "urn:krazy:outside-tree", "{path}");
    }
    let remove = "/api/v1/directories/data/krazy?recursive=true";
    assert_eq!(send(&device, "admin", Method::DELETE, remove).await.status(), StatusCode::FORBIDDEN);
    // A write replaces a link, not its target.
    assert_eq!(put(&device, "/api/v1/files/data/relative", "mine").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(fs::read_to_string(device.path("secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(device.path("data/relative")).unwrap(), "mine");
    // Links within /data are followed.
    symlink("relative", device.path("data/within")).unwrap();
    assert_eq!(device.get("admin", "/api/v1/files/data/within").await.text().await.unwrap(), "mine");
}

/// Sends raw requests, because HTTP libraries normalize paths.
#[tokio::test]
async fn path_traversal_is_rejected() {
    let device = Device::start().await;
    fs::write(device.path("secret"), "secret").unwrap();
    for who in ["admin", "root"] {
        for path in [
            "/api/v1/files/data/../secret",
            "/api/v1/files/data/%2e%2e/secret",
            "/api/v1/files/data/..%2fsecret",
            "/api/v1/files//data/x",
            "/api/v1/files/data/%00",
            "/api/v1/files/..",
        ] {
            let mut stream = device.connect().await;
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
                token(who)
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            // The server may close without TLS's close_notify.
            let _closed = stream.read_to_string(&mut response).await;
            assert!(response.starts_with("HTTP/1.1 400 "), "{path}: {response}");
            assert!(
                response.contains("urn:krazy:bad-request") && !response.ends_with("secret"),
                "{path}: {response}"
            );
        }
    }
}

#[tokio::test]
async fn files_elsewhere_need_the_whole_tree_scope() {
    let device = Device::start().await;
    let path = "/api/v1/files/etc/krazy/manifest.json";
    assert_eq!(device.get("root", path).await.status(), StatusCode::OK);
    assert_eq!(
        device.get("viewer", path).await.status(),
        StatusCode::FORBIDDEN,
        "the scope does not replace the role"
    );
    let listing = device.get("root", "/api/v1/directories/").await.text().await.unwrap();
    assert!(listing.contains("\"/data\""), "{listing}");
    assert_eq!(device.get("root", "/api/v1/files/data/krazy/tokens.json").await.status(), StatusCode::OK);
    // Files in /proc have a length of 0, like this empty one.
    fs::write(device.path("proc/empty"), "").unwrap();
    let empty = device.get("root", "/api/v1/files/proc/empty").await;
    assert_eq!((empty.status(), empty.text().await.unwrap().as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn only_regular_files_are_read_and_written() {
    let device = Device::start().await;
    let fifo = device.path("data/fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fs::create_dir(device.path("data/dir")).unwrap();
    for name in ["fifo", "dir"] {
        let path = format!("/api/v1/files/data/{name}");
        assert_eq!(problem(device.get("admin", &path).await).await.kind, "urn:krazy:not-a-file", "{name}");
        assert_eq!(problem(put(&device, &path, "x").await).await.kind, "urn:krazy:not-a-file", "{name}");
    }
    let details = problem(put(&device, "/api/v1/files/data/nowhere/x", "x").await).await;
    assert_eq!((details.status, details.detail.as_str()), (404, "/data/nowhere does not exist"));
    let details = problem(device.get("admin", "/api/v1/directories/tmp/web.log").await).await;
    assert_eq!(details.kind, "urn:krazy:not-a-directory");
    let logs = device.get("admin", "/api/v1/directories/tmp").await.text().await.unwrap();
    assert!(logs.contains("web.log") && !logs.contains("private"), "{logs}");
}

#[tokio::test]
async fn ranges_of_files_are_sent() {
    let device = Device::start().await;
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(device.path("data/big"), &content).unwrap();
    let get = |range: &'static str, tag: Option<String>| {
        let mut request =
            device.request("admin", Method::GET, "/api/v1/files/data/big").header("range", range);
        if let Some(tag) = tag {
            request = request.header("if-range", tag);
        }
        request.send()
    };
    let part = get("bytes=65530-65545", None).await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 65530-65545/800000");
    let tag = part.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(part.bytes().await.unwrap(), content[65530..=65545]);
    let rest = get("bytes=700000-", Some(tag.clone())).await.unwrap();
    assert_eq!(rest.bytes().await.unwrap(), content[700_000..]);

    let beyond = get("bytes=800000-", None).await.unwrap();
    assert_eq!(beyond.headers()["content-range"], "bytes */800000");
    assert_eq!(problem(beyond).await.status, 416);

    // The tag of the old content does not match, so the whole new content is sent.
    fs::write(device.path("data/big"), &content[4..]).unwrap();
    let changed = get("bytes=700000-", Some(tag)).await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(changed.bytes().await.unwrap(), content[4..]);
}

#[tokio::test]
async fn replaced_files_keep_mode_and_owner_and_new_ones_inherit_the_owner() {
    let device = Device::start().await;
    fs::create_dir(device.path("data/web")).unwrap();
    std::os::unix::fs::chown(device.path("data/web"), Some(1234), Some(1235)).unwrap();
    put(&device, "/api/v1/files/data/web/new", "x").await;
    fs::write(device.path("data/web/old"), "x").unwrap();
    std::os::unix::fs::chown(device.path("data/web/old"), Some(7), Some(8)).unwrap();
    fs::set_permissions(device.path("data/web/old"), fs::Permissions::from_mode(0o640)).unwrap();
    put(&device, "/api/v1/files/data/web/old", "y").await;
    let of = |name: &str| {
        let metadata = fs::metadata(device.path("data/web").join(name)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(of("new"), (1234, 1235, 0o644));
    assert_eq!(of("old"), (7, 8, 0o640));
}

/// Starts an upload of 1000 bytes, and sends `sent` of them.
async fn start_upload(device: &Device, sent: usize) -> impl AsyncReadExt + AsyncWriteExt + Unpin + use<> {
    let mut stream = device.connect().await;
    let head = format!(
        "PUT /api/v1/files/data/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000\r\n\r\n",
        token("admin")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; sent]).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Waits until `check` returns true. Panics with `what` after 5 s.
async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..200 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn interrupted_upload_leaves_the_file_unchanged() {
    let device = Device::start().await;
    fs::write(device.path("data/x"), "before").unwrap();
    let temporary = device.path("data/.x.krazy-upload");
    let stream = start_upload(&device, 500).await;
    eventually("the upload does not start", || temporary.exists()).await;
    let details = problem(put(&device, "/api/v1/files/data/x", "other").await).await;
    assert_eq!((details.status, details.kind.as_str()), (409, "urn:krazy:busy"));
    drop(stream);
    eventually("the temporary file is left behind", || !temporary.exists()).await;
    assert_eq!(fs::read_to_string(device.path("data/x")).unwrap(), "before");
}

#[tokio::test]
async fn temporary_file_of_a_crash_is_reused() {
    let device = Device::start().await;
    fs::write(device.path("data/.x.krazy-upload"), "half of something longer").unwrap();
    assert_eq!(put(&device, "/api/v1/files/data/x", "new").await.status(), StatusCode::CREATED);
    assert_eq!(fs::read_to_string(device.path("data/x")).unwrap(), "new");
    assert!(!device.path("data/.x.krazy-upload").exists());
}

#[tokio::test]
async fn stalled_upload_times_out() {
    let limits = Limits { idle: Duration::from_millis(400), ..Limits::default() };
    let device = Device::with_limits(limits).await;
    let mut stream = start_upload(&device, 500).await;
    let mut response = String::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut response)).await;
    assert!(read.is_ok(), "the connection stays open");
    assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("urn:krazy:timeout"), "{response}");
    assert!(!device.path("data/x").exists() && !device.path("data/.x.krazy-upload").exists());
}

#[tokio::test]
async fn full_file_system_is_reported_and_leaves_no_file() {
    let device = Device::start().await;
    let mounted = device.path("data/small");
    fs::create_dir(&mounted).unwrap();
    let mount =
        |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).arg(&mounted).status().unwrap();
    assert!(
        mount(&["mount", "-t", "tmpfs", "-o", "size=256k", "small"]).success(),
        "this test mounts a tmpfs"
    );
    let details = problem(put(&device, "/api/v1/files/data/small/x", vec![1; 1 << 20]).await).await;
    let left = fs::read_dir(&mounted).unwrap().count();
    assert!(mount(&["umount"]).success());
    assert_eq!((details.status, details.kind.as_str()), (507, "urn:krazy:disk-full"));
    assert_eq!(left, 0);
}
