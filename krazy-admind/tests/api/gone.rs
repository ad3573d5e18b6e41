//! Clients that hang up while the device works for them.

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
use crate::update::begin;

/// Runs `test` where one thread does all the waiting for the disk.
fn with_one_worker<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test)
}

/// Lets everything be done that waits for nothing. Test and server share a thread, so each of the pauses is a turn of
/// all, however slow the machine is.
async fn settle() {
    for _ in 0..30 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Something that the worker does until it is told to stop.
struct Occupation(mpsc::Sender<()>, JoinHandle<Result<(), mpsc::RecvError>>);

impl Occupation {
    fn begin() -> Self {
        let (stop, wait) = mpsc::channel();
        Occupation(stop, tokio::task::spawn_blocking(move || wait.recv()))
    }

    async fn end(self) {
        self.0.send(()).unwrap();
        self.1.await.unwrap().unwrap();
    }
}

/// Sends a request, and hangs up when the worker has done so many pieces of its work.
async fn send_and_leave(device: &Device, method: &str, path: &str, body: &[u8], done: usize) {
    let mut busy = Occupation::begin();
    let mut stream = device.connect().await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        token("admin"),
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    stream.flush().await.unwrap();
    for piece in 0..=done {
        // Until its next piece of work waits for the worker.
        settle().await;
        let answer = timeout(Duration::from_millis(10), stream.read_u8()).await;
        assert!(answer.is_err(), "{answer:?}");
        if piece < done {
            let next = Occupation::begin();
            mem::replace(&mut busy, next).end().await;
        }
    }
    drop(stream);
    // Until the server knows.
    settle().await;
    busy.end().await;
}

async fn status(device: &Device) -> UpdateStatus {
    let answer = device.get("viewer", "/api/v1/update").await;
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[test]
fn a_token_counts_where_it_is_stored() {
    with_one_worker(async {
        let device = Device::start().await;
        let stored = || {
            let file = TokenFile::from_json(&std::fs::read(device.path("data/krazy/tokens.json")).unwrap());
            file.unwrap().tokens().iter().map(|token| token.name.clone()).collect::<Vec<_>>()
        };
        let ops = stored_token("ops", Role::Viewer, Vec::new());
        send_and_leave(&device, "PUT", "/api/v1/tokens/ops", &ops, 0).await;
        send_and_leave(&device, "DELETE", "/api/v1/tokens/root", b"", 0).await;
        // An answer of the worker comes after what it had to do before.
        assert_eq!(device.get("viewer", "/api/v1/update").await.status(), StatusCode::OK);
        assert_eq!(stored(), ["admin", "viewer", "ops"]);
        assert_eq!(device.get("ops", "/api/v1/health").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(device.get("ops", "/api/v1/status").await.status(), StatusCode::OK);
        assert_eq!(device.get("root", "/api/v1/status").await.status(), StatusCode::UNAUTHORIZED);
    });
}

#[test]
fn an_update_begins_and_ends_as_a_whole() {
    with_one_worker(async {
        let device = Device::start().await;
        send_and_leave(&device, "POST", "/api/v1/update", &Bundle::new(false).head(), 0).await;
        let begun = async {
            while status(&device).await.session.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), begun).await.unwrap();
        send_and_leave(&device, "DELETE", "/api/v1/update", b"", 0).await;
        let ended = async {
            while status(&device).await.session.is_some() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), ended).await.unwrap();
    });
}

#[test]
fn what_was_read_to_the_end_is_known_to_the_next_one() {
    with_one_worker(async {
        let device = Device::start().await;
        send_and_leave(&device, "GET", "/api/v1/update?hash=true", b"", 1).await;
        let parts = status(&device).await.running.unwrap().parts;
        assert_eq!(parts.len(), 3, "{parts:?}");
    });
}

#[tokio::test]
async fn what_has_arrived_of_an_update_is_kept() {
    let device = Device::start().await;
    let bundle = Bundle::new(false);
    let id = begin(&device, &bundle, "").await.id;
    let mut stream = device.connect().await;
    let head = format!(
        "PATCH /api/v1/update/{id}?offset=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n",
        token("admin"),
        bundle.streams.len()
    );
    // Less than what is gathered before the disk is bothered.
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
async fn half_a_file_is_none() {
    let device = Device::start().await;
    std::fs::write(device.path("data/x"), "whole").unwrap();
    let mut stream = device.connect().await;
    let head = format!(
        "PUT /api/v1/files/data/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\nhalf",
        token("admin")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(std::fs::read(device.path("data/x")).unwrap(), b"whole");
}

#[tokio::test]
async fn a_stream_that_is_reset_without_an_error_is_no_file() {
    let device = Device::start().await;
    std::fs::write(device.path("data/x"), "whole").unwrap();
    let hidden = device.path("data/.x.krazy-upload");
    let (client, connection) = h2::client::handshake(device.connect_with(b"h2").await).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::put(device.url("/api/v1/files/data/x"))
        .header("authorization", format!("Bearer {}", token("admin")))
        .header("content-length", 10)
        .body(())
        .unwrap();
    let (_answer, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    let there = async |expected| {
        let change = async {
            while hidden.exists() != expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), change).await.unwrap();
    };
    there(true).await;
    body.send_reset(h2::Reason::NO_ERROR);
    there(false).await;
    assert_eq!(std::fs::read(device.path("data/x")).unwrap(), b"whole");
    driver.abort();
}
