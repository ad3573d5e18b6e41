//! Clients that disconnect before their request is done.

use std::mem;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use krazy_boot::api::credentials::{Role, TokenFile};
use krazy_boot::api::update::UpdateStatus;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use warp::http::Request;

use crate::bundle::Bundle;
use crate::device::{Device, stored_token, token};
use crate::update;

/// Runs `test` on a runtime with a single blocking thread, so that the test can hold up disk operations.
fn with_one_worker<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test)
}

/// Lets the server do everything that is ready. Test and server share a thread, so each pause lets every task run once,
/// on slow machines too.
async fn settle() {
    for _ in 0..30 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A job that occupies the blocking thread until it is stopped.
struct Blocker(mpsc::Sender<()>, JoinHandle<Result<(), mpsc::RecvError>>);

impl Blocker {
    fn start() -> Self {
        let (stop, wait) = mpsc::channel();
        Blocker(stop, tokio::task::spawn_blocking(move || wait.recv()))
    }

    async fn stop(self) {
        self.0.send(()).unwrap();
        self.1.await.unwrap().unwrap();
    }
}

/// Sends a request, and disconnects after `done` of its blocking operations.
async fn send_and_disconnect(device: &Device, method: &str, path: &str, body: &[u8], done: usize) {
    let mut blocker = Blocker::start();
    let mut stream = device.connect().await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        token("admin"),
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    stream.flush().await.unwrap();
    for operation in 0..=done {
        // Until its next operation waits for the blocking thread.
        settle().await;
        let response = timeout(Duration::from_millis(10), stream.read_u8()).await;
        assert!(response.is_err(), "{response:?}");
        if operation < done {
            let next = Blocker::start();
            mem::replace(&mut blocker, next).stop().await;
        }
    }
    drop(stream);
    // Until the server notices.
    settle().await;
    blocker.stop().await;
}

async fn status(device: &Device) -> UpdateStatus {
    let response = device.get("viewer", "/api/v1/update").await;
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[test]
fn token_change_is_completed_in_memory_and_on_the_disk() {
    with_one_worker(async {
        let device = Device::start().await;
        let stored = || {
            let file = TokenFile::from_json(&std::fs::read(device.path("data/krazy/tokens.json")).unwrap());
            file.unwrap().tokens().iter().map(|token| token.name.clone()).collect::<Vec<_>>()
        };
        let ops = stored_token("ops", Role::Viewer, Vec::new());
        send_and_disconnect(&device, "PUT", "/api/v1/tokens/ops", &ops, 0).await;
        send_and_disconnect(&device, "DELETE", "/api/v1/tokens/root", b"", 0).await;
        // This response needs the blocking thread, so it comes after the earlier operations.
        assert_eq!(device.get("viewer", "/api/v1/update").await.status(), StatusCode::OK);
        assert_eq!(stored(), ["admin", "viewer", "ops"]);
        assert_eq!(device.get("ops", "/api/v1/health").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(device.get("ops", "/api/v1/status").await.status(), StatusCode::OK);
        assert_eq!(device.get("root", "/api/v1/status").await.status(), StatusCode::UNAUTHORIZED);
    });
}

#[test]
fn start_and_end_of_an_update_are_completed() {
    with_one_worker(async {
        let device = Device::start().await;
        send_and_disconnect(&device, "POST", "/api/v1/update", &Bundle::new(false).head(), 0).await;
        let started = async {
            while status(&device).await.session.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), started).await.unwrap();
        send_and_disconnect(&device, "DELETE", "/api/v1/update", b"", 0).await;
        let ended = async {
            while status(&device).await.session.is_some() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), ended).await.unwrap();
    });
}

#[test]
fn measured_slot_is_known_to_the_next_request() {
    with_one_worker(async {
        let device = Device::start().await;
        send_and_disconnect(&device, "GET", "/api/v1/update?hash=true", b"", 1).await;
        let parts = status(&device).await.running.unwrap().parts;
        assert_eq!(parts.len(), 3, "{parts:?}");
    });
}

#[tokio::test]
async fn data_received_before_a_disconnect_is_kept() {
    let device = Device::start().await;
    let bundle = Bundle::new(false);
    let id = update::start(&device, &bundle, "").await.id;
    let mut stream = device.connect().await;
    let head = format!(
        "PATCH /api/v1/update/{id}?offset=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n",
        token("admin"),
        bundle.streams.len()
    );
    // Less than the buffer that is filled before a write to the disk.
    stream.write_all(&[head.as_bytes(), &bundle.streams[..1000]].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    let kept = async {
        while status(&device).await.session.is_none_or(|session| session.received.0 != 1000) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), kept).await.unwrap();
}

#[tokio::test]
async fn incomplete_upload_does_not_replace_the_file() {
    let device = Device::start().await;
    std::fs::write(device.path("data/x"), "whole").unwrap();
    let mut stream = device.connect().await;
    let head = format!(
        "PUT /api/v1/files/data/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\nhalf",
        token("admin")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert_eq!(std::fs::read(device.path("data/x")).unwrap(), b"whole");
}

#[tokio::test]
async fn stream_reset_without_an_error_does_not_replace_the_file() {
    let device = Device::start().await;
    std::fs::write(device.path("data/x"), "whole").unwrap();
    let temporary = device.path("data/.x.krazy-upload");
    let (client, connection) = h2::client::handshake(device.connect_with(b"h2").await).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::put(device.url("/api/v1/files/data/x"))
        .header("authorization", format!("Bearer {}", token("admin")))
        .header("content-length", 10)
        .body(())
        .unwrap();
    let (_response, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    let wait_until_exists = async |expected| {
        let change = async {
            while temporary.exists() != expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), change).await.unwrap();
    };
    wait_until_exists(true).await;
    body.send_reset(h2::Reason::NO_ERROR);
    wait_until_exists(false).await;
    assert_eq!(std::fs::read(device.path("data/x")).unwrap(), b"whole");
    driver.abort();
}
